"""Makes golden values of steps of torch's AdamW and SGD, transformers' Adafactor and lion-pytorch's Lion, and of
transformers' schedules.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 lion-pytorch==0.2.5
    venv/bin/python tools/golden/optimizers.py > packages/core/test/fixtures/optimizers.json
    npx oxfmt packages/core/test/fixtures/optimizers.json

Ten steps of a matrix with weight decay, a matrix without and a vector without. Matrices are `[in, out]` in the file;
torch optimizes their transposes, the layout of its linear weights. Gradients are given, rounded to five digits, and
span several orders of magnitude. The learning rate decays linearly from its peak. Tensors are recorded after steps 1, 2
and 10. A schedule's factors are those of steps 1, 2, .. of the plan. The file records the versions that made it.
"""

import sys

sys.path.pop(0)  # safetensors.py next to this script would hide the library

import json

import lion_pytorch
import torch
import transformers
from importlib.metadata import version
from transformers import (
    Adafactor,
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

STEPS, RECORDED = 10, (1, 2, 10)
SHAPES = {"decayed": (3, 4), "kept": (5, 2), "vector": (4,)}
DECAY = 0.1

generator = torch.Generator().manual_seed(17)


def draw(shape, scale=1.0):
    return torch.randn(shape, generator=generator) * scale


def plain(tensor):
    return [float(f"{value:.5g}") for value in tensor.flatten().tolist()]


def tensor_of(name, values):
    return torch.tensor(values, dtype=torch.float32).reshape(SHAPES[name])


START = {name: plain(draw(shape, 0.1)) for name, shape in SHAPES.items()}
GRADIENTS = [
    {name: plain(draw(shape) * 10 ** (-3 * torch.rand(shape, generator=generator))) for name, shape in SHAPES.items()}
    for _ in range(STEPS)
]


def adafactor(**given):
    options = {"scale_parameter": False, "relative_step": False, **given}
    return lambda groups: Adafactor(groups, lr=None if options["relative_step"] else 1.0, **options)


# peftjs's name and settings, the peak learning rate (None for a constant 1), and the reference implementation.
CASES = [
    ("adamW", {}, 1e-2, lambda groups: torch.optim.AdamW(groups, foreach=False)),
    (
        "adamW",
        {"weightDecay": DECAY, "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-6},
        1e-2,
        lambda groups: torch.optim.AdamW(groups, betas=(0.8, 0.95), eps=1e-6, foreach=False),
    ),
    ("sgd", {}, 1e-1, lambda groups: torch.optim.SGD(groups)),
    ("sgd", {"weightDecay": DECAY}, 1e-1, lambda groups: torch.optim.SGD(groups)),
    ("sgd", {"momentum": 0.9}, 1e-1, lambda groups: torch.optim.SGD(groups, momentum=0.9)),
    (
        "sgd",
        {"momentum": 0.9, "dampening": 0.3, "weightDecay": DECAY},
        1e-1,
        lambda groups: torch.optim.SGD(groups, momentum=0.9, dampening=0.3),
    ),
    (
        "sgd",
        {"momentum": 0.9, "nesterov": True, "weightDecay": DECAY},
        1e-1,
        lambda groups: torch.optim.SGD(groups, momentum=0.9, nesterov=True),
    ),
    ("lion", {}, 1e-3, lambda groups: lion_pytorch.Lion(groups)),
    (
        "lion",
        {"beta1": 0.95, "beta2": 0.98, "weightDecay": DECAY},
        1e-3,
        lambda groups: lion_pytorch.Lion(groups, betas=(0.95, 0.98)),
    ),
    ("adafactor", {}, 1e-2, adafactor()),
    ("adafactor", {"weightDecay": DECAY, "scaleParameter": True}, 1e-1, adafactor(scale_parameter=True)),
    (
        "adafactor",
        {"weightDecay": DECAY, "scaleParameter": True, "relativeStep": True},
        None,
        adafactor(scale_parameter=True, relative_step=True),
    ),
    (
        "adafactor",
        {"weightDecay": DECAY, "beta1": 0.9, "eps": [1e-8, 0.2], "clipThreshold": 0.5, "decayRate": -0.6, "scaleParameter": True},
        1e-1,
        adafactor(beta1=0.9, eps=(1e-8, 0.2), clip_threshold=0.5, decay_rate=-0.6, scale_parameter=True),
    ),
]


def steps(settings, peak, make):
    tensors = {name: torch.nn.Parameter(tensor_of(name, START[name]).T.contiguous()) for name in SHAPES if name != "vector"}
    tensors["vector"] = torch.nn.Parameter(tensor_of("vector", START["vector"]))
    decays = {"decayed": settings.get("weightDecay", 0.0), "kept": 0.0, "vector": 0.0}
    optimizer = make([{"params": [tensors[name]], "weight_decay": decays[name]} for name in SHAPES])
    rates, recorded = [], {}
    for step in range(1, STEPS + 1):
        rates.append(1.0 if peak is None else peak * (1 - (step - 1) / STEPS))
        for group in optimizer.param_groups:
            if peak is not None:
                group["lr"] = rates[-1]
        for name, tensor in tensors.items():
            gradient = tensor_of(name, GRADIENTS[step - 1][name])
            tensor.grad = gradient.T.contiguous() if gradient.ndim == 2 else gradient
        optimizer.step()
        if step in RECORDED:
            recorded[step] = {
                name: (tensor.T if tensor.ndim == 2 else tensor).detach().flatten().tolist()
                for name, tensor in tensors.items()
            }
    return rates, recorded


SCHEDULES = {
    "linear": get_linear_schedule_with_warmup,
    "cosine": get_cosine_schedule_with_warmup,
    "constant": lambda optimizer, warmup, total: get_constant_schedule_with_warmup(optimizer, warmup),
}


def factors(make, warmup, total):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer, warmup, total)
    result = []
    for _ in range(total):
        result.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return result


def main():
    optimizers = []
    for name, settings, peak, make in CASES:
        rates, recorded = steps(settings, peak, make)
        optimizers.append({"name": name, "settings": settings, "learningRates": rates, "after": recorded})
    schedules = [
        {"name": name, "warmupSteps": warmup, "totalSteps": total, "factors": factors(make, warmup, total)}
        for name, make in SCHEDULES.items()
        for warmup, total in ((0, 7), (4, 20), (1, 3))
    ]
    golden = {
        "maker": "tools/golden/optimizers.py",
        "versions": {
            "torch": torch.__version__.split("+")[0],
            "transformers": transformers.__version__,
            "lion-pytorch": version("lion-pytorch"),
        },
        "shapes": SHAPES,
        "start": START,
        "gradients": GRADIENTS,
        "optimizers": optimizers,
        "schedules": schedules,
    }
    json.dump(golden, sys.stdout)
    print()


main()
