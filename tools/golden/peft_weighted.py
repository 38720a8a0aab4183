"""Makes tests/peft/fixtures/weighted with Hugging Face PEFT: three LoRA adapters on the small BERT of
tests/models/fixtures, and the logits of their combinations by `add_weighted_adapter`.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2
    PYTHONHASHSEED=0 venv/bin/python tools/golden/peft_weighted.py && npx oxfmt tests/peft/fixtures

The adapters share some modules but not all, and have different scaling factors. They have no task type: PEFT does not
combine adapters that save the same module, and all adapters of a classifier save the classifier.

Types that draw are only compared where they keep everything, because torch's draws are its own. The quantile of
`svd_clamp` depends on the signs of the singular vectors, which LAPACK does not define: they are turned to our rule.
"""

import sys

sys.path.append(sys.path.pop(0))  # safetensors.py next to this script would hide the library

import shutil
from itertools import combinations

import torch
from peft import LoraConfig, get_peft_model

from peft_bert import FIXTURES, VERSIONS, batches, bert, logits, relative_distance, values, write_json

FOLDER = FIXTURES / "weighted"
STD = 0.2

CONFIGS = {
    "a": LoraConfig(r=2, lora_alpha=4, target_modules=["query", "value"], alpha_pattern={"value": 5}),
    "b": LoraConfig(r=2, lora_alpha=3, target_modules=["query", "value", "key", "position_embeddings"]),
    "c": LoraConfig(r=2, lora_alpha=5, target_modules=["query", "output.dense", "position_embeddings"]),
}

CASES = [
    {"adapters": list(adapters), "weights": weights, "options": options}
    for adapters, weights, options in [
        ("a", [-1.0], {"combination_type": "linear"}),
        ("ab", [0.7, 0.4], {"combination_type": "linear"}),
        ("ab", [1.0, -1.0], {"combination_type": "linear"}),
        ("ab", [0.7, 0.4], {"combination_type": "cat"}),
        ("ab", [1.0, -1.0], {"combination_type": "cat"}),
        ("abc", [0.7, 0.4, -0.5], {"combination_type": "ties", "density": 0.5}),
        ("abc", [0.7, 0.4, -0.5], {"combination_type": "ties", "density": 0.5, "majority_sign_method": "frequency"}),
        ("ab", [0.7, 0.4], {"combination_type": "ties", "density": 0.3}),
        ("ab", [0.7, 0.4], {"combination_type": "svd"}),
        ("abc", [0.7, 0.4, -0.5], {"combination_type": "svd", "svd_rank": 3}),
        ("a", [2.0], {"combination_type": "svd", "svd_rank": 1}),
        ("ab", [0.7, -0.6], {"combination_type": "svd", "svd_clamp": 0.9}),
        ("ab", [0.7, 0.4], {"combination_type": "magnitude_prune", "density": 0.4}),
        ("abc", [0.7, 0.4, -0.5], {"combination_type": "magnitude_prune_svd", "density": 0.3, "svd_rank": 3}),
        ("abc", [0.7, 0.4, -0.5], {"combination_type": "ties_svd", "density": 0.5}),
        (
            "abc",
            [0.7, 0.4, -0.5],
            {"combination_type": "ties_svd", "density": 0.7, "majority_sign_method": "frequency", "svd_rank": 4},
        ),
        ("abc", [0.5, 0.9, 0.5], {"combination_type": "dare_linear", "density": 1.0}),
        ("abc", [0.5, 0.9, 0.5], {"combination_type": "dare_ties", "density": 1.0}),
        ("ab", [1.2, 0.4], {"combination_type": "dare_linear_svd", "density": 1.0, "svd_rank": 1}),
        ("abc", [0.5, 0.9, 0.5], {"combination_type": "dare_ties_svd", "density": 1.0}),
    ]
]


def adapted():
    """Returns the model with all three adapters, with every tensor away from its initial value."""
    generator = torch.Generator().manual_seed(0)
    (first, config), *others = CONFIGS.items()
    model = get_peft_model(bert(), config, adapter_name=first)
    for name, config in others:
        model.add_adapter(name, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(STD * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def with_signs(svd):
    """Wraps torch's svd: the entry of largest magnitude in each right vector, a row of lora_A, is positive."""

    def turned(*args, **options):
        u, s, vh = svd(*args, **options)
        largest = vh.gather(1, vh.abs().argmax(dim=1, keepdim=True)).sign()  # [rank, 1]
        return u * largest[: u.shape[1]].T, s, vh * largest

    return turned


def main():
    torch.linalg.svd = with_signs(torch.linalg.svd)
    model, batch = adapted(), batches()[0]
    shutil.rmtree(FOLDER, ignore_errors=True)
    model.save_pretrained(FOLDER)
    (FOLDER / "README.md").unlink()
    outputs = {"the base": logits(bert(), batch)}
    for number, case in enumerate(CASES):
        name = f"combined-{number}"
        model.add_weighted_adapter(case["adapters"], case["weights"], name, **case["options"])
        model.set_adapter(name)
        outputs[name] = logits(model, batch)
        case["logits"] = values(outputs[name])
    for (a, ours), (b, theirs) in combinations(outputs.items(), 2):
        assert relative_distance(ours, theirs) > 0.01, f"{a} and {b} are too close"
    write_json(FOLDER / "expected.json", {"maker": "tools/golden/peft_weighted.py", "versions": VERSIONS, "cases": CASES})


if __name__ == "__main__":
    main()
