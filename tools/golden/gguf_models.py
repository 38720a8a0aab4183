"""Writes small random models of tests/models/fixtures as llama.cpp's converter does, with the tables of `gguf`.

    /tmp/golden/bin/pip install gguf==0.19.0 sentencepiece==0.2.3 torch==2.15.0 transformers==5.24.0
    /tmp/golden/bin/python tools/golden/gguf_models.py && npx oxfmt tests/models/fixtures/gguf-tokens.json

The logits that the tests expect are those of transformers for the original weights, made by architectures.py. For models
whose settings a file cannot state, gguf.safetensors has those with the settings that llama.cpp assumes. gguf-tokens.json has
the tokens that transformers finds with the pieces of sentencepiece.gguf.
"""

import sys
from pathlib import Path

# This folder's scripts would hide libraries of the same name.
sys.path = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

import io
import json
import re
import tempfile
from importlib.metadata import version

import gguf
import numpy as np
import sentencepiece
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests/models/fixtures"
VERSIONS = {name: version(name) for name in ["gguf", "sentencepiece", "tokenizers", "torch", "transformers"]}
ARCHITECTURES = {
    "llama": (gguf.MODEL_ARCH.LLAMA, "llama-bpe"),
    "qwen2": (gguf.MODEL_ARCH.QWEN2, "qwen2"),
    "qwen3": (gguf.MODEL_ARCH.QWEN3, "qwen2"),
    "olmo2": (gguf.MODEL_ARCH.OLMO2, "smollm"),
    "granite": (gguf.MODEL_ARCH.GRANITE, "refact"),
    "gpt2": (gguf.MODEL_ARCH.GPT2, "gpt-2"),
    "smollm3": (gguf.MODEL_ARCH.SMOLLM3, "smaug-bpe"),
    "phi3": (gguf.MODEL_ARCH.PHI3, "gpt-4o"),
    # Gemma's pieces, as in sentencepiece.gguf, would be larger than the network.
    "gemma": (gguf.MODEL_ARCH.GEMMA, "dbrx"),
    "gemma2": (gguf.MODEL_ARCH.GEMMA2, "tekken"),
    "gemma3": (gguf.MODEL_ARCH.GEMMA3, "gpt-2"),
}
#: Settings in place of those that a file cannot state. Further layers repeat the first ones.
ASSUMED = {
    "qwen3": {"layer_types": ["full_attention"] * 2, "sliding_window": None, "use_sliding_window": False},
    "smollm3": {
        "num_hidden_layers": 4,
        "no_rope_layers": [1, 1, 1, 0],
        "layer_types": ["full_attention"] * 4,
        "sliding_window": None,
        "use_sliding_window": False,
    },
    "gemma2": {"query_pre_attn_scalar": 10},
    "gemma3": {
        "num_hidden_layers": 6,
        "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
        "query_pre_attn_scalar": 10,
    },
}
#: Settings of further logits, for files whose metadata the tests change.
CHANGED = {
    "qwen3-yarn": {
        **ASSUMED["qwen3"],
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    },
}
#: The batch of short texts in expected.safetensors of architectures.py.
BATCH = 1
PERMUTED = ["llama", "granite", "smollm3"]
GEMMAS = ["gemma", "gemma2", "gemma3"]
#: Written in BF16, which halves the files. Vectors stay in F32, as llama.cpp's converter leaves them.
HALVED = ["smollm3", "phi3", *GEMMAS]
#: The modules that GPT-2 holds as [in, out].
CONV1D = ["c_attn.weight", "c_proj.weight", "c_fc.weight"]
SPECIAL = ["<pad>", "<s>", "</s>"]


def permuted(weights, heads):
    """The order of rows of Llama's queries and keys, as in convert_hf_to_gguf.py: LlamaModel.permute."""
    return weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def settings_of(name):
    config = json.loads((FIXTURES / f"{name}-tiny/config.json").read_text())
    return {**config, **ASSUMED.get(name, {})}


def weights_of(name, config):
    """Returns the weights under the head of the next token, in float32, for all layers of the settings."""
    folder = FIXTURES / f"{name}-tiny"
    keys = json.loads((folder / "expected.json").read_text())["keys"]["next"]
    weights, heads = load_file(folder / "model.safetensors"), load_file(folder / "heads.safetensors")
    own = {}
    for key in keys:
        if key == "lm_head.weight" and config["tie_word_embeddings"]:
            continue
        values = (heads[f"next/{key}"] if f"next/{key}" in heads else weights[key]).float()
        layer = re.search(r"\.layers\.(\d+)\.", key)
        layers = range(int(layer[1]), config["num_hidden_layers"], 2) if layer else [None]
        for number in layers:
            own[key if layer is None else key.replace(layer[0], f".layers.{number}.")] = values
    return own


def expected_logits(name, changes):
    config = {**settings_of(name), **changes}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.float32).eval()
    missing, unexpected = model.load_state_dict(weights_of(name, config), strict=False)
    assert missing in ([], ["lm_head.weight"]) and not unexpected, (missing, unexpected)
    model.tie_weights()
    tensors = load_file(FIXTURES / f"{name}-tiny/expected.safetensors")
    inputs = {key: tensors[f"{BATCH}/{key}"].long() for key in ["input_ids", "attention_mask"]}
    with torch.no_grad():
        return model(**inputs).logits


def write(name):
    config = settings_of(name)
    architecture, pre = ARCHITECTURES[name]
    writer = gguf.GGUFWriter(FIXTURES / "gguf" / f"{name}.gguf", gguf.MODEL_ARCH_NAMES[architecture])
    writer.add_description(f"{name}-tiny, written by gguf {version('gguf')}")
    if name == "gpt2":
        write_gpt2(writer, config)
    else:
        write_rotary(writer, config, name)
    write_tokenizer(writer, config["vocab_size"], pre)
    names = gguf.get_tensor_name_map(architecture, config.get("num_hidden_layers") or config["n_layer"])
    for key, weights in weights_of(name, config).items():
        values = weights.numpy()
        if key.endswith(tuple(CONV1D)):
            values = values.T.copy()
        if name in PERMUTED and ".q_proj." in key:
            values = permuted(values, config["num_attention_heads"])
        if name in PERMUTED and ".k_proj." in key:
            values = permuted(values, config["num_key_value_heads"])
        if name in GEMMAS and key.endswith("norm.weight"):
            values = values + 1
        add(writer, names.get_name(key, try_suffixes=(".weight", ".bias")), values, name in HALVED)
    if name == "phi3":
        write_factors(writer, config)
    finish(writer)


def add(writer, name, values, is_halved=True):
    if not is_halved or values.ndim < 2:
        writer.add_tensor(name, values)
        return
    half = gguf.GGMLQuantizationType.BF16
    writer.add_tensor(name, gguf.quants.quantize(values, half), raw_dtype=half)


def finish(writer):
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
    rope = config["rope_parameters"]
    if name not in ["gemma", "gemma2"]:
        writer.add_rope_freq_base(rope.get("full_attention", rope)["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    if name in PERMUTED:
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
    if name == "phi3":
        writer.add_rope_dimension_count(int(rope["partial_rotary_factor"] * width))
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if name == "gemma2":
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if name == "gemma3":
        writer.add_rope_freq_base_swa(rope["sliding_attention"]["rope_theta"])
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["full_attention"]["factor"])
    if name in ["phi3", "gemma2", "gemma3"]:
        writer.add_sliding_window(config["sliding_window"])


def write_factors(writer, config):
    """As in convert_hf_to_gguf.py: Phi3MiniModel.generate_extra_tensors."""
    rope = config["rope_parameters"]
    original = rope["original_max_position_embeddings"]
    scale = config["max_position_embeddings"] / original
    writer.add_rope_scaling_attn_factors(float(np.sqrt(1 + np.log(scale) / np.log(original))))
    for name in ["long", "short"]:
        writer.add_tensor(f"rope_factors_{name}.weight", np.array(rope[f"{name}_factor"], dtype=np.float32))


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


#: What SentencePiece writes for a blank.
BLANK = "\u2581"
TEXTS = [
    "The licence applies to the software.",
    "  two  spaces, and one at the end ",
    " ",
    "",
    "na\u00efve caf\u00e9 \u5317\u4eac \U0001f999 e\u0301",
    "tab\tline\nlines\n\n12345",
    "<s>special</s> <tool> tool<tool>text <unk> <0x41>",
    "withoutlimitation, IN NO EVENT SHALL THE AUTHORS",
]


def trained_model():
    """Trains pieces on the licence of this repository."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter((ROOT / "LICENSE").read_text().splitlines()),
        model_writer=model,
        model_type="bpe",
        vocab_size=420,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=["<tool>", 2 * BLANK],
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def write_trained(path, model, architecture, adds_blank):
    """A network of one small layer with these pieces, as in convert_hf_to_gguf.py: _create_vocab_sentencepiece."""
    size, kinds = model.vocab_size(), gguf.TokenType
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_description(f"written by gguf {VERSIONS['gguf']}, pieces of sentencepiece {VERSIONS['sentencepiece']}")
    small = {"max_position_embeddings": 64, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    shared = {"num_attention_heads": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "vocab_size": size}
    write_rotary(writer, {**small, **shared, "rope_parameters": {"rope_theta": 10000.0}}, "llama")
    tokens, scores, types = [], [], []
    for id in range(size):
        token, score, kind = model.id_to_piece(id), model.get_score(id), kinds.NORMAL
        if model.is_unknown(id):
            kind = kinds.UNKNOWN
        elif model.is_control(id):
            kind = kinds.CONTROL
        elif model.is_byte(id):
            kind = kinds.BYTE
        elif token in ["<tool>", 2 * BLANK]:
            token, score, kind = token.replace(BLANK, " "), -1000.0, kinds.USER_DEFINED
        tokens.append(token)
        scores.append(score)
        types.append(kind)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(model.bos_id())
    writer.add_eos_token_id(model.eos_id())
    writer.add_unk_token_id(model.unk_id())
    if not adds_blank:
        writer.add_add_space_prefix(False)
    generator = np.random.default_rng(0)
    shapes = {"attn_q": (8, 8), "attn_k": (8, 8), "attn_v": (8, 8), "attn_output": (8, 8), "ffn_gate": (8, 8)}
    shapes = {**shapes, "ffn_up": (8, 8), "ffn_down": (8, 8), "attn_norm": (8,), "ffn_norm": (8,)}
    for name, shape in {**{f"blk.0.{key}": shape for key, shape in shapes.items()}, "output_norm": (8,)}.items():
        add(writer, f"{name}.weight", generator.normal(size=shape).astype(np.float32))
    add(writer, "token_embd.weight", generator.normal(size=(size, 8)).astype(np.float32))
    finish(writer)


def write_sentencepiece():
    """The tokens of each text as transformers reads them from a file of Phi-3, which puts a blank before texts, and of
    Gemma 2, which does not. SentencePiece itself finds the same in texts without special tokens."""
    model = trained_model()
    write_trained(FIXTURES / "gguf/sentencepiece.gguf", model, "llama", True)
    read = {}
    with tempfile.TemporaryDirectory() as folder:
        for architecture in ["phi3", "gemma2"]:
            write_trained(Path(folder) / "model.gguf", model, architecture, architecture == "phi3")
            read[architecture] = AutoTokenizer.from_pretrained(folder, gguf_file="model.gguf")
    texts = []
    for text in TEXTS:
        ids = {name: tokenizer(text)["input_ids"] for name, tokenizer in read.items()}
        if "<" not in text and "  " not in text and text.strip():
            assert ids["phi3"][1:] == model.encode(text), text
        decoded = read["phi3"].decode(ids["phi3"], skip_special_tokens=True)
        texts.append({"text": text, "withBlank": ids["phi3"], "withoutBlank": ids["gemma2"], "decoded": decoded})
    content = {"maker": "tools/golden/gguf_models.py", "versions": VERSIONS, "texts": texts}
    (FIXTURES / "gguf-tokens.json").write_text(json.dumps(content) + "\n")


transformers.utils.logging.set_verbosity_error()
(FIXTURES / "gguf").mkdir(exist_ok=True)
for each in ARCHITECTURES:
    write(each)
save_file(
    {
        **{name: expected_logits(name, {}).contiguous() for name in ASSUMED},
        **{name: expected_logits(name.split("-")[0], changes).contiguous() for name, changes in CHANGED.items()},
    },
    FIXTURES / "gguf.safetensors",
    metadata={"versions": json.dumps(VERSIONS)},
)
write_sentencepiece()
