"""Opens tests/peft/fixtures/embedder, an embedding adapter that peftjs wrote, in Hugging Face PEFT. Every key must be
recognised.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2
    venv/bin/python tools/golden/embedder.py

Writes PEFT's class, the mean of the last hidden states over the tokens of each text, and the versions to opened.json in
that folder.
"""

import sys

sys.path.append(sys.path.pop(0))  # safetensors.py next to this script would hide the library

import os
import warnings
from unittest.mock import patch

import torch
from peft import PeftModel
from transformers import AutoModel

from peft_bert import FIXTURES, MODEL, ROOT, VERSIONS, batches, values, write_json


def main():
    os.chdir(ROOT)
    results = []
    load_adapter = PeftModel.load_adapter

    def recording(*arguments, **options):
        results.append(load_adapter(*arguments, **options))
        return results[-1]

    base = AutoModel.from_pretrained(MODEL, attn_implementation="eager").eval()
    with patch.object(PeftModel, "load_adapter", recording), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = PeftModel.from_pretrained(base, FIXTURES / "embedder").eval()
    [result] = results
    assert not result.missing_keys and not result.unexpected_keys, result
    batch = {name: tensor for name, tensor in batches()[0].items() if name != "labels"}
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1).float()
    means = (hidden * mask).sum(1) / mask.sum(1)
    report = {"maker": "tools/golden/embedder.py", "versions": VERSIONS, "model": type(model).__name__, "embeddings": values(means)}
    write_json(FIXTURES / "embedder/opened.json", report)


if __name__ == "__main__":
    main()
