"""Opens adapters that peftjs wrote in Hugging Face PEFT: every key must find its place, and the logits must be those of peftjs,
before and after PEFT has merged them.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2
    venv/bin/python tools/golden/open_in_peft.py FOLDER

FOLDER is what tools/golden/write-adapters.ts writes. PEFT's own logits, how far those of peftjs are from them and from the merged
model's, and the versions go to FOLDER/opened.json. Ends with an error at the first adapter that PEFT does not open as it was meant.
"""

import sys

sys.path.append(sys.path.pop(0))  # safetensors.py beside this script would hide the library

import json
import warnings
from pathlib import Path
from unittest.mock import patch

import torch
from peft import PeftModel

from peft_bert import VERSIONS, batches, bert, logits, relative_distance, values, write_json

TOLERANCE = 1e-4


def opened(folder):
    """The model with the adapter of a folder. PEFT warns of keys that are missing, and keeps silent about unexpected ones."""
    results = []
    load_adapter = PeftModel.load_adapter

    def recording(*arguments, **options):
        results.append(load_adapter(*arguments, **options))
        return results[-1]

    with patch.object(PeftModel, "load_adapter", recording), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", RuntimeWarning)
        warnings.filterwarnings("ignore", r"Unexpected keyword arguments \['id2label', 'label2id'\]")  # told, and left out
        warnings.filterwarnings("ignore", "Unsupported layer type .*LayerNorm")  # of LN_TUNING, which adapts nothing else
        warnings.filterwarnings("ignore", "The following rank_pattern keys .*lora_E")  # of AdaLoRA, its own as well
        model = PeftModel.from_pretrained(bert(), folder).eval()
    [result] = results
    assert not result.missing_keys, f"{folder}: PEFT misses {result.missing_keys}"
    assert not result.unexpected_keys, f"{folder}: PEFT has no place for {result.unexpected_keys}"
    return model


def main(folder):
    batch = batches()[0]
    report = {"maker": "tools/golden/open_in_peft.py", "versions": VERSIONS, "distances": {}, "logits": {}}
    for name, ours in json.loads((folder / "logits.json").read_text()).items():
        model = opened(folder / name)
        outputs = logits(model, batch)
        merged = logits(model.merge_and_unload(), batch)
        ours = torch.tensor(ours).reshape(outputs.shape)
        distance = max(relative_distance(ours, theirs) for theirs in (outputs, merged))
        assert distance < TOLERANCE, f"{name}: the logits of peftjs are {distance} away from those of PEFT"
        report["distances"][name] = float(f"{distance:.2g}")
        report["logits"][name] = values(outputs)
    report["distance"] = max(report["distances"].values())
    write_json(folder / "opened.json", report)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
