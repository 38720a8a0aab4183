"""Tokenizers of the kinds that published models have, on random texts: ids, spans, pairs and decoded texts by Hugging
Face's tokenizers.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install tokenizers==0.23.3 sentencepiece==0.2.3
    /tmp/golden/bin/python tools/golden/tokenizers.py && npx oxfmt packages/models/test/fixtures/tokenizers.json

makes the sample that `npm test` runs. For a larger run:

    /tmp/golden/bin/python tools/golden/tokenizers.py --texts 2000 /tmp/random-tokenizers.json
    PEFTJS_TOKENIZERS=/tmp/random-tokenizers.json npx vitest run packages/models/test/tokenizers.test.ts

The sample has a small table of replacements; the large run has SentencePiece's nmt_nfkc. Texts consist of characters
that Unicode has had since 2002 (version 3.2), because the tables of Hugging Face's tokenizers and of JavaScript differ
in version. Offsets are UTF-16 units.
"""

import sys

sys.path.pop(0)  # scripts next to this one would hide libraries: safetensors.py, tokenizers.py

import argparse
import base64
import io
import json
import random
import tempfile
import unicodedata
from pathlib import Path

import sentencepiece
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SAMPLE = "packages/models/test/fixtures/tokenizers.json"

CORPUS = [
    "The quick brown fox jumps over the lazy dog.",
    "She didn't say \"no\" to Microsoft's offer; they're working in New York on 12 May 2013.",
    "naïve café résumé Zürich São Paulo Łódź",
    "日本語 東京 Привет мир Ελλάδα 😀 👍🏽 1 234 567",
    "def f(x):\n    return x + 1\n\n\n\tprint(f(2))",
]

QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
# A table of replacements for the sample: composed, compatibility and blank characters.
RULES = {"Ａ": "A", "ａ": "a", "ﬁ": "fi", "½": "1⁄2", "①": "1", "é": "e\u0301", "e\u0301": "é", "\u3000": " ", "\t": " ", "\n": " ", "\u00ad": "", "ｶﾞ": "ガ"}


def charsmap(rules=None):
    """Returns SentencePiece's table: nmt_nfkc, or a table of these rules."""
    with tempfile.TemporaryDirectory() as folder:
        options = {"normalization_rule_name": "nmt_nfkc"}
        if rules is not None:
            code = lambda text: " ".join(f"{ord(c):X}" for c in text)
            path = Path(folder) / "rules.tsv"
            path.write_text("".join(f"{code(source)}\t{code(target)}\n" for source, target in rules.items()), "utf-8")
            options = {"normalization_rule_tsv": str(path)}
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS * 20), model_writer=model, vocab_size=120, hard_vocab_limit=False, minloglevel=2, **options
        )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(processor.serialized_model_proto())
    return base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()


def with_added(tokenizer, *tokens):
    tokenizer.add_special_tokens(list(tokens))
    return tokenizer


def unigram(table, mask, pair, special, split_words=True):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = table
    steps = [pre_tokenizers.Metaspace()]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), *steps]) if split_words else steps[0]
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=150, special_tokens=special, unk_token=special[3])
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer = with_added(tokenizer, mask)
    cls, sep = special[0], special[2]
    ids = [(token, tokenizer.token_to_id(token)) for token in (cls, sep)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}", pair=pair.format(cls=cls, sep=sep), special_tokens=ids
    )
    return tokenizer


def xlm_roberta(table):
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    return unigram(
        normalizers.Precompiled(base64.b64decode(table)), AddedToken("<mask>", lstrip=True), "{cls} $A {sep} {sep} $B {sep}", special
    )


def camembert(table):
    steps = [normalizers.Precompiled(base64.b64decode(table)), normalizers.Replace(Regex(" {2,}"), " ")]
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    return unigram(
        normalizers.Sequence(steps), AddedToken("<mask>", lstrip=True), "{cls} $A {sep} {sep} $B {sep}", special, split_words=False
    )


def deberta():
    steps = [normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), " "), normalizers.NFC(), normalizers.Strip(left=False, right=True)]
    special = ["[CLS]", "[PAD]", "[SEP]", "[UNK]"]
    return unigram(normalizers.Sequence(steps), "[MASK]", "{cls} $A {sep} $B:1 {sep}:1", special, split_words=False)


def marian():
    steps = [normalizers.Nmt(), normalizers.NFKC(), normalizers.Lowercase(), normalizers.StripAccents()]
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    return unigram(normalizers.Sequence(steps), "<mask>", "{cls} $A {sep} $B {sep}", special, split_words=False)


def mpnet():
    special = ["<s>", "<pad>", "</s>", "[UNK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=200, special_tokens=special))
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, False)
    return with_added(tokenizer, AddedToken("<mask>", lstrip=True))


def bert_cased():
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=200, special_tokens=special))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def byte_level(special, pre_tokenizer, normalizer=None):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=340, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def split_then_bytes(pattern):
    steps = [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    return pre_tokenizers.Sequence(steps)


def modernbert():
    tokenizer = byte_level(["[UNK]", "[CLS]", "[SEP]", "[PAD]"], pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.NFC())
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.add_tokens([AddedToken(" " * count, normalized=True) for count in range(2, 9)])
    return with_added(tokenizer, AddedToken("[MASK]", lstrip=True))


def roberta():
    tokenizer = byte_level(["<s>", "<pad>", "</s>", "<unk>"], pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, False)
    return with_added(tokenizer, AddedToken("<mask>", lstrip=True))


def qwen3():
    tokenizer = byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"], split_then_bytes(QWEN), normalizers.NFC())
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_tokens(["<think>", "</think>"])
    return tokenizer


def llama3():
    tokenizer = byte_level(["<|begin_of_text|>", "<|eot_id|>"], split_then_bytes(LLAMA3))
    around = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1", special_tokens=[("<|begin_of_text|>", 0)]
    )
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), around])
    return tokenizer


def smollm3():
    steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    return byte_level(["<|endoftext|>", "<|im_end|>"], pre_tokenizers.Sequence(steps))


def byte_fallback(special, **parts):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.decoder = parts["decoder"]
    known = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
    latin = ["▁", *sorted({c for text in CORPUS for c in text if c.isascii() and c != " "})]
    trainer = trainers.BpeTrainer(vocab_size=430, special_tokens=known, initial_alphabet=latin, limit_alphabet=len(latin))
    tokenizer.train_from_iterator([text.replace(" ", "▁") for text in CORPUS], trainer)
    definition = json.loads(tokenizer.to_str())
    definition["added_tokens"] = [token for token in definition["added_tokens"] if token["id"] < len(special)]
    tokenizer = Tokenizer.from_str(json.dumps(definition))
    for name in ("normalizer", "pre_tokenizer", "post_processor"):
        if name in parts:
            setattr(tokenizer, name, parts[name])
    return tokenizer


REPLACED = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]


def gemma():
    around = processors.TemplateProcessing(single="<bos> $A", pair="<bos> $A <bos>:1 $B:1", special_tokens=[("<bos>", 2)])
    tokenizer = byte_fallback(
        ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"],
        normalizer=normalizers.Replace(" ", "▁"),
        pre_tokenizer=pre_tokenizers.Split(" ", "merged_with_previous"),
        decoder=decoders.Sequence(REPLACED),
        post_processor=around,
    )
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in ("\n\n", "▁▁", "<b>")])
    return tokenizer


def phi3():
    tokenizer = byte_fallback(
        ["<unk>", "<s>", "</s>"],
        normalizer=normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        decoder=decoders.Sequence([*REPLACED, decoders.Strip(" ", 1, 0)]),
        post_processor=processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]),
    )
    return with_added(tokenizer, AddedToken("<|assistant|>", rstrip=True), AddedToken("<|word|>", single_word=True))


def llama(scheme):
    return byte_fallback(
        ["<unk>", "<s>", "</s>"],
        pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False),
        decoder=decoders.Sequence([*REPLACED, decoders.Strip(" ", 1, 0)]),
    )


def classic():
    """Returns a tokenizer of the parts that older models use."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="?"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Punctuation("contiguous")])
    tokenizer.train_from_iterator(CORPUS, trainers.WordLevelTrainer(vocab_size=100, special_tokens=["?"]))
    return tokenizer


def spelled(normalizer, pre_tokenizer):
    """Returns a tokenizer of single characters whose first mark depends on what the normaliser leaves of a text."""
    characters = ["<unk>", "▁", *map(chr, range(33, 127))]
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(characters)}, merges=[], unk_token="<unk>"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.add_tokens([AddedToken("NewWord", normalized=True), AddedToken("1", normalized=True)])
    return with_added(tokenizer, AddedToken("<Sep>", normalized=True), AddedToken("<cls>", normalized=True), "<PAD>")


def spelled_with_mark():
    steps = [normalizers.StripAccents(), normalizers.Lowercase()]
    return spelled(normalizers.Sequence(steps), pre_tokenizers.Metaspace(prepend_scheme="first"))


def spelled_in_steps():
    cuts = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Digits(True), pre_tokenizers.Metaspace(prepend_scheme="first")]
    return spelled(normalizers.NFKD(), pre_tokenizers.Sequence(cuts))


def built(table):
    return {
        "XLM-RoBERTa": xlm_roberta(table),
        "CamemBERT": camembert(table),
        "DeBERTa v3": deberta(),
        "Nmt": marian(),
        "MPNet": mpnet(),
        "BERT, cased": bert_cased(),
        "ModernBERT": modernbert(),
        "RoBERTa": roberta(),
        "Qwen3": qwen3(),
        "Llama 3": llama3(),
        "SmolLM3": smollm3(),
        "Gemma": gemma(),
        "Phi-3": phi3(),
        "Llama, always": llama("always"),
        "Llama, first": llama("first"),
        "Llama, never": llama("never"),
        "words": classic(),
        "letters, first": spelled_with_mark(),
        "letters, first of steps": spelled_in_steps(),
    }


OLD = unicodedata.ucd_3_2_0
CHARACTERS = [chr(code) for code in range(1, 0x30000) if OLD.category(chr(code)) not in ("Cn", "Cs", "Co")]
MARKS = [c for c in CHARACTERS if OLD.category(c).startswith("M")]
ODD = [*" \t\n\r\u00a0\u0085\u200b\u200d\u2028\u3000\ufeff\u2581'.,!?-_<>[]▁½①ﬁİΣςéＡガ", "ｶﾞ", "e\u0301", "\r\n", "  ", "\n\n", "日", "𠀋", "\U0002b830", "😀", "👩‍👩‍👧", "🇩🇪", "한", "\u1112\u1161\u11ab", "क्षि", "ΟΔΟΣ", "12", "3.5", "1 234", "don't"]
ADDED = ["<mask>", " <mask> ", "[MASK]", "<s>", "</s>", "[SEP]", "<think>", "<|im_end|>", "<|eot_id|>", "<|assistant|> \n", "<|word|>", "a<|word|>", "<0x41>", "<unk>", "<b>"]

# Texts that begin with what normalisers remove, replace or split, and added tokens as they are and normalised.
EDGES = ["\u0301ab a", " ab", "½x½", "¼", "\u0301NewWord a", "NewWord newword NEWWORDa", "<Sep> <sep> <cls> <PAD> <pad>", "21a 2b"]


def random_text(draw):
    words = [word for text in CORPUS for word in text.split(" ")]
    parts = []
    for _ in range(draw.randint(1, 12)):
        kind = draw.random()
        if kind < 0.35:
            parts.append(draw.choice(words) + draw.choice([" ", " ", ""]))
        elif kind < 0.6:
            parts.append(draw.choice(ODD))
        elif kind < 0.7:
            parts.append(draw.choice(ADDED))
        elif kind < 0.8:
            parts.append(draw.choice(CHARACTERS[:600]) + draw.choice(MARKS[:60]))
        else:
            parts.append("".join(draw.choice(CHARACTERS) for _ in range(draw.randint(1, 4))))
    return "".join(parts)


# Kinds that the sample leaves out because other kinds cover each of their parts.
LARGE_RUN_ONLY = {"DeBERTa v3", "BERT, cased", "RoBERTa", "Llama 3", "SmolLM3", "Llama, always", "Llama, never"}


def in_units(text, offset):
    return len(text[:offset].encode("utf-16-le")) // 2


def row(tokenizer, text):
    encoding = tokenizer.encode(text, add_special_tokens=False)
    spans = [in_units(text, offset) for offsets in encoding.offsets for offset in offsets]
    return {"ids": encoding.ids, "spans": spans, "decoded": tokenizer.decode(encoding.ids)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", nargs="?", default=SAMPLE)
    parser.add_argument("--texts", type=int, default=16)
    arguments = parser.parse_args()
    draw = random.Random(20)
    is_sample = arguments.out == SAMPLE
    texts = [random_text(draw) for _ in range(arguments.texts)] + EDGES
    pairs = [["The quick fox", "didn't jump <mask>"], ["", "dog"], ["日本語", " naïve"]]
    result = {
        "maker": "tools/golden/tokenizers.py",
        "versions": {"tokenizers": tokenizers.__version__, "sentencepiece": sentencepiece.__version__},
        "texts": texts,
        "pairs": pairs,
        "tokenizers": {},
    }
    for name, tokenizer in built(charsmap(RULES if is_sample else None)).items():
        if is_sample and name in LARGE_RUN_ONLY:
            continue
        encoded = [tokenizer.encode(*pair) for pair in pairs]
        result["tokenizers"][name] = {
            "definition": json.loads(tokenizer.to_str()),
            "rows": [row(tokenizer, text) for text in texts],
            "pairs": [{"ids": pair.ids, "types": pair.type_ids} for pair in encoded],
        }
    Path(arguments.out).write_text(json.dumps(result, ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8")


if __name__ == "__main__":
    main()
