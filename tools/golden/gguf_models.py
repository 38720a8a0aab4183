"""Writes small random models of tests/models/fixtures as llama.cpp's converter does, with the tables of `gguf`.

    /tmp/golden/bin/pip install gguf==0.19.0 torch safetensors
    /tmp/golden/bin/python tools/golden/gguf_models.py

The logits that the tests expect are those of transformers for the original weights, made by architectures.py.
"""

import sys
from pathlib import Path

# This folder's scripts would hide libraries of the same name.
sys.path = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

import json
from importlib.metadata import version

import gguf
from safetensors.torch import load_file

FIXTURES = Path(__file__).resolve().parents[2] / "tests/models/fixtures"
ARCHITECTURES = {
    "llama": (gguf.MODEL_ARCH.LLAMA, "llama-bpe"),
    "qwen2": (gguf.MODEL_ARCH.QWEN2, "qwen2"),
    "qwen3": (gguf.MODEL_ARCH.QWEN3, "qwen2"),
    "olmo2": (gguf.MODEL_ARCH.OLMO2, "smollm"),
    "granite": (gguf.MODEL_ARCH.GRANITE, "refact"),
    "gpt2": (gguf.MODEL_ARCH.GPT2, "gpt-2"),
}
PERMUTED = ["llama", "granite"]
#: The modules that GPT-2 holds as [in, out].
CONV1D = ["c_attn.weight", "c_proj.weight", "c_fc.weight"]
SPECIAL = ["<pad>", "<s>", "</s>"]


def permuted(weights, heads):
    """The order of rows of Llama's queries and keys, as in convert_hf_to_gguf.py: LlamaModel.permute."""
    return weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def write(name):
    folder = FIXTURES / f"{name}-tiny"
    config = json.loads((folder / "config.json").read_text())
    keys = json.loads((folder / "expected.json").read_text())["keys"]["next"]
    weights, heads = load_file(folder / "model.safetensors"), load_file(folder / "heads.safetensors")
    architecture, pre = ARCHITECTURES[name]
    writer = gguf.GGUFWriter(FIXTURES / "gguf" / f"{name}.gguf", gguf.MODEL_ARCH_NAMES[architecture])
    writer.add_description(f"{name}-tiny, written by gguf {version('gguf')}")
    if name == "gpt2":
        write_gpt2(writer, config)
    else:
        write_rotary(writer, config, name)
    write_tokenizer(writer, config["vocab_size"], pre)
    names = gguf.get_tensor_name_map(architecture, config.get("num_hidden_layers") or config["n_layer"])
    for key in keys:
        if key == "lm_head.weight" and config["tie_word_embeddings"]:
            continue
        values = (heads[f"next/{key}"] if f"next/{key}" in heads else weights[key]).float().numpy()
        if key.endswith(tuple(CONV1D)):
            values = values.T.copy()
        if name in PERMUTED and ".q_proj." in key:
            values = permuted(values, config["num_attention_heads"])
        if name in PERMUTED and ".k_proj." in key:
            values = permuted(values, config["num_key_value_heads"])
        writer.add_tensor(names.get_name(key, try_suffixes=(".weight", ".bias")), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_gpt2(writer, config):
    writer.add_block_count(config["n_layer"])
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_feed_forward_length(config["n_inner"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])


def write_rotary(writer, config, name):
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    if name in ["llama", "granite"]:
        writer.add_vocab_size(config["vocab_size"])
        writer.add_rope_dimension_count(width)
    if "head_dim" in config:
        writer.add_key_length(width)
        writer.add_value_length(width)
    if name == "granite":
        writer.add_attention_scale(config["attention_multiplier"])
        writer.add_embedding_scale(config["embedding_multiplier"])
        writer.add_residual_scale(config["residual_multiplier"])
        writer.add_logit_scale(config["logits_scaling"])


def write_tokenizer(writer, size, pre):
    """A byte-level tokenizer of the characters from '!' on, and one merge."""
    letters = [chr(33 + i) for i in range(size - len(SPECIAL) - 1)]
    tokens = [*SPECIAL, *letters, "AB"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    kinds = gguf.TokenType
    writer.add_token_types([kinds.CONTROL] * len(SPECIAL) + [kinds.NORMAL] * (size - len(SPECIAL)))
    writer.add_token_merges(["A B"])
    writer.add_pad_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for message in messages %}{{ message.content }}</s>{% endfor %}")


(FIXTURES / "gguf").mkdir(exist_ok=True)
for each in ARCHITECTURES:
    write(each)
