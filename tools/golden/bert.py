"""Makes tests/models/fixtures/bert-tiny with transformers: a small random BERT for sequence classification, and its
outputs.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install torch==2.15.0 transformers==5.24.0
    /tmp/golden/bin/python tools/golden/bert.py && npx oxfmt tests/models/fixtures/bert-tiny

expected.json records the versions that made the committed files. All weights are random, including biases and layer
norms, and large enough that a mistake in any of them shows in the logits.
"""

import sys
from pathlib import Path

# safetensors.py next to this script would hide the library.
sys.path = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

import json
import re
import string
from collections import Counter

import numpy as np
import tokenizers
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

FOLDER = Path(__file__).resolve().parents[2] / "tests/models/fixtures/bert-tiny"
VERSIONS = {
    "python": sys.version.split()[0],
    "torch": torch.__version__,
    "transformers": transformers.__version__,
    "tokenizers": tokenizers.__version__,
}

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = 200
MAX_TOKENS = 64
STD = 0.2

SENTENCES = [
    "The harbour was quiet before the first boats came in.",
    "She reads the weather report aloud every morning at breakfast.",
    "Nobody had told the gardener that the fountain no longer worked.",
    "A small error in the third chapter made the whole argument collapse.",
    "We walked along the river until the lights of the town appeared.",
    "The film is far too long, but its last scene is wonderful.",
    "This is the worst hotel that I have ever stayed in.",
    "The soup was cold, the waiter was rude and the bill was wrong.",
    "I would gladly see this play again, and so would my brother.",
    "Water boils at a lower temperature on a high mountain.",
    "The committee did not accept the report that the council wrote.",
    "What is the distance between the earth and the moon?",
    "Who painted the ceiling of the old library?",
    "The train to the coast leaves at seven and arrives before noon.",
    "Their new record sounds better than anything they have made before.",
    "He repaired the old radio with a spoon and a piece of wire.",
]

LONG = " ".join(SENTENCES[:6])

TEXTS = [
    ["The film is wonderful."],
    ["The waiter was rude!"],
    ["unbelievable Café, naïve façade; 日本語"],
    [""],
    ["What is the distance between the earth and the moon, and who measured it before the first telescope was made?"],
    ["tab\tand  two spaces \u00a0 [MASK] and [SEP] inside"],
    ["The soup was cold.", "The waiter was rude."],
    ["Who painted the ceiling?", ""],
    ["Water boils.", "Water boils at a lower temperature on a high mountain, and so does the soup of the old harbour."],
    [LONG],
    [LONG, "A short pair."],
    ["A short text.", LONG],
    [LONG, SENTENCES[11] + " " + LONG],
]

BATCHES = [[0], [0, 1, 2, 3, 4, 5], [6, 8, 1, 7], [9, 10, 0], [11, 12]]

CUTS = [16, 9, 8, 4]

# Settings that do not affect shapes, different from those of the folder.
OTHER_SETTINGS = {"num_attention_heads": 2, "layer_norm_eps": 0.01}


def vocabulary():
    """Returns a vocabulary of the alphabet as first letters and continuations, common endings and the most frequent
    words. A trainer is not used, because it breaks ties differently from run to run."""
    words = re.findall(r"[a-z]+", " ".join(SENTENCES).lower())
    alphabet = string.ascii_lowercase
    pieces = [*SPECIAL_TOKENS, *",.?!;'", *alphabet, *(f"##{letter}" for letter in alphabet)]
    pieces += [f"##{ending}" for ending in ("ing", "ed", "er", "ly", "es", "tion", "able", "ful", "ment", "ance")]
    by_frequency = sorted(Counter(words).items(), key=lambda entry: (-entry[1], entry[0]))
    pieces += [word for word, _ in by_frequency if word not in pieces]
    return {piece: number for number, piece in enumerate(pieces[:VOCABULARY])}


def word_pieces():
    """Returns BERT's tokenization pipeline with that vocabulary."""
    vocab = vocabulary()
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocab[token]) for token in ("[CLS]", "[SEP]")],
    )
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def network(vocabulary, **settings):
    """Returns the network, with the same weights whatever the further settings."""
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        num_hidden_layers=3,
        intermediate_size=64,
        max_position_embeddings=MAX_TOKENS,
        num_labels=3,
        **{"num_attention_heads": 4, **settings},
    )
    config._attn_implementation = "eager"
    model = BertForSequenceClassification(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre = 1.0 if name.endswith("LayerNorm.weight") else 0.0
            parameter.copy_(centre + STD * torch.randn(parameter.shape, generator=generator))
    return model


def encoded(tokenizer, texts, max_tokens=MAX_TOKENS):
    encoding = tokenizer(*texts, truncation="longest_first", max_length=max_tokens)
    return {"ids": encoding["input_ids"], "typeIds": encoding["token_type_ids"]}


def outputs(model, tokenizer, rows):
    """Returns the outputs for a batch of texts, padded to its longest."""
    first = [TEXTS[row][0] for row in rows]
    second = [TEXTS[row][1] if len(TEXTS[row]) > 1 else None for row in rows]
    encodings = [
        tokenizer(text, pair, truncation="longest_first", max_length=MAX_TOKENS) for text, pair in zip(first, second)
    ]
    batch = tokenizer.pad(encodings, return_tensors="pt")
    with torch.no_grad():
        hidden = model.bert(**batch)
        logits = model(**batch).logits
    return {
        "rows": rows,
        "logits": values(logits),
        "pooled": values(hidden.pooler_output),
        "mean": values(token_mean(hidden.last_hidden_state, batch["attention_mask"])),
    }


def token_mean(hidden, mask):
    """[rows, tokens, hidden] -> [rows, hidden]: the mean over the tokens that are not padding."""
    weights = mask[:, :, None].float()
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def values(tensor):
    """Formats float32 with nine significant digits, which represent it exactly."""
    return [[float(f"{value:.9g}") for value in row] for row in tensor.numpy().astype(np.float32)]


def main():
    tokenizer = BertTokenizerFast(tokenizer_object=word_pieces(), model_max_length=MAX_TOKENS)
    model = network(len(tokenizer))
    FOLDER.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(FOLDER)
    tokenizer.save_pretrained(FOLDER)
    expected = {
        "maker": "tools/golden/bert.py",
        "versions": VERSIONS,
        "texts": [{"texts": texts, **encoded(tokenizer, texts)} for texts in TEXTS],
        "cuts": [
            {"row": row, "maxTokens": cut, **encoded(tokenizer, texts, cut)}
            for row, texts in enumerate(TEXTS)
            for cut in CUTS
        ],
        "batches": [outputs(model, tokenizer, rows) for rows in BATCHES],
        "otherSettings": {
            "settings": OTHER_SETTINGS,
            **outputs(network(len(tokenizer), **OTHER_SETTINGS), tokenizer, BATCHES[1]),
        },
    }
    (FOLDER / "expected.json").write_text(json.dumps(expected, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
