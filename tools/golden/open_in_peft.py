"""Opens adapters that peftjs wrote in Hugging Face PEFT. Every key must be recognised, and the logits must equal those
of peftjs, before and after PEFT has merged them.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2
    venv/bin/python tools/golden/open_in_peft.py FOLDER

FOLDER is the output of tools/golden/write-adapters.ts. PEFT's own logits, the distance of peftjs's logits from them and
from the merged model's, and the versions are written to FOLDER/opened.json. Fails at the first adapter that PEFT does
not open as intended.
"""

import sys

sys.path.append(sys.path.pop(0))  # safetensors.py next to this script would hide the library

import json
import warnings
from pathlib import Path
from unittest.mock import patch

import torch
from peft import PeftModel

from peft_bert import VERSIONS, batches, bert, logits, relative_distance, values, write_json

TOLERANCE = 1e-4


def opened(folder):
    """Opens the adapter of a folder. PEFT warns about missing keys, but not about unexpected ones."""
    results = []
    load_adapter = PeftModel.load_adapter

    def recording(*arguments, **options):
        results.append(load_adapter(*arguments, **options))
        return results[-1]

    with patch.object(PeftModel, "load_adapter", recording), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", RuntimeWarning)
        warnings.filterwarnings("ignore", r"Unexpected keyword arguments \['id2label', 'label2id'\]")  # PEFT reports and drops them
        warnings.filterwarnings("ignore", "Specified to not (save|load) vera_A")  # PEFT draws the same ones: the logits are compared
        warnings.filterwarnings("ignore", "Unsupported layer type .*LayerNorm")  # LN_TUNING adapts nothing else
        warnings.filterwarnings("ignore", "The following rank_pattern keys .*lora_E")  # PEFT's own AdaLoRA files cause it, too
        model = PeftModel.from_pretrained(bert(), folder).eval()
    [result] = results
    assert not result.missing_keys, f"{folder}: PEFT misses {result.missing_keys}"
    assert not result.unexpected_keys, f"{folder}: PEFT does not expect {result.unexpected_keys}"
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
