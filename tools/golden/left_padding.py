"""Makes tests/models/fixtures/left-padding: transformers' outputs for rows with padding on the left, for the networks
of tests/models/fixtures.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0
    venv/bin/python tools/golden/left_padding.py && npx oxfmt tests/models/fixtures/left-padding.json

The rows are those of batch 2, each shifted to the right. left-padding.safetensors holds `<network>/logits` of the head
for three classes.
"""

import sys
from pathlib import Path

sys.path = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

import json

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

FIXTURES = Path(__file__).resolve().parents[2] / "tests/models/fixtures"
BATCH = 2


def moved(rows, mask):
    """Moves the padding of every row to its front."""
    return torch.stack([torch.roll(row, int((own == 0).sum())) for row, own in zip(rows, mask, strict=True)])


logits = {}
for folder in sorted(FIXTURES.glob("*-tiny")):
    if not (folder / "expected.safetensors").exists() or "classes" not in json.loads((folder / "expected.json").read_text())["keys"]:
        continue
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype="float32", attn_implementation="eager").eval()
    expected = load_file(folder / "expected.safetensors")
    names = ["input_ids", "attention_mask", "token_type_ids"]
    batch = {name: expected[f"{BATCH}/{name}"].long() for name in names if f"{BATCH}/{name}" in expected}
    mask = batch["attention_mask"]
    with torch.no_grad():
        output = model(**{name: moved(rows, mask) for name, rows in batch.items()})
    logits[f"{folder.name.removesuffix('-tiny')}/logits"] = output.logits.contiguous()

save_file(logits, FIXTURES / "left-padding.safetensors", metadata={"format": "pt"})
facts = {
    "maker": "tools/golden/left_padding.py",
    "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
}
(FIXTURES / "left-padding.json").write_text(json.dumps(facts) + "\n")
