"""Makes golden combinations of LoRA adapters with Hugging Face PEFT's `add_weighted_adapter`, of every type.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2
    venv/bin/python tools/golden/combinations.py > packages/core/test/fixtures/combinations.json
    npx oxfmt packages/core/test/fixtures/combinations.json

Three random adapters of different scaling on one linear module. Matrices are [in, out], the transpose of PEFT's. `masks`
are torch's draws of what `dare_linear` and `dare_ties` keep: of A and of B, or of the whole change. The quantile of
`svd_clamp` depends on the signs of the singular vectors, which LAPACK does not define: they are turned to our rule.
"""

import sys

sys.path.append(sys.path.pop(0))  # safetensors.py next to this script would hide the library

import json
from importlib.metadata import version
from itertools import product

import torch
from peft import LoraConfig, get_peft_model

from peft_weighted import with_signs

INPUTS, OUTPUTS, RANK = 7, 5, 3
WEIGHTS = [0.7, -0.4, 1.3]
ALPHAS = {"a": 3, "b": 6, "c": 2}
SIGNS = [{"majority_sign_method": method} for method in ("total", "frequency")]

CASES = [{"combination_type": "linear"}, {"combination_type": "cat"}] + [
    {"combination_type": "svd", **svd} for svd in ({"svd_rank": 4}, {"svd_rank": 2}, {"svd_rank": 4, "svd_clamp": 0.8})
]
for rule, density in product(("magnitude_prune", "ties", "dare_linear", "dare_ties"), (0.3, 0.7)):
    signs = SIGNS if "ties" in rule else [{}]
    for sign, svd in product(signs, ({}, {"svd_rank": 4}, {"svd_rank": 2, "svd_clamp": 0.8})):
        CASES.append({"combination_type": rule + ("_svd" if svd else ""), "density": density, **sign, **svd})


def rounded(tensor):
    return [float(f"{value:.7g}") for value in tensor.T.flatten().tolist()]


def adapted():
    generator = torch.Generator().manual_seed(0)
    module = torch.nn.ModuleDict({"linear": torch.nn.Linear(INPUTS, OUTPUTS)})
    for name, alpha in ALPHAS.items():
        config = LoraConfig(r=RANK, lora_alpha=alpha, target_modules=["linear"])
        if name == "a":
            model = get_peft_model(module, config, adapter_name=name)
        else:
            model.add_adapter(name, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def combined(model, options, name):
    layer = model.base_model.model["linear"]
    drawn, draw = [], torch.bernoulli

    def recorded(*args, **others):
        drawn.append(draw(*args, **others))
        return drawn[-1]

    torch.bernoulli = recorded
    try:
        model.add_weighted_adapter(list(ALPHAS), WEIGHTS, name, **options)
    finally:
        torch.bernoulli = draw
    masks = ["".join(str(int(value)) for value in mask.T.flatten().tolist()) for mask in drawn]
    if len(masks) == 2 * len(ALPHAS):
        masks = {"loraA": masks[: len(ALPHAS)], "loraB": masks[len(ALPHAS) :]}
    return {"options": options, **({"masks": masks} if masks else {}), "change": rounded(layer.get_delta_weight(name))}


torch.manual_seed(1)
torch.linalg.svd = with_signs(torch.linalg.svd)
model = adapted()
layer = model.base_model.model["linear"]
json.dump(
    {
        "maker": "tools/golden/combinations.py",
        "versions": {name: version(name) for name in ("torch", "peft")},
        "sizes": [INPUTS, RANK, OUTPUTS],
        "adapters": [
            {
                "loraA": rounded(layer.lora_A[name].weight),
                "loraB": rounded(layer.lora_B[name].weight),
                "scaling": layer.scaling[name],
                "weight": weight,
            }
            for name, weight in zip(ALPHAS, WEIGHTS)
        ],
        "cases": [combined(model, options, f"combined-{number}") for number, options in enumerate(CASES)],
    },
    sys.stdout,
)
