"""Shared by the scripts that make tests/peft/fixtures: the small BERT of tests/models/fixtures, fixed batches, and
number formatting.

Imported by from_peft.py, peft_steps.py, peft_weighted.py and open_in_peft.py, whose docstrings say how to run them.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import peft
import safetensors
import torch
import transformers
from transformers import AutoModelForSequenceClassification

transformers.utils.logging.disable_progress_bar()

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests/peft/fixtures"
BATCHES = FIXTURES / "batches.json"
MODEL = "tests/models/fixtures/bert-tiny"
VERSIONS = {
    "python": sys.version.split()[0],
    "torch": torch.__version__,
    "transformers": transformers.__version__,
    "peft": peft.__version__,
    "safetensors": safetensors.__version__,
}


def bert():
    """Returns the model of the fixtures in evaluation mode, that is without dropout. Its path is written into adapters,
    so it is relative."""
    os.chdir(ROOT)
    torch.use_deterministic_algorithms(True)
    return AutoModelForSequenceClassification.from_pretrained(MODEL, attn_implementation="eager").eval()


def batches():
    """Returns the batches of batches.json in the form that transformers expects."""
    return [tensors(batch) for batch in json.loads(BATCHES.read_text())["batches"]]


def tensors(batch):
    return {
        "input_ids": torch.tensor(batch["inputIds"]),
        "attention_mask": torch.tensor(batch["attentionMask"]),
        "token_type_ids": torch.tensor(batch["tokenTypeIds"]),
        "labels": torch.tensor(batch["labels"]),
    }


def logits(model, batch):
    """Returns logits [rows, labels]. Labels are not passed: PEFT's AdaLoRA fails to compute a loss unless it is
    training."""
    with torch.no_grad():
        return model(**{name: tensor for name, tensor in batch.items() if name != "labels"}).logits


def relative_distance(a, b):
    """||a - b|| / ||b||"""
    return (torch.linalg.norm(a - b) / torch.linalg.norm(b)).item()


def values(tensor):
    """Formats float32 with nine significant digits, which represent it exactly."""
    return [[float(f"{value:.9g}") for value in row] for row in tensor.numpy().astype(np.float32)]


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content) + "\n")
