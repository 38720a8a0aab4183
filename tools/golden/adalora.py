"""Makes packages/adalora/test/fixtures/allocator.json: what PEFT's rank allocator does to given weights and gradients.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 numpy==2.4.6
    venv/bin/python tools/golden/adalora.py && npx oxfmt packages/adalora/test/fixtures/allocator.json

Weights and gradients are random, rounded and written to the file. Before each call of the allocator the weights take a
step of plain gradient descent. Tensors are torch's A [r, in], E [r, 1] and B [out, r], in row-major order.
"""

import sys

sys.path.append(sys.path.pop(0))  # safetensors.py next to this script would hide the library

import json
import warnings
from pathlib import Path

import numpy as np
import peft
import torch
from peft import AdaLoraConfig, get_peft_model

FIXTURE = Path(__file__).resolve().parents[2] / "packages/adalora/test/fixtures/allocator.json"
SHAPES = {"a": (4, 6), "b": (6, 3), "c": (5, 5)}
OPTIONS = {"init_r": 4, "target_r": 1, "tinit": 3, "tfinal": 4, "deltaT": 3, "beta1": 0.85, "beta2": 0.8, "total_step": 17}
LEARNING_RATE = 0.2
SEED = 8


class Modules(torch.nn.Module):
    def __init__(self):
        super().__init__()
        for name, (inputs, outputs) in SHAPES.items():
            setattr(self, name, torch.nn.Linear(inputs, outputs))

    def forward(self, x):
        return x


def main():
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(SEED)
    model = get_peft_model(Modules(), AdaLoraConfig(target_modules=list(SHAPES), **OPTIONS)).base_model
    factors = {key(name): parameter for name, parameter in model.model.named_parameters() if parameter.requires_grad}
    draw = lambda: {name: np.round(rng.normal(size=value.numel()), 2).tolist() for name, value in factors.items()}
    start = draw()
    for name, parameter in factors.items():
        parameter.data = torch.tensor(start[name]).view_as(parameter)
    steps, averages = [], {}
    for step in range(1, OPTIONS["total_step"] + 1):
        gradients = draw()
        for name, parameter in factors.items():
            parameter.grad = torch.tensor(gradients[name]).view_as(parameter)
            parameter.data -= LEARNING_RATE * parameter.grad
        model.update_and_allocate(step)
        allocator = model.rankallocator
        if allocator.exp_avg_ipt:
            averages = {
                "smoothed": {key(name): numbers(value) for name, value in allocator.exp_avg_ipt.items()},
                "uncertainty": {key(name): numbers(value) for name, value in allocator.exp_avg_unc.items()},
            }
        values = {name: numbers(factors[name]) for name in factors if name.endswith("lora_E")}
        steps.append({"gradients": gradients, "lora_E": values})
    written = {
        "maker": "tools/golden/adalora.py",
        "versions": {"peft": peft.__version__, "torch": torch.__version__, "numpy": np.__version__},
        "options": OPTIONS,
        "learning_rate": LEARNING_RATE,
        "shapes": SHAPES,
        "start": start,
        "steps": steps,
        "averages": averages,
        "rank_pattern": {key(name): kept for name, kept in model.peft_config["default"].rank_pattern.items()},
    }
    FIXTURE.write_text(json.dumps(written) + "\n")


def numbers(tensor):
    return [float(f"{value:.7g}") for value in tensor.detach().flatten().tolist()]


def key(name):
    """Shortens `a.lora_A.default` or `model.a.lora_A.default` to `a.lora_A`."""
    return ".".join(name.split(".")[-3:-1])


if __name__ == "__main__":
    main()
