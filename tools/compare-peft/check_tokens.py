"""Compares the tokens that prepare.ts wrote with those of transformers' tokenizer, for every row. It parses the files
independently and splits only at tabs and newlines, because their quotes are unbalanced.

    venv/bin/python tools/compare-peft/check_tokens.py --model DIR --data DIR --work DIR
"""

import argparse
import json
from pathlib import Path

from transformers import AutoTokenizer

SETTINGS = json.loads((Path(__file__).resolve().parent / "parity.json").read_text(encoding="utf8"))
# Folder, file name, columns of the texts, column of the label, and whether the first line has the column names.
FILES = {
    "cola": ("CoLA", "{}.tsv", [3], 1, False),
    "sst2": ("SST-2", "{}.tsv", [0], 1, True),
    "stsb": ("STS-B", "{}.tsv", ["sentence1", "sentence2"], "score", True),
    "mrpc": ("MRPC", "{}.raw.tsv", ["#1 String", "#2 String"], "Quality", True),
    "rte": ("RTE", "{}.tsv", ["sentence1", "sentence2"], "label", True),
}


def rows_of(path, texts, label, header):
    lines = [line.split("\t") for line in path.read_bytes().decode("utf-8-sig").split("\n") if line]
    columns = {name.rstrip("\r"): place for place, name in enumerate(lines[0])} if header else {}
    for line in lines[1:] if header else lines:
        cells = [line[columns.get(column, column)].rstrip("\r") for column in [*texts, label]]
        yield cells[:-1], cells[-1]


def differing(task, split, tokenizer, flags):
    """Returns the number of rows, and how many of them have different tokens or another label."""
    folder, name, texts, label, header = FILES[task]
    prepared = json.loads((Path(flags.work) / task / "task.json").read_text(encoding="utf8"))
    rows = list(rows_of(Path(flags.data) / folder / name.format(split), texts, label, header))
    if split == "train":
        rows = rows[: SETTINGS["tasks"][task].get("firstRows")]
    classes = {name: place for place, name in enumerate(prepared["classes"])} if task == "rte" else {}
    count = abs(len(rows) - len(prepared[split]))
    for (parts, label), ours in zip(rows, prepared[split], strict=False):
        theirs = tokenizer(*parts, truncation="longest_first", max_length=SETTINGS["maxTokens"])
        value = classes[label] if label in classes else float(label)
        same = theirs["input_ids"] == ours["ids"] and theirs["token_type_ids"] == ours["typeIds"]
        count += not (same and value == ours["label"])
    return len(rows), count


def main():
    parser = argparse.ArgumentParser()
    for name in ("model", "data", "work"):
        parser.add_argument(f"--{name}", required=True)
    flags = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(flags.model)
    failed = False
    for task in FILES:
        for split in ("train", "dev"):
            rows, count = differing(task, split, tokenizer, flags)
            failed = failed or count > 0
            print(f"{task} {split}: {count} of {rows} rows differ")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
