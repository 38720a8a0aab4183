"""Opens merged models that peftjs wrote in transformers. Every key must be recognised, and the logits must equal those
of peftjs with the unmerged adapter.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0
    venv/bin/python tools/golden/export.py FOLDER OPENED

FOLDER is the output of tools/golden/write-exports.ts. Hashes of the files, transformers' own logits, their distance
from those of peftjs, and the versions are written to the file OPENED. Fails at the first model that does not open as
intended.
"""

import sys

sys.path.append(sys.path.pop(0))  # safetensors.py next to this script would hide the library

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
    """Opens the model of a folder, and checks that it has the class named in config.json."""
    config = AutoConfig.from_pretrained(folder)
    model, info = CLASSES[head].from_pretrained(folder, output_loading_info=True)
    wrong = {kind: keys for kind, keys in info.items() if keys}
    assert not wrong, f"{folder}: {wrong}"
    assert config.architectures == [type(model).__name__], f"{folder}: {config.architectures}"
    assert model.dtype == torch.float32, f"{folder}: {model.dtype}"
    return model.eval()


def logits(model, batch, head):
    """Returns logits row by row; for a token task, only those of tokens that are not padding."""
    inputs = {name: torch.tensor(rows, dtype=torch.int64) for name, rows in batch.items()}
    with torch.no_grad():
        outputs = model(**inputs).logits
    return outputs.flatten() if head in ("classes", "number") else outputs[inputs["attention_mask"] == 1].flatten()


def relative_distance(a, b):
    """||a - b|| / ||b||"""
    return (torch.linalg.norm(a - b) / torch.linalg.norm(b)).item()


def opens_tokenizer(folder):
    """Checks that the tokenizer opens and pads two texts to one length."""
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
