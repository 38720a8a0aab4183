"""Makes tests/models/fixtures/dropout.json: transformers' outputs in training mode for the networks of
tests/models/fixtures, with dropout that multiplies by 1 + rate instead of drawing a mask.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0
    venv/bin/python tools/golden/dropout.py && npx oxfmt tests/models/fixtures/dropout.json

Masks of two libraries cannot be the same. These outputs show instead where a network has dropout and with which rate:
most rates of a network differ. The file holds for each network

    config    the rates, as settings of config.json; a missing one has its default
    inputs    a batch with padding at the end of its rows
    outputs   by head, of the tokens that are not padding: logits (of a language model, those of the first words), or the
              mean hidden state of each row for the network without a head
"""

import sys
from pathlib import Path

# safetensors.py next to this script would hide the library.
sys.path = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

import json

import torch
import transformers
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

FIXTURES = Path(__file__).resolve().parents[2] / "tests/models/fixtures"
LENGTHS = [2, 7, 4]
WORDS = 4

BERT = {"hidden_dropout_prob": 0.11, "attention_probs_dropout_prob": 0.23}
MODERNBERT = {"embedding_dropout": 0.11, "attention_dropout": 0.23, "mlp_dropout": 0.17, "classifier_dropout": 0.31}
DECODER = {"attention_dropout": 0.23}
RATES = {
    "bert": {**BERT, "classifier_dropout": 0.31},
    "roberta": {**BERT, "classifier_dropout": 0.31},
    "electra": {**BERT, "classifier_dropout": None},
    "mpnet": BERT,
    "distilbert": {"dropout": 0.11, "attention_dropout": 0.23, "seq_classif_dropout": 0.31},
    "deberta-v3": {**BERT, "pooler_dropout": 0.07},
    "deberta-v2": {**BERT, "pooler_dropout": 0.07, "cls_dropout": 0.31},
    "modernbert": MODERNBERT,
    "modernbert-biased": MODERNBERT,
    "gpt2": {"embd_pdrop": 0.11, "attn_pdrop": 0.23, "resid_pdrop": 0.17, "classifier_dropout": 0.31},
    "llama": {**DECODER, "classifier_dropout": 0.31},
    "mistral": {**DECODER, "hidden_dropout": 0.29},
    "phi3": {**DECODER, "resid_pdrop": 0.17, "embd_pdrop": 0.37},
    **{name: DECODER for name in ("qwen2", "qwen3", "smollm3", "gemma", "gemma2", "gemma3", "olmo2", "granite")},
}

# The class of each head, and its number of labels in tests/models/fixtures.
CLASSES = {
    "classes": (AutoModelForSequenceClassification, 3),
    "tokens": (AutoModelForTokenClassification, 5),
    "next": (AutoModelForCausalLM, None),
    "none": (AutoModel, None),
}


def stretched(x, p=0.5, training=True, inplace=False):
    """Takes the place of torch.nn.functional.dropout."""
    return x * (1 + p) if training else x


torch.nn.functional.dropout = stretched


def heads_of(folder):
    """Returns the heads in the files of a network, and its embeddings."""
    if folder.name == "bert-tiny":
        return ["classes", "tokens", "none"]
    keys = json.loads((folder / "expected.json").read_text())["keys"]
    return [head for head in ("classes", "tokens", "next") if head in keys] + ["none"]


def network(folder, head, rates):
    """Returns a network in training mode, with its weights in the files. BERT's two heads have the same weights."""
    of_head, labels = CLASSES[head]
    config = AutoConfig.from_pretrained(folder)
    if labels:
        config.num_labels = 3 if folder.name == "bert-tiny" else labels
    for name, rate in rates.items():
        setattr(config, name, rate)
    model = of_head.from_pretrained(
        folder, config=config, dtype="float32", attn_implementation="eager", ignore_mismatched_sizes=True
    )
    if (folder / "heads.safetensors").exists():
        own = {
            key.removeprefix(f"{head}/"): tensor.float()
            for key, tensor in load_file(folder / "heads.safetensors").items()
            if key.startswith(f"{head}/")
        }
        assert not model.load_state_dict(own, strict=False).unexpected_keys
    return model.train()


def batch(config):
    generator = torch.Generator().manual_seed(1)
    shape = (len(LENGTHS), max(LENGTHS))
    mask = torch.tensor([[int(place < length) for place in range(shape[1])] for length in LENGTHS])
    ids = torch.randint(3, 80, shape, generator=generator)
    inputs = {"input_ids": torch.where(mask == 1, ids, config.pad_token_id), "attention_mask": mask}
    if getattr(config, "type_vocab_size", 0) == 2:
        inputs["token_type_ids"] = torch.randint(0, 2, shape, generator=generator) * mask
    return inputs


def output(model, head, inputs):
    mask = inputs["attention_mask"]
    with torch.no_grad():
        found = model(**inputs)
    if head == "classes":
        return found.logits
    if head == "none":
        return (found.last_hidden_state * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
    return found.logits[mask == 1][:, : WORDS if head == "next" else None]


def shown(values):
    return [float(f"{value:.8g}") for value in values.flatten().tolist()]


def facts_of(name, rates):
    folder = FIXTURES / f"{name}-tiny"
    outputs = {}
    for head in heads_of(folder):
        model = network(folder, head, rates)
        inputs = batch(model.config)
        outputs[head] = shown(output(model, head, inputs))
    return {
        "config": rates,
        "inputs": {key: rows.tolist() for key, rows in inputs.items()},
        "outputs": outputs,
    }


if __name__ == "__main__":
    facts = {
        "maker": "tools/golden/dropout.py",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "networks": {name: facts_of(name, rates) for name, rates in RATES.items()},
    }
    (FIXTURES / "dropout.json").write_text(json.dumps(facts) + "\n")
