"""Makes tests/models/fixtures/<network>-tiny with transformers and PEFT: small random networks and their outputs.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2
    /tmp/golden/bin/python tools/golden/architectures.py && npx oxfmt 'tests/models/fixtures/*-tiny/*.json' 'packages/models/test/fixtures/*.json'

Each expected.json records the versions that made the committed files. All weights are random, including biases and
norms, and large enough that a mistake in any of them shows in the logits. They are stored in bfloat16 to keep the files
small. A folder holds

    config.json, model.safetensors   the network with its head for three classes, as save_pretrained writes them
    heads.safetensors                the heads of its other classes: <head>/<key>
    expected.safetensors             batches, hidden states, logits, and gradients of PEFT's LoRA: see `outputs` and `gradients`
    expected.json                    the versions, and the shapes of all weights under each head
"""

import sys
from pathlib import Path

# safetensors.py next to this script would hide the library.
sys.path = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

import json

import peft
import torch
import transformers
from peft import LoraConfig, TaskType, get_peft_model
from safetensors.torch import save_file
from transformers import (
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    DebertaV2ForTokenClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DistilBertForTokenClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    ElectraForTokenClassification,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma2ForSequenceClassification,
    Gemma2ForTokenClassification,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    Gemma3TextForSequenceClassification,
    GemmaConfig,
    GemmaForCausalLM,
    GemmaForSequenceClassification,
    GemmaForTokenClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2ForTokenClassification,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
    MistralConfig,
    MistralForCausalLM,
    MistralForSequenceClassification,
    MistralForTokenClassification,
    Olmo2Config,
    Olmo2ForCausalLM,
    Olmo2ForSequenceClassification,
    Phi3Config,
    Phi3ForCausalLM,
    Phi3ForSequenceClassification,
    Phi3ForTokenClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    ModernBertForTokenClassification,
    MPNetConfig,
    MPNetForSequenceClassification,
    MPNetForTokenClassification,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForSequenceClassification,
    Qwen2ForTokenClassification,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3ForSequenceClassification,
    Qwen3ForTokenClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    SmolLM3Config,
    SmolLM3ForCausalLM,
    SmolLM3ForSequenceClassification,
    SmolLM3ForTokenClassification,
)
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests/models/fixtures"
TABLES = ROOT / "packages/models/test/fixtures"
VERSIONS = {
    "python": sys.version.split()[0],
    "torch": torch.__version__,
    "transformers": transformers.__version__,
    "peft": peft.__version__,
}

VOCABULARY = 80
PADDING = 0
# The lengths of the rows of each batch, from one token to beyond the last bucket of DeBERTa's distances below.
BATCHES = [[1], [2, 7, 4], [40, 1, 23]]
# The batch whose gradients are kept.
GRADIENTS = 1
STD = 0.2
RANK, ALPHA = 2, 4

BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
DISTILBERT = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
LLAMA = {**BERT, "num_key_value_heads": 2}
BUCKETS = {"position_buckets": 8, "max_relative_positions": 32}

# The configuration of each network, and its classes for texts, tokens and the next token.
NETWORKS = {
    "distilbert": (
        DistilBertConfig(vocab_size=VOCABULARY, max_position_embeddings=48, **DISTILBERT),
        (DistilBertForSequenceClassification, DistilBertForTokenClassification),
    ),
    "roberta": (
        RobertaConfig(vocab_size=VOCABULARY, max_position_embeddings=42, type_vocab_size=1, pad_token_id=1, **BERT),
        (RobertaForSequenceClassification, RobertaForTokenClassification),
    ),
    "electra": (
        ElectraConfig(vocab_size=VOCABULARY, max_position_embeddings=48, embedding_size=16, **BERT),
        (ElectraForSequenceClassification, ElectraForTokenClassification),
    ),
    # The settings of deberta-v3-base.
    "deberta-v3": (
        DebertaV2Config(
            vocab_size=VOCABULARY,
            max_position_embeddings=48,
            relative_attention=True,
            position_biased_input=False,
            pos_att_type="p2c|c2p",
            share_att_key=True,
            norm_rel_ebd="layer_norm",
            **BUCKETS,
            **BERT,
        ),
        (DebertaV2ForSequenceClassification, DebertaV2ForTokenClassification),
    ),
    # All other settings: position and type embeddings, clipped distances, separate projections, and one attention term.
    "deberta-v2": (
        DebertaV2Config(
            vocab_size=VOCABULARY,
            max_position_embeddings=48,
            type_vocab_size=2,
            relative_attention=True,
            max_relative_positions=16,
            pos_att_type="c2p",
            **BERT,
        ),
        (DebertaV2ForSequenceClassification, DebertaV2ForTokenClassification),
    ),
    "mpnet": (
        MPNetConfig(vocab_size=VOCABULARY, max_position_embeddings=42, **BERT),
        (MPNetForSequenceClassification, MPNetForTokenClassification),
    ),
    # The settings of ModernBERT-base; the longest row is longer than the window.
    "modernbert": (
        ModernBertConfig(
            vocab_size=VOCABULARY,
            max_position_embeddings=48,
            local_attention=14,
            initializer_cutoff_factor=2.5,
            pad_token_id=PADDING,
            bos_token_id=1,
            eos_token_id=2,
            cls_token_id=1,
            sep_token_id=2,
            **BERT,
        ),
        (ModernBertForSequenceClassification, ModernBertForTokenClassification),
    ),
    # All other settings: mean pooling, biases, another activation, and another order of the two kinds of layer.
    "modernbert-biased": (
        ModernBertConfig(
            vocab_size=VOCABULARY,
            max_position_embeddings=48,
            local_attention=5,
            initializer_cutoff_factor=2.5,
            layer_types=["sliding_attention", "full_attention"],
            rope_parameters={
                "full_attention": {"rope_type": "default", "rope_theta": 1000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
            },
            norm_bias=True,
            attention_bias=True,
            mlp_bias=True,
            classifier_bias=True,
            classifier_pooling="mean",
            hidden_activation="silu",
            classifier_activation="relu",
            pad_token_id=PADDING,
            bos_token_id=1,
            eos_token_id=2,
            cls_token_id=1,
            sep_token_id=2,
            **BERT,
        ),
        (ModernBertForSequenceClassification, ModernBertForTokenClassification),
    ),
    "gpt2": (
        GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=48,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_inner=64,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=PADDING,
        ),
        (GPT2ForSequenceClassification, GPT2ForTokenClassification, GPT2LMHeadModel),
    ),
    # With a separate head size, and tied embeddings as in SmolLM.
    "llama": (
        LlamaConfig(
            vocab_size=VOCABULARY,
            max_position_embeddings=48,
            head_dim=16,
            tie_word_embeddings=True,
            pad_token_id=PADDING,
            **LLAMA,
        ),
        (LlamaForSequenceClassification, LlamaForTokenClassification, LlamaForCausalLM),
    ),
    "qwen2": (
        Qwen2Config(vocab_size=VOCABULARY, max_position_embeddings=48, pad_token_id=PADDING, **LLAMA),
        (Qwen2ForSequenceClassification, Qwen2ForTokenClassification, Qwen2ForCausalLM),
    ),
}

# Networks similar to Llama, with sizes that are not powers of two, and windows that are shorter than the longer
# batches.
DECODER = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 48,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": PADDING,
}
SLIDING = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 5}
FACTORS = {
    "short_factor": [1.0, 1.1, 1.3, 1.6, 2.0],
    "long_factor": [1.0, 1.7, 3.1, 4.3, 6.0],
}

DECODERS = {
    "qwen3": (
        Qwen3Config(
            head_dim=10,
            tie_word_embeddings=True,
            use_sliding_window=True,
            sliding_window=6,
            max_window_layers=1,
            **DECODER,
        ),
        (Qwen3ForSequenceClassification, Qwen3ForTokenClassification, Qwen3ForCausalLM),
    ),
    "mistral": (
        MistralConfig(sliding_window=5, **DECODER),
        (MistralForSequenceClassification, MistralForTokenClassification, MistralForCausalLM),
    ),
    # The second layer has no positions, but a window.
    "smollm3": (
        SmolLM3Config(no_rope_layers=[1, 0], use_sliding_window=True, sliding_window=7, **DECODER),
        (SmolLM3ForSequenceClassification, SmolLM3ForTokenClassification, SmolLM3ForCausalLM),
    ),
    # Ten of the sixteen features of a head are rotated.
    "phi3": (
        Phi3Config(
            original_max_position_embeddings=16,
            sliding_window=20,
            rope_parameters={"rope_type": "longrope", "partial_rotary_factor": 0.625, "rope_theta": 10000.0, **FACTORS},
            **{**DECODER, "hidden_size": 64, "intermediate_size": 24},
        ),
        (Phi3ForSequenceClassification, Phi3ForTokenClassification, Phi3ForCausalLM),
    ),
    "gemma": (
        GemmaConfig(head_dim=10, **{**DECODER, "num_key_value_heads": 1}),
        (GemmaForSequenceClassification, GemmaForTokenClassification, GemmaForCausalLM),
    ),
    "gemma2": (
        Gemma2Config(
            head_dim=10,
            query_pre_attn_scalar=7,
            attn_logit_softcapping=1.5,
            final_logit_softcapping=2.5,
            **SLIDING,
            **DECODER,
        ),
        (Gemma2ForSequenceClassification, Gemma2ForTokenClassification, Gemma2ForCausalLM),
    ),
    "gemma3": (
        Gemma3TextConfig(
            head_dim=10,
            query_pre_attn_scalar=7,
            rope_parameters={
                "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
                "full_attention": {"rope_type": "linear", "rope_theta": 1000.0, "factor": 3.0},
            },
            **SLIDING,
            **DECODER,
        ),
        (Gemma3TextForSequenceClassification, None, Gemma3ForCausalLM),
    ),
    "olmo2": (
        Olmo2Config(**DECODER),
        (Olmo2ForSequenceClassification, None, Olmo2ForCausalLM),
    ),
    "granite": (
        GraniteConfig(
            embedding_multiplier=3.0,
            attention_multiplier=0.3,
            residual_multiplier=0.6,
            logits_scaling=1.7,
            attention_bias=True,
            mlp_bias=True,
            **DECODER,
        ),
        (None, None, GraniteForCausalLM),
    ),
}

NETWORKS |= DECODERS

# PEFT has no default target modules for these.
TARGETS = {
    "distilbert": ["q_lin", "v_lin"],
    "mpnet": ["q", "v"],
    "modernbert": ["Wqkv"],
    "modernbert-biased": ["Wqkv"],
    "phi3": ["qkv_proj"],
    **{name: ["q_proj", "v_proj"] for name in ("smollm3", "olmo2", "granite")},
}

# A regression head is a classification head of another width: the first networks have tested it.
WITHOUT_NUMBER = {"mpnet", "modernbert", "modernbert-biased", *DECODERS}

# The name of each head in the files, with its class, its number of labels and its task type in PEFT.
HEADS = {
    "classes": (0, 3, TaskType.SEQ_CLS),
    "number": (0, 1, TaskType.SEQ_CLS),
    "tokens": (1, 5, TaskType.TOKEN_CLS),
    "next": (2, None, TaskType.CAUSAL_LM),
}


def draw(name, shape, centre=0.0):
    """Returns random numbers rounded to bfloat16, the same for the same name and shape."""
    seed = sum((place + 1) * ord(letter) for place, letter in enumerate(name))
    values = centre + STD * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return values.to(torch.bfloat16).float()


def heads_of(name):
    """Returns the heads that transformers has for a network; its folder is saved with the first one."""
    classes = NETWORKS[name][1]
    heads = [head for head, (kind, *_) in HEADS.items() if kind < len(classes) and classes[kind] is not None]
    return [head for head in heads if head != "number" or name not in WITHOUT_NUMBER]


def network(name, head):
    """Returns a network with random weights, in evaluation mode, that is without dropout."""
    config, classes = NETWORKS[name]
    kind, labels, _ = HEADS[head]
    config = type(config).from_dict({**config.to_dict(), **({"num_labels": labels} if labels else {})})
    config._attn_implementation = "eager"
    model = classes[kind](config).eval()
    centre = 0.0 if name.startswith("gemma") else 1.0  # Gemma adds 1 to its gains
    norms = {key for key, module in model.named_modules() if "norm" in type(module).__name__.lower()}
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            is_gain = key.endswith("weight") and key.rsplit(".", 1)[0] in norms
            parameter.copy_(draw(key, parameter.shape, centre if is_gain else 0.0))
    return model


def batch(name, number):
    """Returns token ids with padding at the end of each row, and token types if the network has two."""
    lengths = BATCHES[number]
    config, _ = NETWORKS[name]
    generator = torch.Generator().manual_seed(number)
    shape = (len(lengths), max(lengths))
    mask = torch.tensor([[int(place < length) for place in range(shape[1])] for length in lengths])
    ids = torch.randint(3, VOCABULARY, shape, generator=generator)
    inputs = {"input_ids": torch.where(mask == 1, ids, config.pad_token_id), "attention_mask": mask}
    if getattr(config, "type_vocab_size", 0) == 2:
        inputs["token_type_ids"] = torch.randint(0, 2, shape, generator=generator) * mask
    return inputs


def labels(head, inputs):
    """Returns the labels of a batch; -100 for padding and, for token labels, also for some other tokens."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    rows = torch.arange(len(ids))
    return {
        "classes": lambda: (rows + 1) % 3,
        "number": lambda: rows.float() - 0.7,
        "tokens": lambda: torch.where((mask == 1) & (ids % 4 != 0), ids % 5, -100),
        "next": lambda: torch.where(mask == 1, ids, -100),
    }[head]()


def outputs(name, head):
    """Returns the logits of each batch as <head>/<batch>/logits, for every token of a token task. Next-token logits
    only of short batches."""
    model = network(name, head)
    logits = {}
    for number, lengths in enumerate(BATCHES):
        if head == "next" and max(lengths) > 10:
            continue
        with torch.no_grad():
            logits[f"{head}/{number}/logits"] = model(**batch(name, number)).logits
    return logits


def hidden_states(name):
    """Returns <batch>/hidden: the output of the last layer and its norm for each token; 0 for padding."""
    body = network(name, heads_of(name)[-1]).base_model
    hidden = {}
    for number in range(len(BATCHES)):
        inputs = batch(name, number)
        with torch.no_grad():
            hidden[f"{number}/hidden"] = body(**inputs).last_hidden_state * inputs["attention_mask"][:, :, None]
    return hidden


def gradients(name, head):
    """Returns the loss of one batch and the gradients of A and B, with PEFT's LoRA on its default modules and random A
    and B."""
    config = LoraConfig(task_type=HEADS[head][2], r=RANK, lora_alpha=ALPHA, target_modules=TARGETS.get(name))
    model = get_peft_model(network(name, head), config).eval()
    kept = {}
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                parameter.copy_(draw(key, parameter.shape))
    inputs = batch(name, GRADIENTS)
    output = model(**inputs, labels=labels(head, inputs))
    output.loss.backward()
    for key, parameter in model.named_parameters():
        if "lora_" in key:
            path = key.removeprefix("base_model.model.").replace(".default", "")
            kept[f"lora/{path}"] = parameter.detach()
            kept[f"{head}/gradient/{path}"] = parameter.grad
    return {**kept, f"{head}/loss": output.loss.detach()}


def tied_gradient(name):
    """Returns the gradient of an embedding table that is also the language-model head, so that both uses contribute."""
    model = network(name, "next")
    inputs = batch(name, GRADIENTS)
    model(**inputs, labels=labels("next", inputs)).loss.backward()
    return {"next/gradient/table": model.get_input_embeddings().weight.grad}


def norm_gradient(name):
    """Returns the gradient of the last norm's weight, which in some networks differs from the gain."""
    model = network(name, "next")
    inputs = batch(name, GRADIENTS)
    model(**inputs, labels=labels("next", inputs)).loss.backward()
    return {"next/gradient/norm": model.base_model.norm.weight.grad}


def contiguous(tensors):
    return {key: tensor.detach().clone().contiguous() for key, tensor in tensors.items()}


def write(name):
    folder = FIXTURES / f"{name}-tiny"
    folder.mkdir(parents=True, exist_ok=True)
    heads = heads_of(name)
    model = network(name, heads[0])
    model.to(torch.bfloat16).save_pretrained(folder)
    own = model.state_dict()
    others, expected, keys = {}, hidden_states(name), {}
    for number in range(len(BATCHES)):
        expected.update({f"{number}/{key}": tensor for key, tensor in batch(name, number).items()})
    for head in heads:
        state = network(name, head).state_dict()
        keys[head] = {key: list(tensor.shape) for key, tensor in state.items()}
        for key, tensor in state.items():
            if head != heads[0] and (key not in own or own[key].shape != tensor.shape):
                others[f"{head}/{key}"] = tensor.to(torch.bfloat16)
        expected.update(outputs(name, head))
        if head == "tokens" and name in DECODERS:
            continue  # the gradients under its other heads test the same network
        expected.update({f"{head}/labels": labels(head, batch(name, GRADIENTS))})
        expected.update(gradients(name, head))
    if NETWORKS[name][0].tie_word_embeddings:
        others.pop("next/lm_head.weight", None)
        if "next" in heads:
            expected.update(tied_gradient(name))
    if name == "gemma2":
        expected.update(norm_gradient(name))
    save_file(contiguous(others), folder / "heads.safetensors", metadata={"format": "pt"})
    small = {key: tensor.to(torch.int32) if tensor.dtype == torch.int64 else tensor for key, tensor in expected.items()}
    save_file(contiguous(small), folder / "expected.safetensors", metadata={"format": "pt"})
    facts = {"maker": "tools/golden/architectures.py", "versions": VERSIONS, "keys": keys}
    (folder / "expected.json").write_text(json.dumps(facts) + "\n")


ROPES = [
    {"rope_type": "default", "rope_theta": 10000.0},
    {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
    {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0},
    # The settings of Qwen3 for long texts.
    {"rope_type": "yarn", "rope_theta": 1000000.0, "factor": 4.0, "original_max_position_embeddings": 32768},
    {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 40.0,
        "original_max_position_embeddings": 4096,
        "beta_fast": 20,
        "beta_slow": 2,
        "mscale": 0.707,
        "mscale_all_dim": 0.5,
        "truncate": False,
    },
    {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "original_max_position_embeddings": 4096,
        "short_factor": [1 + place / 40 for place in range(32)],
        "long_factor": [1 + place * place / 20 for place in range(32)],
    },
]
LONGEST = 131072


def frequencies(rope):
    """Returns the frequencies of heads of 64 features and the factor of cosines and sines; for longrope also those of
    the longest texts."""
    given = dict(rope)
    config = LlamaConfig(hidden_size=2048, num_attention_heads=32, max_position_embeddings=LONGEST, rope_parameters=rope)
    embedding = LlamaRotaryEmbedding(config)
    shown = lambda values: [float(f"{x:.9g}") for x in values]
    table = {"rope": given, "values": shown(embedding.inv_freq), "factor": float(f"{embedding.attention_scaling:.9g}")}
    if rope["rope_type"] == "longrope":
        long, _ = ROPE_INIT_FUNCTIONS["longrope"](config, seq_len=LONGEST)
        table["long"] = shown(long)
    return table


def rows(buckets, most):
    positions = make_log_bucket_position(torch.arange(-600, 601), buckets, most).to(torch.long)
    return {"buckets": buckets, "most": most, "values": torch.clamp(positions + buckets, 0, 2 * buckets - 1).tolist()}


def write_tables():
    """Writes tables that tiny networks do not cover, for packages/models/test."""
    for name, values in {
        # The rows of the table of relative positions for the distances -600 to 600; the first table is that of
        # deberta-v3-base.
        "relative": {"tables": [rows(buckets, most) for buckets, most in ((256, 512), (8, 32), (5, 20))]},
        # The buckets of MPNet for the distances -600 to 600.
        "mpnet-buckets": {"tables": MPNetEncoder.relative_position_bucket(torch.arange(-600, 601)).tolist()},
        # The frequencies of heads of 64 features; the second table is that of Llama 3.2 1B.
        "rope": {"tables": [frequencies(rope) for rope in ROPES]},
    }.items():
        content = {"maker": "tools/golden/architectures.py", "versions": VERSIONS, **values}
        TABLES.mkdir(parents=True, exist_ok=True)
        (TABLES / f"{name}.json").write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    write_tables()
    for each in sys.argv[1:] or NETWORKS:
        write(each)
