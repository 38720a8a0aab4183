"""Exports small random vision networks, and the text towers beside them, with both exporters of torch.onnx.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install torch==2.15.0 transformers==5.24.0 onnx==1.23.2 onnxscript==0.7.2 peft==0.21.2
    /tmp/golden/bin/python tools/golden/onnx_images.py && npx oxfmt tests/models/fixtures/onnx-images/versions.json

Writes the graphs, and of each network the outputs for three batches and the gradients of PEFT's LoRA for the second one,
to tests/models/fixtures/onnx-images. Inputs follow from a formula, and weights have few digits, to make the files small.
"""

import json
import sys
from pathlib import Path

# This folder's scripts would hide libraries of the same name.
HERE = Path(__file__).resolve().parent
sys.path = [entry for entry in sys.path if Path(entry).resolve() != HERE]

import tempfile
from importlib.metadata import version

import onnx
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import save

sys.path.append(str(HERE))
from exported_graphs import small, write

transformers.utils.logging.set_verbosity_error()

FOLDER = HERE.parents[1] / "tests/models/fixtures/onnx-images"
BODY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
IMAGES = BODY | {"image_size": 8, "patch_size": 4}
WORDS = BODY | {"vocab_size": 40, "max_position_embeddings": 8}
CLASSES = {"num_labels": 3}
# The class, its configuration and its output.
NETWORKS = {
    "vit": ("ViTForImageClassification", "ViTConfig", IMAGES | CLASSES, "logits"),
    "deit": ("DeiTForImageClassification", "DeiTConfig", IMAGES | CLASSES, "logits"),
    "dinov2": ("Dinov2ForImageClassification", "Dinov2Config", IMAGES | CLASSES | {"mlp_ratio": 2}, "logits"),
    "clip-vision": ("CLIPVisionModelWithProjection", "CLIPVisionConfig", IMAGES | {"projection_dim": 3}, "image_embeds"),
    "clip-text": ("CLIPTextModelWithProjection", "CLIPTextConfig", WORDS | {"projection_dim": 3, "eos_token_id": 39}, "text_embeds"),
    "siglip-vision": ("SiglipVisionModel", "SiglipVisionConfig", IMAGES, "pooler_output"),
    "siglip-text": ("SiglipTextModel", "SiglipTextConfig", WORDS, "pooler_output"),
    "siglip": ("SiglipForImageClassification", "SiglipConfig", {"vision_config": IMAGES, "text_config": WORDS} | CLASSES, "logits"),
}
# The network whose hidden states are exported too.
FEATURES = ("ViTModel", "ViTConfig", IMAGES, "last_hidden_state")
# Whose images may have other sizes than those of the export, as interpolated positions allow.
ANY_SIZE = ["dinov2"]
GRADIENTS = 1


class Named(torch.nn.Module):
    """Passes inputs by name and returns one output. Module names stay those of `model`."""

    def __init__(self, model, names, output):
        super().__init__()
        self.__dict__["whole"], self.names, self.output = model, names, output
        for name, child in model.named_children():
            self.add_module(name, child)

    def forward(self, *inputs):
        return self.__dict__["whole"](**dict(zip(self.names, inputs)))[self.output]


def is_text(network):
    return network.endswith("-text")


def made(network):
    cls, config, settings, _ = NETWORKS[network]
    torch.manual_seed(0)
    model = getattr(transformers, cls)(getattr(transformers, config)(**settings)).eval()
    for name, weight in model.named_parameters():
        is_gain = weight.ndim == 1 and name.endswith("weight") or "lambda" in name
        weight.data = torch.round(32 * (0.25 * torch.randn_like(weight) + (1 if is_gain else 0))) / 32
    return model


def batch(network, number):
    """Numbers from -1 to 1 for images, and words with the last one of all at the end."""
    rows = number + 1
    if is_text(network):
        tokens = 5 + number if network == "clip-text" else 8
        ids = (7 * torch.arange(rows * tokens) % 38 + 1).reshape(rows, tokens)
        ids[:, -1] = 39
        mask = torch.ones_like(ids)
        ids[0, 3], ids[0, 4:], mask[0, 4:] = 39, 0, 0
        return {"input_ids": ids, "attention_mask": mask}
    size = [(8, 8), (8, 12), (16, 8)][number] if network in ANY_SIZE else (8, 8)
    places = torch.arange(rows * 3 * size[0] * size[1], dtype=torch.float64)
    return {"pixel_values": torch.sin(places * 0.37).float().reshape(rows, 3, *size)}


def export(network, exporter):
    model, output, inputs = made(network), NETWORKS[network][3], batch(network, GRADIENTS)
    model.config.use_cache = False
    if network == "siglip-text":
        del inputs["attention_mask"]  # SigLIP was trained without one
    wrapped = Named(model, list(inputs), output).eval()
    axes = {0: "batch", 1: "tokens"} if network == "clip-text" else {0: "batch"}
    if network in ANY_SIZE:
        axes |= {2: "height", 3: "width"}
    common = {"input_names": list(inputs), "output_names": [output]}
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model.onnx"
        if exporter == "traced":
            dynamic = {name: axes for name in inputs} | {output: {0: "batch"}}
            torch.onnx.export(wrapped, tuple(inputs.values()), path, dynamo=False, opset_version=17, dynamic_axes=dynamic, **common)
        else:
            dims = {place: torch.export.Dim.DYNAMIC for place in axes}
            torch.onnx.export(
                wrapped, tuple(inputs.values()), path, dynamo=True, dynamic_shapes={"inputs": tuple(dims for _ in inputs)}, external_data=False, **common
            )
        return onnx.load(path)


def expected(network):
    """Returns the outputs of three batches, and the factors of LoRA and their gradients for one of them."""
    output = NETWORKS[network][3]
    model = made(network)
    given = lambda number: {name: x for name, x in batch(network, number).items() if network != "siglip-text" or name == "input_ids"}
    with torch.no_grad():
        values = {f"outputs/{number}": model(**given(number))[output] for number in range(3)}
    if is_text(network):
        values |= {f"{number}/{name}": x.float() for number in range(3) for name, x in batch(network, number).items()}
    peft = get_peft_model(model, LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"]))
    torch.manual_seed(1)
    factors = {name: weight for name, weight in peft.named_parameters() if ".lora_" in name}
    for weight in factors.values():
        weight.data = torch.round(32 * 0.3 * torch.randn_like(weight)) / 32
    logits = peft(**given(GRADIENTS))[output]
    loss = torch.nn.functional.cross_entropy(logits, torch.arange(len(logits)))
    loss.backward()
    for name, weight in factors.items():
        key = name.removeprefix("base_model.model.").replace(".default", "")
        # A module that no output depends on has no gradient.
        if weight.grad is not None:
            values |= {f"lora/{key}": weight.data, f"classes/gradient/{key}": weight.grad}
    return values | {"classes/loss": loss.detach()[None]}


def main():
    FOLDER.mkdir(exist_ok=True)
    tensors = {}
    for network in sys.argv[1:] or NETWORKS:
        for exporter in ["traced", "dynamo"]:
            write(FOLDER / f"{network}-{exporter}.onnx", small(export(network, exporter)).SerializeToString())
        tensors |= {f"{network}/{key}": value.contiguous() for key, value in expected(network).items()}
    write(FOLDER / "expected.safetensors", save(tensors))
    NETWORKS["vit-features"] = FEATURES
    write(FOLDER / "vit-features.onnx", small(export("vit-features", "traced")).SerializeToString())
    versions = {name: version(name) for name in ["onnx", "onnxscript", "peft", "torch", "transformers"]}
    (FOLDER / "versions.json").write_text(json.dumps({"maker": "tools/golden/onnx_images.py", "versions": versions}))


if __name__ == "__main__":
    main()
