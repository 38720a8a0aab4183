"""Prints the greedy generation of transformers with a decoder from a folder, as one JSON of prompts and texts in token
ids. Each text ends before the first token that rounding could change. Run by real-decoder.ts.

    venv/bin/python tools/golden/real_decoder.py FOLDER TOKENS
"""

import sys

sys.path.append(sys.path.pop(0))  # safetensors.py next to this script would hide the library

import json

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = [
    "Once upon a time",
    "The capital of France is",
    "def fibonacci(n):",
    "In 1969 the first people walked on the moon. They",
    "Water boils at",
    "Dear Sir or Madam,",
]
# A token is certain if its logit exceeds the next best by more than rounding can change.
MARGIN = 1e-3


def main(folder, tokens):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    texts = []
    for prompt in PROMPTS:
        inputs = tokenizer(prompt, return_tensors="pt")
        made = model.generate(
            **inputs, do_sample=False, max_new_tokens=tokens, eos_token_id=[], output_logits=True, return_dict_in_generate=True
        )
        best = torch.stack(made.logits)[:, 0].topk(2).values
        unsure = (best[:, 0] - best[:, 1] < MARGIN).nonzero()
        certain = int(unsure[0]) if len(unsure) else tokens
        length = inputs["input_ids"].shape[1]
        texts.append({"text": prompt, "prompt": inputs["input_ids"][0].tolist(), "written": made.sequences[0, length:][:certain].tolist()})
    print(json.dumps(texts))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], int(sys.argv[2]))
