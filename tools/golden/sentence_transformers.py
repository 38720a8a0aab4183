"""Embeddings of sentence-transformers on the tiny BERT: every pooling mode, modules after it, and prompts.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 sentence-transformers==6.2.0
    venv/bin/python tools/golden/sentence_transformers.py && npx oxfmt tests/models/fixtures/bert-tiny/embedders.json

Holds, for each model, the files written in addition to those of transformers, with safetensors files in base64, and the
embeddings of the texts. With `--open FOLDER` it prints the embeddings of a folder that peftjs wrote instead.
"""

import sys

sys.path.pop(0)  # scripts next to this one would hide libraries: safetensors.py, sentence_transformers.py

import argparse
import base64
import json
import tempfile
from pathlib import Path

import sentence_transformers
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling

FOLDER = Path("tests/models/fixtures/bert-tiny")
TEXTS = ["water boils", "the quick brown fox jumps over the lazy dog", "at a lower temperature", "no"]
MODES = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]


def model(modes, *modules, **options):
    transformer = Transformer(str(FOLDER))
    width = transformer.get_embedding_dimension()
    return SentenceTransformer(modules=[transformer, Pooling(width, modes), *modules], device="cpu", **options)


def models():
    torch.manual_seed(20)
    width = Transformer(str(FOLDER)).get_embedding_dimension()
    made = {mode: model(mode) for mode in MODES}
    made["all, side by side"] = model(MODES)
    made["in another order, Dense, LayerNorm"] = model(
        ["mean", "cls"],
        Dense(2 * width, 6, bias=False, activation_function=torch.nn.GELU()),
        LayerNorm(6),
        Normalize(),
        prompts={"query": "water ", "document": ""},
        default_prompt_name="query",
    )
    made["Dense twice, with what goes in"] = model(
        "mean",
        Normalize(),
        Dense(width, width, use_residual=True),
        Dense(width, 5, activation_function=torch.nn.Identity(), use_residual=True),
    )
    for made_one in made.values():
        for parameter in (p for module in list(made_one)[2:] for p in module.parameters()):
            torch.nn.init.normal_(parameter, std=0.4)
    return made


def numbers(tensor):
    return [round(value, 7) for value in tensor.flatten().tolist()]


def entry(made):
    with tempfile.TemporaryDirectory() as folder:
        made.save(folder, create_model_card=False)
        files = {}
        for path in sorted(Path(folder).rglob("*")):
            name = str(path.relative_to(folder))
            if path.is_dir() or name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
                continue
            is_json = name.endswith(".json")
            files[name] = json.loads(path.read_text()) if is_json else base64.b64encode(path.read_bytes()).decode()
    embed = lambda **options: numbers(made.encode(TEXTS, convert_to_tensor=True, **options))
    return {"files": files, "embeddings": embed(), "without": embed(prompt="")}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--open")
    arguments = parser.parse_args()
    if arguments.open:
        print(json.dumps(numbers(SentenceTransformer(arguments.open, device="cpu").encode(TEXTS, convert_to_tensor=True))))
        return
    result = {
        "maker": "tools/golden/sentence_transformers.py",
        "versions": {module.__name__: module.__version__ for module in (torch, transformers, sentence_transformers)},
        "texts": TEXTS,
        "models": {name: entry(made) for name, made in models().items()},
    }
    (FOLDER / "embedders.json").write_text(json.dumps(result, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
