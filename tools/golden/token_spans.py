"""Makes packages/models/test/fixtures/token-spans.json: the characters that each token of a text covers, by the
tokenizers library.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install transformers==5.24.0 tokenizers==0.23.3
    /tmp/golden/bin/python tools/golden/token_spans.py && npx oxfmt packages/models/test/fixtures/token-spans.json

The committed file records the versions that made it. The tokenizers are trained on the sentences below, one for each
form that published models have. Offsets are converted from code points to UTF-16 units, as JavaScript counts.
"""

import sys

sys.path.append(sys.path.pop(0))  # safetensors.py next to this script would hide the library

import json

import tokenizers
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

OUT = "packages/models/test/fixtures/token-spans.json"

CORPUS = [
    "The quick brown fox jumps over the lazy dog.",
    "Angela Merkel met Barack Obama in Berlin, Germany, on 12 May 2013.",
    "She didn't say \"no\" to Microsoft's offer; they're working in New York.",
    "naïve café résumé Zürich São Paulo Łódź",
    "日本語 東京 Привет мир Ελλάδα 😀 👍🏽",
]

TEXTS = [
    *CORPUS,
    "  two  spaces, a\ttab and a\nnewline  ",
    "Cafe\u0301 in Sa\u0303o Paulo",
    "Obama😀Berlin 👩‍👩‍👧 Merkel",
    "unknown: ☃ ﬁne ½ ①② Å",
    "We saw <mask> in Berlin<mask>today",
    "İstanbul STRASSE ΟΔΟΣ straße",
    "한국어 각 क्षि",
    "a\u00a0b\u200bc",
]

QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def word_piece(lowercase):
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "<mask>"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=190, special_tokens=special))
    ids = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    return tokenizer


def byte_level(special, **options):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = options.pop("pre_tokenizer", None) or pre_tokenizers.ByteLevel(
        add_prefix_space=options.get("add_prefix_space", False)
    )
    tokenizer.normalizer = options.get("normalizer")
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def roberta(add_prefix_space):
    special = ["<s>", "<pad>", "</s>", "<unk>", AddedToken("<mask>", lstrip=True)]
    tokenizer = byte_level(special, add_prefix_space=add_prefix_space)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=add_prefix_space
    )
    return tokenizer


def gpt2():
    tokenizer = byte_level(["<|endoftext|>", "<mask>"])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def qwen2():
    split = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(QWEN), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer = byte_level(["<|endoftext|>", "<mask>"], pre_tokenizer=split, normalizer=normalizers.NFC())
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def llama():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    latin = ["▁", *sorted({c for text in CORPUS for c in text if c.isascii()})]
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=special, initial_alphabet=latin, limit_alphabet=len(latin)
    )
    tokenizer.train_from_iterator([text.replace(" ", "▁") for text in CORPUS], trainer)
    definition = json.loads(tokenizer.to_str())
    definition["added_tokens"] = [token for token in definition["added_tokens"] if token["id"] < 4]
    tokenizer = Tokenizer.from_str(json.dumps(definition))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return tokenizer


def unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip(left=False, right=True)])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "<mask>"]
    tokenizer.train_from_iterator(
        CORPUS, trainers.UnigramTrainer(vocab_size=130, special_tokens=special, unk_token="[UNK]")
    )
    ids = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    return tokenizer


def in_units(text, offset):
    """Converts a number of code points to a number of UTF-16 units."""
    return len(text[:offset].encode("utf-16-le")) // 2


def spans(tokenizer, text, second=None):
    """Returns the id, start and end of each token in one list, with -1 and -1 for special tokens around the texts."""
    encoding = tokenizer.encode(text, second) if second else tokenizer.encode(text)
    texts = {0: text, 1: second}
    numbers = []
    for token, id, offsets, special, sequence in zip(
        encoding.tokens, encoding.ids, encoding.offsets, encoding.special_tokens_mask, encoding.sequence_ids
    ):
        start, end = (in_units(texts[sequence or 0], offset) for offset in offsets)
        numbers += [id, -1, -1] if special else [id, start, end]
    return numbers


BUILT = {
    "WordPiece, lower case": word_piece(lowercase=True),
    "WordPiece, cased": word_piece(lowercase=False),
    "byte level, as RoBERTa": roberta(add_prefix_space=False),
    "byte level, with a blank put first": roberta(add_prefix_space=True),
    "byte level, as GPT-2": gpt2(),
    "byte level, as Qwen2": qwen2(),
    "byte fallback, as Llama 2": llama(),
    "Unigram, as DeBERTa": unigram(),
}

made = {
    "versions": {"tokenizers": tokenizers.__version__, "transformers": transformers.__version__},
    "texts": TEXTS,
    "tokenizers": {
        name: {
            "definition": json.loads(tokenizer.to_str()),
            "spans": [spans(tokenizer, text) for text in TEXTS],
            "pair": spans(tokenizer, TEXTS[1], TEXTS[3]),
        }
        for name, tokenizer in BUILT.items()
    },
}
with open(OUT, "w") as file:
    json.dump(made, file, ensure_ascii=False)
