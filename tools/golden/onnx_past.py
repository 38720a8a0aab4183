"""Compares exported language models with transformers: random checkpoints, whose ONNX graphs run here in onnxruntime.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 onnxruntime==1.32.0
    venv/bin/python tools/golden/onnx_past.py make FOLDER
    npx tsx --conditions @peftjs/source tools/golden/write-onnx.ts FOLDER
    venv/bin/python tools/golden/onnx_past.py check FOLDER

`make` writes a checkpoint of each architecture, with unusual sizes. write-onnx.ts exports each in float32 and in 8
bits, and generates 64 tokens with it. `check` runs batches of 1 to 7 texts of 1 to 128 tokens, padded on the left, in
one call and in two, and generates the 64 tokens one by one. Fails at the first graph whose logits differ from those of
transformers by more than 1e-4.
"""

import sys

sys.path.append(sys.path.pop(0))  # safetensors.py next to this script would hide the library

import json
from pathlib import Path

import numpy as np
import onnxruntime
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

VERSIONS = {
    "python": sys.version.split()[0],
    "torch": torch.__version__,
    "transformers": transformers.__version__,
    "onnxruntime": onnxruntime.__version__,
}
TOLERANCE = 1e-4
WORDS = 97
POSITIONS = 192
LENGTHS = (1, 2, 3, 5, 17, 64, 96, 127, 128)
PROMPTS = ([5, 9, 11], [3], list(range(4, 44)))

SIZES = dict(
    vocab_size=WORDS,
    hidden_size=36,
    intermediate_size=50,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    max_position_embeddings=POSITIONS,
    bos_token_id=0,
    eos_token_id=1,
    pad_token_id=2,
    initializer_range=0.2,
)
LOCAL = dict(sliding_window=10, head_dim=10)
CONFIGS = {
    "gpt2": dict(
        vocab_size=WORDS, n_positions=POSITIONS, n_embd=30, n_layer=3, n_head=5, n_inner=44, initializer_range=0.2,
        bos_token_id=0, eos_token_id=1, pad_token_id=2,
    ),
    "llama": dict(SIZES, head_dim=10),
    "qwen2": dict(SIZES, tie_word_embeddings=True),
    "qwen3": dict(SIZES, head_dim=14, tie_word_embeddings=True),
    "mistral": dict(SIZES, **LOCAL),
    "smollm3": dict(SIZES),
    "phi3": dict(SIZES, sliding_window=9),
    "gemma": dict(SIZES, head_dim=10),
    "gemma2": dict(SIZES, **LOCAL, query_pre_attn_scalar=7),
    "gemma3_text": dict(SIZES, **LOCAL, query_pre_attn_scalar=7),
    "olmo2": dict(SIZES),
    "granite": dict(SIZES, attention_multiplier=0.3, embedding_multiplier=1.5, residual_multiplier=0.4, logits_scaling=2.0),
}
# A tokenizer, required but unused here.
TOKENIZER = {
    "version": "1.0",
    "added_tokens": [{"id": 2, "content": "<pad>", "special": True}],
    "normalizer": None,
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": {f"t{number}": number for number in range(WORDS)}, "unk_token": "t3"},
}


def make(folder):
    for number, (name, settings) in enumerate(CONFIGS.items()):
        torch.manual_seed(number)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **settings)).eval()
        with torch.no_grad():
            for parameter in model.parameters():  # norms and biases are ones and zeros at first
                if parameter.dim() == 1:
                    parameter.add_(0.2 * torch.randn_like(parameter))
        model.save_pretrained(folder / name)
        (folder / name / "tokenizer.json").write_text(json.dumps(TOKENIZER))
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"}
        (folder / name / "tokenizer_config.json").write_text(json.dumps(settings))


def relative_distance(a, b):
    """||a - b|| / ||b||"""
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


class Graph:
    """A graph, called as transformers.js calls it."""

    def __init__(self, path, name):
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        self.session = onnxruntime.InferenceSession(str(path), options)
        self.first = 1 if name == "gemma3_text" else 0

    def empty(self, rows):
        own = [one for one in self.session.get_inputs() if one.name.startswith("past_key_values")]
        return {one.name: np.zeros((rows, one.shape[1], 0, one.shape[3]), np.float32) for one in own}

    def run(self, ids, mask, past):
        positions = np.where(mask == 0, 1, self.first + np.cumsum(mask, 1) - 1)[:, -ids.shape[1] :]
        feeds = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, **past}
        accepted = {one.name for one in self.session.get_inputs()}
        names = [one.name for one in self.session.get_outputs()]
        outputs = dict(zip(names, self.session.run(None, {key: value for key, value in feeds.items() if key in accepted})))
        logits = outputs.pop("logits")
        return logits, {key.replace("present", "past_key_values"): value for key, value in outputs.items()}


def batches(seed):
    """Yields ids and masks [rows, tokens], padded on the left."""
    random = np.random.default_rng(seed)
    for rows in range(1, 8):
        for tokens in LENGTHS:
            lengths = random.integers(1, tokens + 1, rows)
            lengths[random.integers(rows)] = tokens
            mask = (np.arange(tokens)[None] >= tokens - lengths[:, None]).astype(np.int64)
            yield np.where(mask == 1, random.integers(3, WORDS, (rows, tokens)), 2), mask


def theirs(model, ids, mask):
    with torch.no_grad():
        positions = np.where(mask == 0, 1, np.cumsum(mask, 1) - 1)
        tensors = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        return model(**{key: torch.tensor(value) for key, value in tensors.items()}, use_cache=False).logits.numpy()


def distances(model, graph, seed):
    """Returns the distances of logits computed in one call, and in two calls."""
    random = np.random.default_rng(seed)
    whole, halves = 0, 0
    for ids, mask in batches(seed):
        expected = theirs(model, ids, mask)[mask == 1]
        logits, _ = graph.run(ids, mask, graph.empty(len(ids)))
        whole = max(whole, relative_distance(logits[mask == 1], expected))
        if ids.shape[1] == 1:
            continue
        at = int(random.integers(1, ids.shape[1]))
        first, past = graph.run(ids[:, :at], mask[:, :at], graph.empty(len(ids)))
        second, _ = graph.run(ids[:, at:], mask, past)
        halves = max(halves, relative_distance(np.concatenate([first, second], 1)[mask == 1], expected))
    return whole, halves


def written(graph, prompt, count):
    ids, past, new = np.array([prompt], np.int64), graph.empty(1), []
    mask = np.ones_like(ids)
    for _ in range(count):
        logits, past = graph.run(ids, mask, past)
        new.append(int(logits[0, -1].argmax()))
        ids, mask = np.array([[new[-1]]], np.int64), np.concatenate([mask, [[1]]], 1)
    return new


def generated(model, prompt, count):
    model.generation_config.eos_token_id = None
    ids = torch.tensor([prompt])
    output = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False, pad_token_id=2)
    return output[0, len(prompt) :].tolist()


def check(folder):
    print(json.dumps(VERSIONS))
    for path in sorted(folder.glob("*/ours.json")):
        name = path.parent.name
        ours = json.loads(path.read_text())
        model = AutoModelForCausalLM.from_pretrained(path.parent, attn_implementation="eager").eval()
        graph = Graph(path.parent / "web/onnx/model.onnx", name)
        whole, halves = distances(model, graph, 1)
        rounded, _ = distances(model, Graph(path.parent / "web/onnx/model_quantized.onnx", name), 1)
        tokens = [written(graph, prompt, 64) for prompt in ours["prompts"]]
        print(f"{name}: {whole:.1e} at once, {halves:.1e} in two calls, {rounded:.1e} in 8 bits", flush=True)
        assert max(whole, halves) < TOLERANCE, name
        assert tokens == ours["tokens"], f"{name}: the graph writes {tokens}, peftjs {ours['tokens']}"
        expected = [generated(model, prompt, 64) for prompt in ours["prompts"]]
        assert tokens == expected, f"{name}: the graph writes {tokens}, transformers {expected}"


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    what, target = sys.argv[1:]
    {"make": make, "check": check}[what](Path(target).resolve())
