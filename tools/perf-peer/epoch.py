"""
An epoch of LoRA on real text with PyTorch + Hugging Face PEFT on the CPU, from the rows to the last step; epoch.ts does
the same with peftjs. By default batches hold rows in random order, padded to the longest row of the batch, as
DataCollatorWithPadding does. --group-by-length batches rows of similar length, and --bf16 runs the model under bfloat16
autocast: together they are the fastest settings of PyTorch here.

python epoch.py --model DIR --data GLUE --task cola|sst2 --threads 2 [--group-by-length] [--bf16]

Prints one JSON object.
"""

import argparse
import csv
import json
import os
import resource
import time

import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader, RandomSampler
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding
from transformers.trainer_pt_utils import LengthGroupedSampler

BATCH_SIZE = 32
MAX_TOKENS = 128
FIRST_ROWS = 10_000


def read_rows(folder: str, task: str) -> list[tuple[str, int]]:
    name = {"cola": "CoLA", "sst2": "SST-2"}[task]
    with open(os.path.join(folder, name, "train.tsv"), encoding="utf8") as file:
        lines = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    if task == "cola":
        rows = [(line[3], int(line[1])) for line in lines]
    else:
        rows = [(line[0], int(line[1])) for line in lines[1:]]
    return rows[:FIRST_ROWS]


def lora_model(folder: str) -> torch.nn.Module:
    base = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    config = LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"], task_type="SEQ_CLS")
    return get_peft_model(base, config).train()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--task", required=True, choices=["cola", "sst2"])
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--group-by-length", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    rows = read_rows(args.data, args.task)
    model = lora_model(args.model)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    started = time.perf_counter()
    encoded = tokenizer([text for text, _ in rows], truncation=True, max_length=MAX_TOKENS)
    features = [
        {key: encoded[key][row] for key in encoded} | {"labels": label} for row, (_, label) in enumerate(rows)
    ]
    tokenised = time.perf_counter()
    lengths = [len(row["input_ids"]) for row in features]
    sampler = LengthGroupedSampler(BATCH_SIZE, lengths=lengths) if args.group_by_length else RandomSampler(features)
    loader = DataLoader(features, BATCH_SIZE, sampler=sampler, collate_fn=DataCollatorWithPadding(tokenizer))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    steps = padding = tokens = 0
    for batch in loader:
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        steps += 1
        tokens += batch["attention_mask"].numel()
        padding += int((batch["attention_mask"] == 0).sum())
    ended = time.perf_counter()
    print(
        json.dumps(
            {
                "task": args.task,
                "steps": steps,
                "rows": len(rows),
                "epochSeconds": ended - started,
                "tokeniseSeconds": tokenised - started,
                "paddingShare": padding / tokens,
                "peakRssBytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            }
        )
    )


if __name__ == "__main__":
    main()
