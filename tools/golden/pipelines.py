"""Makes tests/pipelines/fixtures: small random models, and the results of the pipelines of transformers and
sentence-transformers.

    python3 -m venv /tmp/golden
    /tmp/golden/bin/pip install torch==2.15.0 transformers==5.24.0 tokenizers==0.23.3 sentence-transformers==6.2.0
    /tmp/golden/bin/python tools/golden/pipelines.py && npx oxfmt tests/pipelines/fixtures

expected.json records the versions that made the committed files. The tokenizers are those of
packages/models/test/fixtures/token-spans.json. Offsets are converted from code points to UTF-16 units, which JavaScript
counts.
"""

import sys

sys.path.append(sys.path.pop(0))  # safetensors.py next to this script would hide the library

import json
import os

import sentence_transformers
import tokenizers
import torch
import transformers
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer
from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForTokenClassification, pipeline

OUT = "tests/pipelines/fixtures"
SPANS = json.load(open("packages/models/test/fixtures/token-spans.json"))

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC"]
STRATEGIES = ["none", "simple", "first", "average", "max"]
TEXTS = [
    "Angela Merkel met Barack Obama in Berlin, Germany, on 12 May 2013.",
    "naïve café résumé Zürich São Paulo Łódź",
    "Obama😀Berlin 👩‍👩‍👧 Merkel ☃",
    "She didn't say \"no\" to Microsoft's offer; they're working in New York.",
]
QUERY = "Who met Obama in Berlin?"

SIZES = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, initializer_range=0.8)


def tokenizer(name, **special):
    definition = SPANS["tokenizers"][name]["definition"]
    built = Tokenizer.from_str(json.dumps(definition))
    return PreTrainedTokenizerFast(tokenizer_object=built, model_max_length=64, **special)


BERT = tokenizer(
    "WordPiece, cased", unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", mask_token="<mask>"
)
BERT.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
ROBERTA = tokenizer(
    "byte level, as RoBERTa",
    unk_token="<unk>",
    pad_token="<pad>",
    cls_token="<s>",
    sep_token="</s>",
    bos_token="<s>",
    eos_token="</s>",
    mask_token="<mask>",
)


def named(labels):
    return dict(id2label=dict(enumerate(labels)), label2id={label: index for index, label in enumerate(labels)})


def bert(kind, seed, **settings):
    torch.manual_seed(seed)
    config = BertConfig(vocab_size=len(BERT), max_position_embeddings=64, pad_token_id=BERT.pad_token_id, **SIZES, **settings)
    return kind(config).eval()


def saved(name, model, own):
    folder = f"{OUT}/{name}"
    os.makedirs(folder, exist_ok=True)
    model.save_pretrained(folder)
    own.save_pretrained(folder)
    for file in os.listdir(folder):
        if file not in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
            os.remove(f"{folder}/{file}")
    return folder


def in_units(text, offset):
    """Converts an offset from code points to UTF-16 units."""
    return len(text[:offset].encode("utf-16-le")) // 2


def entities(tagger, strategy, **options):
    found = [tagger(text, aggregation_strategy=strategy, **options) for text in TEXTS]
    return [
        [
            {
                **entity,
                "score": float(entity["score"]),
                "start": in_units(text, entity["start"]),
                "end": in_units(text, entity["end"]),
            }
            for entity in of_text
        ]
        for text, of_text in zip(TEXTS, found)
    ]


def tagged(name, model, own):
    saved(name, model, own)
    tagger = pipeline("token-classification", model=model, tokenizer=own)
    return {
        "entities": {strategy: entities(tagger, strategy) for strategy in STRATEGIES},
        "all": entities(tagger, "none", ignore_labels=[]),
    }


def classified():
    own = named(["a", "b", "c"])
    several = bert(BertForSequenceClassification, 3, problem_type="multi_label_classification", **own)
    saved("classifier", several, BERT)
    one = bert(BertForSequenceClassification, 3, problem_type="single_label_classification", **own)
    return {
        kind: pipeline("text-classification", model=model, tokenizer=BERT)(TEXTS, top_k=None)
        for kind, model in [("several", several), ("one", one)]
    }


def ranked():
    folder = saved("reranker", bert(BertForSequenceClassification, 4, num_labels=1), BERT)
    with open(f"{folder}/tokenizer_config.json", "r+") as file:  # BERT's own tokenizer class would add token types by itself
        settings = {**json.load(file), "model_input_names": BERT.model_input_names}
        file.seek(0)
        json.dump(settings, file)
    encoder = CrossEncoder(folder, device="cpu")
    return [
        {"index": row["corpus_id"], "score": float(row["score"])} for row in encoder.rank(QUERY, TEXTS)
    ]


torch.manual_seed(2)
roberta = RobertaForTokenClassification(
    RobertaConfig(vocab_size=len(ROBERTA), max_position_embeddings=66, type_vocab_size=1, pad_token_id=1, **SIZES, **named(TAGS))
).eval()

made = {
    "versions": {
        module.__name__: module.__version__ for module in (torch, transformers, tokenizers, sentence_transformers)
    },
    "texts": TEXTS,
    "query": QUERY,
    "taggers": {
        "tagger-bert": tagged("tagger-bert", bert(BertForTokenClassification, 1, **named(TAGS)), BERT),
        "tagger-roberta": tagged("tagger-roberta", roberta, ROBERTA),
    },
    "classified": classified(),
    "ranked": ranked(),
}
with open(f"{OUT}/expected.json", "w") as file:
    json.dump(made, file, ensure_ascii=False)
