"""Random small networks of every architecture that peftjs reads, for random_checkpoints.py and random_adapters.py.

A new architecture is one entry of FAMILIES: a function that draws the settings of its config.json. Sizes are odd on
purpose, windows and tables of distances are shorter than the longest batch, and every setting that changes the network
takes each of its values. The same family and seed give the same network.
"""

import random
import zlib

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

STD = 0.2
MAX_POSITIONS = 64
# The lengths of the rows of each batch: single, mixed, and longer than every window below. The first is too short for
# next-token training.
BATCHES = [[1], [2, 7, 4], [41, 1, 23], [9, 16]]

AUTO = {
    "classes": AutoModelForSequenceClassification,
    "labels": AutoModelForSequenceClassification,
    "number": AutoModelForSequenceClassification,
    "tokens": AutoModelForTokenClassification,
    "next": AutoModelForCausalLM,
    "embeddings": AutoModel,
}
PROBLEMS = {
    "classes": "single_label_classification",
    "labels": "multi_label_classification",
    "number": "regression",
}
OF_TEXTS = ["classes", "labels", "number"]


def divisor(draw, number):
    return draw.choice([each for each in range(1, number + 1) if number % each == 0])


def sizes(draw, head_sizes=(4, 6, 7, 10)):
    """Draws the sizes of an encoder."""
    heads = draw.choice([1, 2, 3, 4])
    return {
        "vocab_size": draw.randint(50, 130),
        "hidden_size": heads * draw.choice(head_sizes),
        "num_hidden_layers": draw.randint(1, 3),
        "num_attention_heads": heads,
        "intermediate_size": draw.choice([17, 24, 40, 61]),
        "max_position_embeddings": MAX_POSITIONS,
    }


# Every pointwise activation name that transformers' encoders accept; the usual one is drawn most often.
ACTIVATIONS = ["gelu"] * 4 + ["gelu_new", "gelu_pytorch_tanh", "gelu_fast", "quick_gelu", "relu", "relu2", "silu", "swish", "tanh"]
GATES = ["silu"] * 6 + ["gelu", "gelu_pytorch_tanh", "relu", "relu2"]


def bert(draw):
    return {
        **sizes(draw),
        "hidden_act": draw.choice(ACTIVATIONS),
        "type_vocab_size": draw.choice([1, 2, 2, 3]),
        "layer_norm_eps": draw.choice([1e-12, 1e-5]),
        "pad_token_id": 0,
    }


def roberta(draw):
    padding = draw.choice([0, 1, 1, 2])
    return {**bert(draw), "type_vocab_size": draw.choice([1, 2]), "pad_token_id": padding, **wide_table(padding)}


def wide_table(padding):
    return {"max_position_embeddings": MAX_POSITIONS + padding + 1}


def distilbert(draw):
    own = sizes(draw)
    return {
        "vocab_size": own["vocab_size"],
        "dim": own["hidden_size"],
        "n_layers": own["num_hidden_layers"],
        "n_heads": own["num_attention_heads"],
        "hidden_dim": own["intermediate_size"],
        "max_position_embeddings": MAX_POSITIONS,
        "sinusoidal_pos_embds": draw.choice([False, False, True]),
        "activation": draw.choice(["gelu", "gelu", "relu"]),
    }


def electra(draw):
    own = bert(draw)
    return {**own, "embedding_size": draw.choice([own["hidden_size"], 13, 32])}


def deberta(draw):
    """Draws settings of version 3 as released, version 2 as released, or any mixture."""
    own = sizes(draw)
    relative = draw.choice([-1, 16, 32])
    return {
        **own,
        "hidden_act": draw.choice(ACTIVATIONS),
        "type_vocab_size": draw.choice([0, 0, 2]),
        "relative_attention": True,
        "max_relative_positions": relative,
        "position_buckets": draw.choice([-1, 4, 6, 8]),
        "position_biased_input": draw.choice([True, False]),
        "pos_att_type": draw.choice(["p2c|c2p", ["c2p", "p2c"], "c2p", "p2c"]),
        "share_att_key": draw.choice([True, False]),
        "norm_rel_ebd": draw.choice(["layer_norm", "none"]),
    }


def mpnet(draw):
    return {
        **sizes(draw),
        "hidden_act": draw.choice(ACTIVATIONS),
        "relative_attention_num_buckets": 32,  # transformers always computes 32 buckets
        "layer_norm_eps": draw.choice([1e-12, 1e-5]),
        "pad_token_id": 1,
        **wide_table(1),
    }


def modernbert(draw):
    own = sizes(draw, head_sizes=(4, 6, 10))
    layers = own["num_hidden_layers"] = draw.randint(1, 4)
    return {
        **own,
        "hidden_activation": draw.choice(ACTIVATIONS),
        "local_attention": draw.choice([4, 6, 10]),
        "layer_types": [draw.choice(["full_attention", "sliding_attention"]) for _ in range(layers)],
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": draw.choice([1000.0, 160000.0])},
            "sliding_attention": {"rope_type": "default", "rope_theta": draw.choice([500.0, 10000.0])},
        },
        "norm_bias": draw.choice([True, False]),
        "attention_bias": draw.choice([True, False]),
        "mlp_bias": draw.choice([True, False]),
        "classifier_bias": draw.choice([True, False]),
        "classifier_pooling": draw.choice(["cls", "mean"]),
        "classifier_activation": draw.choice(["gelu", "relu"]),
        "norm_eps": draw.choice([1e-5, 1e-6]),
        **special(),
        "cls_token_id": 1,
        "sep_token_id": 2,
    }


def special():
    return {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def gpt2(draw):
    heads = draw.choice([1, 2, 3])
    return {
        "vocab_size": draw.randint(50, 130),
        "n_positions": MAX_POSITIONS,
        "n_embd": heads * draw.choice([4, 7, 10]),
        "n_layer": draw.randint(1, 3),
        "n_head": heads,
        "n_inner": draw.choice([None, 17, 61]),
        "activation_function": draw.choice(["gelu_new", "gelu_new", "gelu", "relu", "silu"]),
        "scale_attn_weights": draw.choice([True, True, True, False]),
        "scale_attn_by_inverse_layer_idx": draw.choice([False, False, True]),
        "tie_word_embeddings": draw.choice([True, True, False]),
        **special(),
    }


def decoder(draw, own_head_dim=True):
    """Draws the settings that Llama and its relatives share, with a separate head size where the family supports it."""
    heads = draw.choice([2, 3, 4, 6])
    size = draw.choice([4, 6, 8, 10])
    is_own = own_head_dim and draw.random() < 0.5
    return {
        "vocab_size": draw.randint(50, 130),
        "hidden_size": heads * (draw.choice([5, 7, 9]) if is_own else size),
        "num_hidden_layers": draw.randint(1, 4),
        "num_attention_heads": heads,
        "num_key_value_heads": divisor(draw, heads),
        **({"head_dim": size} if own_head_dim else {}),
        "intermediate_size": draw.choice([17, 24, 40, 61]),
        "max_position_embeddings": MAX_POSITIONS,
        "rms_norm_eps": draw.choice([1e-6, 1e-5]),
        "hidden_act": draw.choice(GATES),
        "tie_word_embeddings": draw.choice([True, False]),
        "rope_parameters": rope(draw),
        **special(),
    }


def rope(draw, kinds=("default", "default", "linear", "llama3", "dynamic", "yarn", "longrope"), size=None):
    kind = draw.choice(kinds)
    parameters = {"rope_type": kind, "rope_theta": draw.choice([500.0, 10000.0, 1000000.0])}
    if kind in ("linear", "dynamic", "yarn", "llama3"):
        parameters["factor"] = draw.choice([2.0, 3.5])
    if kind == "llama3":
        parameters.update(low_freq_factor=1.0, high_freq_factor=draw.choice([2.0, 4.0]), original_max_position_embeddings=20)
    if kind == "yarn":
        parameters["original_max_position_embeddings"] = draw.choice([16, 32])
        parameters.update(draw.choice([{}, {"beta_fast": 4.0, "beta_slow": 2.0}, {"attention_factor": 1.3}, {"truncate": False}]))
        parameters.update(draw.choice([{}, {}, {"mscale": 1.2, "mscale_all_dim": 0.7}]))
    if kind == "longrope":
        parameters["original_max_position_embeddings"] = draw.choice([16, 32])
        parameters["size"] = size
    return parameters


def finished_rope(draw, settings):
    """Adds longrope's factors: one for each pair of features of a head."""
    parameters = settings.get("rope_parameters") or {}
    if parameters.get("rope_type") != "longrope":
        return settings
    size = settings.get("head_dim") or settings["hidden_size"] // settings["num_attention_heads"]
    pairs = int(size * parameters.get("partial_rotary_factor", 1.0)) // 2
    del parameters["size"]
    parameters["short_factor"] = [round(draw.uniform(1, 1.5), 3) for _ in range(pairs)]
    parameters["long_factor"] = [round(draw.uniform(1.5, 4), 3) for _ in range(pairs)]
    return settings


def llama(draw):
    return {
        **finished_rope(draw, decoder(draw)),
        "attention_bias": draw.choice([False, False, True]),
        "mlp_bias": draw.choice([False, False, True]),
    }


def mistral(draw):
    return {**finished_rope(draw, decoder(draw)), "sliding_window": draw.choice([None, 1, 3, 8])}


def windowed(draw, settings):
    """Adds sliding windows as Qwen does: in the upper layers, or in the layers given by layer_types."""
    kind = draw.choice(["none", "upper", "named"])
    if kind == "none":
        return {**settings, "use_sliding_window": False}
    layers = settings["num_hidden_layers"]
    types = [draw.choice(["full_attention", "sliding_attention"]) for _ in range(layers)]
    named = {"layer_types": types} if kind == "named" else {"max_window_layers": draw.randint(0, layers)}
    return {**settings, "use_sliding_window": True, "sliding_window": draw.choice([3, 8]), **named}


def qwen2(draw):
    return windowed(draw, finished_rope(draw, decoder(draw, own_head_dim=False)))


def qwen3(draw):
    return {**windowed(draw, finished_rope(draw, decoder(draw))), "attention_bias": draw.choice([False, False, True])}


def smollm3(draw):
    own = finished_rope(draw, decoder(draw, own_head_dim=False))
    return {
        **own,
        "attention_bias": draw.choice([False, True]),
        "mlp_bias": draw.choice([False, True]),
        "no_rope_layers": [draw.choice([0, 1]) for _ in range(own["num_hidden_layers"])],
        **draw.choice([{}, {}, {"use_sliding_window": True, "sliding_window": 5}]),
    }


def gemma(draw):
    own = {**finished_rope(draw, decoder(draw)), "attention_bias": draw.choice([False, False, True])}
    # transformers treats "gelu" as its approximation, "gelu_pytorch_tanh".
    return {**own, "hidden_act": draw.choice(["gelu", "gelu_pytorch_tanh", "gelu_pytorch_tanh", "silu"])}


def gemma2(draw):
    own = decoder(draw)
    own.pop("hidden_act")
    return {
        **own,
        "hidden_size": own["num_attention_heads"] * draw.choice([4, 7, 10]),
        "hidden_activation": draw.choice(["gelu_pytorch_tanh", "gelu_pytorch_tanh", "gelu"]),
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "query_pre_attn_scalar": draw.choice([4, 9, 16]),
        "sliding_window": draw.choice([3, 8]),
        "layer_types": [draw.choice(["full_attention", "sliding_attention"]) for _ in range(own["num_hidden_layers"])],
        "final_logit_softcapping": draw.choice([None, 2.0, 30.0]),
        "attn_logit_softcapping": draw.choice([None, 1.0, 50.0]),
        "attention_bias": draw.choice([False, False, True]),
    }


def gemma3(draw):
    return {
        **gemma2(draw),
        "final_logit_softcapping": draw.choice([None, None, 2.0]),
        "attn_logit_softcapping": None,
        "rope_parameters": {
            "full_attention": draw.choice(
                [
                    {"rope_type": "default", "rope_theta": 1000000.0},
                    {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0},
                ]
            ),
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        },
    }


def phi3(draw):
    own = decoder(draw, own_head_dim=False)
    heads = own["num_attention_heads"]
    own["hidden_size"] = heads * draw.choice([8, 16])
    partial = draw.choice([1.0, 1.0, 0.75, 0.5])
    own["rope_parameters"] = {**rope(draw, kinds=("default", "longrope")), "partial_rotary_factor": partial}
    original = own["rope_parameters"].pop("original_max_position_embeddings", MAX_POSITIONS)
    return {
        **finished_rope(draw, own),
        "original_max_position_embeddings": original,
        "sliding_window": draw.choice([None, 3, 8]),
    }


def olmo2(draw):
    return {
        **finished_rope(draw, decoder(draw, own_head_dim=False)),
        "attention_bias": draw.choice([False, False, True]),
    }


def granite(draw):
    return {
        **finished_rope(draw, decoder(draw, own_head_dim=False)),
        "attention_bias": draw.choice([False, False, True]),
        "mlp_bias": draw.choice([False, False, True]),
        "embedding_multiplier": draw.choice([1.0, 12.0]),
        "logits_scaling": draw.choice([1.0, 8.0]),
        "residual_multiplier": draw.choice([1.0, 0.22]),
        "attention_multiplier": draw.choice([1.0, 0.0625]),
    }


ENCODERS = {
    "bert": bert,
    "roberta": roberta,
    "xlm-roberta": roberta,
    "camembert": roberta,
    "distilbert": distilbert,
    "electra": electra,
    "deberta-v2": deberta,
    "mpnet": mpnet,
    "modernbert": modernbert,
}
DECODERS = {
    "gpt2": gpt2,
    "llama": llama,
    "mistral": mistral,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "smollm3": smollm3,
    "gemma": gemma,
    "gemma2": gemma2,
    "gemma3_text": gemma3,
    "phi3": phi3,
    "olmo2": olmo2,
    "granite": granite,
}
FAMILIES = {**ENCODERS, **DECODERS}


def config_of(family, draw):
    return AutoConfig.for_model(family, **FAMILIES[family](draw))


def heads_of(family, config):
    """Returns the heads of a family that transformers has and peftjs reads."""
    wanted = [*OF_TEXTS, "tokens", *(["next"] if family in DECODERS else [])]
    return [head for head in wanted if type(config) in AUTO[head]._model_mapping]


def network(config, head, labels, seed):
    """Returns a network in evaluation mode whose random weights are large enough that an error in any of them shows in
    the logits."""
    own = type(config).from_dict(config.to_dict())
    if head in (*OF_TEXTS, "tokens"):
        own.num_labels = labels
    if head in PROBLEMS:
        own.problem_type = PROBLEMS[head]
    model = AUTO[head].from_config(own, attn_implementation="eager", dtype=torch.float32).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre = 1.0 if bool((parameter == 1).all()) else 0.0
            parameter.copy_(centre + STD * noise(parameter.shape, seed, name))
    return model


def noise(shape, *names):
    """Returns the same numbers for the same names."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(number_of(*names)))


def number_of(*names):
    return zlib.crc32("/".join(map(str, names)).encode())


def drawing(*names):
    return random.Random(number_of(*names))


def batch(config, number, seed):
    """Returns token ids, padded on the right, and token types if the network has several. No real token is the padding
    or end token."""
    lengths = BATCHES[number]
    shape = (len(lengths), max(lengths))
    generator = torch.Generator().manual_seed(number_of(seed, "batch", number))
    mask = torch.tensor([[int(place < length) for place in range(shape[1])] for length in lengths])
    ids = torch.randint(3, config.vocab_size, shape, generator=generator)
    padding = getattr(config, "pad_token_id", 0) or 0
    inputs = {"input_ids": torch.where(mask == 1, ids, padding), "attention_mask": mask}
    types = getattr(config, "type_vocab_size", 0)
    if types > 1:
        inputs["token_type_ids"] = torch.randint(0, types, shape, generator=generator) * mask
    return inputs


def labels_of(head, labels, inputs, seed):
    """Returns the labels of a batch: -100 for padding and, for token labels, for some other tokens too."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    rows = len(ids)
    generator = torch.Generator().manual_seed(number_of(seed, "labels"))
    if head == "classes":
        return torch.randint(0, labels, (rows,), generator=generator)
    if head == "labels":
        return torch.randint(0, 2, (rows, labels), generator=generator).float()
    if head == "number":
        return torch.randn(rows, generator=generator)
    if head == "tokens":
        return torch.where((mask == 1) & (ids % 4 != 0), ids % labels, -100)
    return torch.where(mask == 1, ids, -100)


def linear_names(model):
    """Returns the last names of the modules that LoRA can adapt in every layer."""
    names = set()
    for name, module in model.base_model.named_modules():
        is_linear = isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"
        if is_linear and any(part.isdigit() for part in name.split(".")):
            names.add(name.rsplit(".", 1)[-1])
    return sorted(names)
