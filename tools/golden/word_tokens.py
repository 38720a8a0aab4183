"""Makes packages/models/test/fixtures/word-tokens.json: the tokens of sentences in words, by transformers.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install transformers==5.24.0 tokenizers==0.23.3
    /tmp/golden/bin/python tools/golden/word_tokens.py && npx oxfmt packages/models/test/fixtures/word-tokens.json

Reads the tokenizers of token-spans.json. Byte-level ones put a blank before each word, as with `add_prefix_space=True`,
which transformers supports except for sequences of steps (Qwen2's): those are left out. The labels are those of
`tokenize_and_align_labels` in transformers' token classification example: the first token of a word has the word's
label. The committed file records the versions that made it.
"""

import sys

sys.path.append(sys.path.pop(0))  # safetensors.py next to this script would hide the library

import json

import tokenizers
import transformers
from transformers import PreTrainedTokenizerFast

SPANS = "packages/models/test/fixtures/token-spans.json"
OUT = "packages/models/test/fixtures/word-tokens.json"

SENTENCES = [
    ["Angela", "Merkel", "met", "Barack", "Obama", "in", "Berlin", "."],
    ["She", "did", "n't", "say", '"', "no", '"', ";", "they're", "working", "in", "New-York"],
    ["naïve", "Cafe\u0301", "Zürich", "日本語", "😀", "👩‍👩‍👧", "½", "İstanbul"],
    ["zero", "\u200b", "width", "\u00a0", "x"],
    ["a"],
]
MAX_LENGTH = 16


def prefixed(definition):
    """Returns the definition as transformers changes it for `add_prefix_space=True`."""
    changed = json.loads(json.dumps(definition))
    cut = changed["pre_tokenizer"]
    if cut and "add_prefix_space" in cut:
        cut["add_prefix_space"] = True
    return changed


def is_sequence(definition):
    cut = definition["pre_tokenizer"]
    return cut is not None and cut["type"] == "Sequence"


def encoded(tokenizer, words, **options):
    encoding = tokenizer(words, is_split_into_words=True, **options)
    word_ids = encoding.word_ids()
    labels = [
        -100 if word is None or (place > 0 and word == word_ids[place - 1]) else word
        for place, word in enumerate(word_ids)
    ]
    return {"ids": encoding["input_ids"], "labels": labels}


with open(SPANS) as file:
    definitions = {name: entry["definition"] for name, entry in json.load(file)["tokenizers"].items()}

made = {
    "versions": {"tokenizers": tokenizers.__version__, "transformers": transformers.__version__},
    "sentences": SENTENCES,
    "maxLength": MAX_LENGTH,
    "tokenizers": {},
}
for name, definition in definitions.items():
    if is_sequence(definition):
        continue
    backend = tokenizers.Tokenizer.from_str(json.dumps(prefixed(definition)))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    made["tokenizers"][name] = {
        "whole": [encoded(tokenizer, words) for words in SENTENCES],
        "cut": [encoded(tokenizer, words, truncation=True, max_length=MAX_LENGTH) for words in SENTENCES],
    }

with open(OUT, "w") as file:
    json.dump(made, file, ensure_ascii=False)
