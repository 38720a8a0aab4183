"""Measures PyTorch and PEFT on the checkpoint of tools/perf/large-decoder.ts: time and peak memory of loading it, and
of LoRA steps of 4 x 128 tokens.

    venv/bin/python tools/perf/large-decoder.py FOLDER
"""

import json
import resource
import sys
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

ROWS, TOKENS, STEPS = 4, 128, 3


def peak():
    """Returns this process's peak resident memory, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(folder):
    start = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    said = {"loadSeconds": time.perf_counter() - start, "loadPeakMegabytes": peak()}
    said["heldMegabytes"] = sum(each.numel() * each.element_size() for each in model.parameters()) / 2**20
    with open("/proc/self/statm", encoding="ascii") as file:
        said["loadedMegabytes"] = int(file.read().split()[1]) * resource.getpagesize() / 2**20
    peft = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    optimizer = torch.optim.AdamW([each for each in peft.parameters() if each.requires_grad], lr=1e-4)
    ids = torch.randint(0, model.config.vocab_size, (ROWS, TOKENS))
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        peft(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - start)
    print(json.dumps({**said, "stepPeakMegabytes": peak(), "stepSeconds": times}))


if __name__ == "__main__":
    main(sys.argv[1])
