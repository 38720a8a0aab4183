"""Opens merged models that peftjs wrote in transformers: every key must find its place, and the logits must be those of peftjs with
the adapter beside the weights.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0
    venv/bin/python tools/golden/export.py FOLDER OPENED

FOLDER is what tools/golden/write-exports.ts writes. Hashes of the files, transformers' own logits, how far those of peftjs are from
them, and the versions go to the file OPENED. Ends with an error at the first model that does not open as it was meant.
"""

import sys

sys.path.append(sys.path.pop(0))  # safetensors.py beside this script would hide the library

import hashlib
import json
from pathlib import Path

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

transformers.utils.logging.disable_progress_bar()

VERSIONS = {
    "python": sys.version.split()[0],
    "torch": torch.__version__,
    "transformers": transformers.__version__,
}
TOLERANCE = 1e-4

CLASSES = {
    "classes": AutoModelForSequenceClassification,
    "number": AutoModelForSequenceClassification,
    "tokens": AutoModelForTokenClassification,
    "next": AutoModelForCausalLM,
}


def opened(folder, head):
    """The model of a folder, in the type that its config.json names."""
    config = AutoConfig.from_pretrained(folder)
    model, info = CLASSES[head].from_pretrained(folder, output_loading_info=True)
    wrong = {kind: keys for kind, keys in info.items() if keys}
    assert not wrong, f"{folder}: {wrong}"
    assert config.architectures == [type(model).__name__], f"{folder}: {config.architectures}"
    assert model.dtype == torch.float32, f"{folder}: {model.dtype}"
    return model.eval()


def logits(model, batch, head):
    """Row after row; of a task of tokens, those of tokens that are no padding."""
    inputs = {name: torch.tensor(rows, dtype=torch.int64) for name, rows in batch.items()}
    with torch.no_grad():
        outputs = model(**inputs).logits
    return outputs.flatten() if head in ("classes", "number") else outputs[inputs["attention_mask"] == 1].flatten()


def relative_distance(a, b):
    """||a - b|| / ||b||"""
    return (torch.linalg.norm(a - b) / torch.linalg.norm(b)).item()


def opens_tokenizer(folder):
    """Texts go in and come out again with the same tokens, padded to one length."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(["a b", "a"], padding=True, return_tensors="pt")
    return batch["input_ids"].shape[0] == 2


def main(folder, target):
    report = {"maker": "tools/golden/export.py", "versions": VERSIONS, "exports": {}}
    for name, said in json.loads((folder / "logits.json").read_text()).items():
        model = opened(folder / name, said["head"])
        theirs = [logits(model, batch, said["head"]) for batch in said["batches"]]
        distances = [relative_distance(torch.tensor(ours), own) for ours, own in zip(said["logits"], theirs, strict=True)]
        assert max(distances) < TOLERANCE, f"{name}: the logits of peftjs are {distances} away from those of transformers"
        if name.startswith("bert-"):
            assert opens_tokenizer(folder / name), name
        report["exports"][name] = {
            "distance": float(f"{max(distances):.2g}"),
            "files": {
                path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((folder / name).iterdir())
            },
            "logits": [[float(f"{value:.9g}") for value in row] for row in theirs],
        }
    report["distance"] = max(export["distance"] for export in report["exports"].values())
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(report) + "\n")


if __name__ == "__main__":
    main(*(Path(argument).resolve() for argument in sys.argv[1:]))
