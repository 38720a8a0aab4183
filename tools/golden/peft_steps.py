"""Makes tests/peft/fixtures/steps with Hugging Face PEFT: initial adapters on the small BERT of tests/models/fixtures,
and every trained tensor after 1, 5 and 10 steps of torch's AdamW on the batches of batches.json.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2
    PYTHONHASHSEED=0 venv/bin/python tools/golden/peft_steps.py && npx oxfmt tests/peft/fixtures

No dropout, no clipping, a constant learning rate. AdaLoRA's allocator is called after the optimizer, as PEFT's
documentation says. `objective` is the minimised objective, including AdaLoRA's orthogonality term; `loss` is without
it.
"""

import sys

sys.path.append(sys.path.pop(0))  # safetensors.py next to this script would hide the library

import shutil

import torch
from peft import AdaLoraConfig, LoraConfig, get_peft_model
from safetensors.torch import save_file

from peft_bert import FIXTURES, VERSIONS, batches, bert, write_json

FOLDER = FIXTURES / "steps"
RECORDED = (1, 5, 10)
OPTIMIZER = {"lr": 2e-3, "betas": (0.9, 0.999), "eps": 1e-8}
WEIGHT_DECAY = 0.1
NOT_DECAYED = (".bias", "norm.weight")

COMMON = {
    "task_type": "SEQ_CLS",
    "target_modules": ["query", "key", "value", "attention.output.dense", "intermediate.dense"],
    "layers_to_transform": [0, 2],
}
CONFIGS = {
    "lora": LoraConfig(r=2, lora_alpha=4, **COMMON),
    "dora": LoraConfig(r=2, lora_alpha=4, use_dora=True, **COMMON),
    "adalora": AdaLoraConfig(
        init_r=3, target_r=2, lora_alpha=6, tinit=2, tfinal=3, deltaT=2, total_step=10, orth_reg_weight=0.1, **COMMON
    ),
}


def parameter_groups(trained):
    """Groups parameters by weight decay as peftjs does: all decay but biases and norms."""
    groups = {WEIGHT_DECAY: [], 0.0: []}
    for name, parameter in trained.items():
        groups[0.0 if name.endswith(NOT_DECAYED) else WEIGHT_DECAY].append(parameter)
    return [{"params": parameters, "weight_decay": decay} for decay, parameters in groups.items()]


def trained_parameters(model):
    """Returns the trained parameters under PEFT's names on disk."""
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {on_disk(name): parameter for name, parameter in parameters.items()}


def on_disk(name):
    return name.replace(".modules_to_save.default", "").replace(".default", "").replace("vector.weight", "vector")


def train(model, folder):
    """Trains for ten steps. Returns the losses."""
    trained = trained_parameters(model)
    optimizer = torch.optim.AdamW(parameter_groups(trained), **OPTIMIZER)
    losses = {"loss": [], "objective": []}
    for step, batch in enumerate(batches(), 1):
        outputs = model(**batch)
        losses["loss"].append(torch.nn.functional.cross_entropy(outputs.logits, batch["labels"]).item())
        losses["objective"].append(outputs.loss.item())
        optimizer.zero_grad()
        outputs.loss.backward()
        optimizer.step()
        if hasattr(model.base_model, "update_and_allocate"):
            model.base_model.update_and_allocate(step)
        if step in RECORDED:
            tensors = {name: parameter.detach().contiguous() for name, parameter in trained.items()}
            save_file(tensors, folder / f"after-{step}.safetensors", metadata={"format": "pt"})
    return losses


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    losses = {}
    for name, config in CONFIGS.items():
        torch.manual_seed(0)
        model = get_peft_model(bert(), config).eval()
        model.save_pretrained(FOLDER / name)
        (FOLDER / name / "README.md").unlink()
        losses[name] = train(model, FOLDER / name)
    write_json(
        FOLDER / "expected.json",
        {
            "maker": "tools/golden/peft_steps.py",
            "versions": VERSIONS,
            "optimizer": {**OPTIMIZER, "weight_decay": WEIGHT_DECAY},
            "steps": RECORDED,
            "losses": losses,
        },
    )


if __name__ == "__main__":
    main()
