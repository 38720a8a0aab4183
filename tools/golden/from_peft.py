"""Makes tests/peft/fixtures/from-peft with Hugging Face PEFT: adapters on the small BERT of tests/models/fixtures, and
PEFT's logits after opening them again. Also makes tests/peft/fixtures/batches.json, which every script and test here
reads.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2
    PYTHONHASHSEED=0 venv/bin/python tools/golden/from_peft.py && npx oxfmt tests/peft/fixtures

expected.json records the versions that made the committed files. Every trained tensor is moved away from its initial
value, so that a mistake in any of them shows in the logits.
"""

import sys

sys.path.append(sys.path.pop(0))  # safetensors.py next to this script would hide the library

import shutil

import torch
from peft import (
    AdaLoraConfig,
    IA3Config,
    LNTuningConfig,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
    PeftModel,
    VeraConfig,
    get_peft_model,
)

from peft_bert import BATCHES, FIXTURES, VERSIONS, batches, bert, logits, relative_distance, values, write_json

FOLDER = FIXTURES / "from-peft"
STD = 0.2

ROWS, TOKENS, STEPS = 8, 12, 10
CLS, SEP, FIRST_WORD, VOCABULARY, LABELS = 2, 3, 5, 193, 3

LAYER = "bert.encoder.layer"


def lora(**options):
    return LoraConfig(task_type="SEQ_CLS", **options)


CONFIGS = {
    "lora-defaults": lora(),
    "lora-patterns": lora(
        r=4,
        lora_alpha=6,
        target_modules=["query", "value", "output.dense"],
        rank_pattern={f"{LAYER}.0.attention.self.query": 2, r"layer\.[12]\.output\.dense": 1, "value": 3},
        alpha_pattern={f"{LAYER}.0.attention.self.query": 5, r"layer\.[01]\..*\.value": 7},
    ),
    "rslora-pattern-target": lora(
        r=4,
        lora_alpha=3,
        use_rslora=True,
        target_modules=r"bert\.encoder\.layer\.[01]\.(attention\.self\.(query|key)|output\.dense)",
        rank_pattern={"key": 1},
        alpha_pattern={"output.dense": 2},
    ),
    "lora-all-linear": lora(r=1, lora_alpha=2, target_modules="all-linear", exclude_modules=["intermediate.dense"]),
    "lora-layers": lora(
        r=2,
        lora_alpha=4,
        target_modules=["key", "intermediate.dense"],
        layers_to_transform=[0, 2],
        layers_pattern="layer",
    ),
    "lora-bfloat16": lora(r=2, lora_alpha=4, lora_dropout=0.1, target_modules=["key", "value"]),
    "lora-no-task": LoraConfig(r=2, lora_alpha=4, target_modules=["query"]),
    "dora": lora(r=2, lora_alpha=5, use_dora=True, target_modules=["query", "attention.output.dense", "pooler.dense"]),
    "dora-patterns": lora(
        r=3,
        lora_alpha=2,
        use_dora=True,
        use_rslora=True,
        target_modules=["value", "intermediate.dense"],
        rank_pattern={"value": 1},
        alpha_pattern={r"layer\.1\.intermediate\.dense": 4},
    ),
    "pissa": lora(r=2, lora_alpha=3, init_lora_weights="pissa", target_modules=["query", "output.dense"]),
    "olora": lora(r=2, lora_alpha=3, init_lora_weights="olora", target_modules=["value", "intermediate.dense"]),
    "lora-embeddings": lora(
        r=2,
        lora_alpha=4,
        target_modules=["word_embeddings", "position_embeddings", "token_type_embeddings", "query"],
        rank_pattern={"position_embeddings": 3},
    ),
    "lora-bias-all": lora(r=2, lora_alpha=4, bias="all", target_modules=["query", "value"]),
    "lora-bias-adapted": lora(r=2, lora_alpha=4, bias="lora_only", target_modules=["key", "output.dense"]),
    "lora-bias-up": lora(r=2, lora_alpha=4, lora_bias=True, target_modules=["value"]),
    "lora-modules-to-save": lora(
        r=2,
        lora_alpha=4,
        target_modules=["query", "value"],
        modules_to_save=["pooler.dense", "embeddings.LayerNorm", "token_type_embeddings", "layer.2.intermediate.dense"],
    ),
    "lora-container-to-save": lora(r=2, lora_alpha=4, target_modules=["query"], modules_to_save=["pooler"]),
    "adalora": AdaLoraConfig(
        task_type="SEQ_CLS",
        init_r=4,
        target_r=1,
        lora_alpha=6,
        tinit=1,
        tfinal=2,
        total_step=STEPS,
        target_modules=["query", "value", "output.dense"],
    ),
    "adalora-unallocated": AdaLoraConfig(
        task_type="SEQ_CLS", init_r=2, target_r=1, lora_alpha=4, total_step=100, target_modules=["key"]
    ),
    "ia3": IA3Config(
        task_type="SEQ_CLS", target_modules=["key", "value", "output.dense"], feedforward_modules=["output.dense"]
    ),
    "vera": VeraConfig(task_type="SEQ_CLS", r=8, target_modules=["query", "value", "output.dense"]),
    "vera-seed": VeraConfig(
        task_type="SEQ_CLS",
        r=5,
        target_modules=["key", "intermediate.dense"],
        projection_prng_key=3,
        save_projection=False,
    ),
    "ln-tuning": LNTuningConfig(task_type="SEQ_CLS", target_modules=["LayerNorm"], exclude_modules=["embeddings.LayerNorm"]),
    "loha": LoHaConfig(
        task_type="SEQ_CLS",
        r=2,
        alpha=3,
        target_modules=["query", "intermediate.dense"],
        rank_pattern={f"{LAYER}.0.attention.self.query": 1},
        alpha_pattern={r"layer\.[12]\.intermediate\.dense": -5},
        rank_dropout=0.1,
        module_dropout=0.2,
    ),
    "lokr": LoKrConfig(
        task_type="SEQ_CLS",
        r=2,
        alpha=3,
        target_modules=["query", "intermediate.dense"],
        rank_pattern={"query": 5},
        alpha_pattern={r"layer\.[12]\.intermediate\.dense": 5},
    ),
    "lokr-both": LoKrConfig(
        task_type="SEQ_CLS",
        r=1,
        decompose_both=True,
        decompose_factor=4,
        init_weights="lycoris",
        target_modules=["value", "output.dense"],
        rank_dropout=0.1,
        rank_dropout_scale=True,
    ),
    "oft": OFTConfig(
        task_type="SEQ_CLS", oft_block_size=4, target_modules=["query", "output.dense", "word_embeddings"], module_dropout=0.1
    ),
    "oft-transform": OFTConfig(
        task_type="SEQ_CLS", r=2, oft_block_size=0, use_cayley_neumann=False, target_modules=["key", "word_embeddings"], bias="all"
    ),
    "oft-shared": OFTConfig(
        task_type="SEQ_CLS", oft_block_size=8, block_share=True, num_cayley_neumann_terms=7, target_modules=["value"], bias="oft_only"
    ),
    "oft-near": OFTConfig(
        task_type="SEQ_CLS", oft_block_size=4, coft=True, eps=0.9, num_cayley_neumann_terms=4, target_modules=["value", "query"]
    ),
}


def random_batch(generator):
    """Returns rows of [CLS] words [SEP], half of them with a second text, padded to TOKENS; row 0 is full, row 1 is
    empty."""
    batch = {"inputIds": [], "attentionMask": [], "tokenTypeIds": [], "labels": []}
    for row in range(ROWS):
        integer = lambda low, high: int(torch.randint(low, high, (), generator=generator))
        words = [TOKENS - 2, 0][row] if row < 2 else integer(3, TOKENS - 2)
        ids = [CLS, *(integer(FIRST_WORD, VOCABULARY) for _ in range(words)), SEP]
        first = integer(1, words) if words and row % 2 == 0 else len(ids) - 1
        ids[first] = SEP
        padding = [0] * (TOKENS - len(ids))
        batch["inputIds"].append(ids + padding)
        batch["attentionMask"].append([1] * len(ids) + padding)
        batch["tokenTypeIds"].append([int(position > first) for position in range(len(ids))] + padding)
        batch["labels"].append(integer(0, LABELS))
    return batch


def trained(model):
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def move_away(model, generator):
    """Adds noise to everything that PEFT trains."""
    with torch.no_grad():
        for parameter in trained(model):
            parameter.add_(STD * torch.randn(parameter.shape, generator=generator))


def halve(model):
    """Converts everything that PEFT trains to half precision."""
    for parameter in trained(model):
        parameter.data = parameter.data.to(torch.bfloat16)


def allocate(model):
    """Lets PEFT's allocator prune triplets until the budget is met; at least one module has none left."""
    config = model.peft_config["default"]
    optimizer = torch.optim.SGD(trained(model), lr=0.05)
    for step, batch in enumerate(batches(), 1):
        model(**batch).loss.backward()
        optimizer.step()
        model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
    ranks = [sum(kept) for kept in config.rank_pattern.values()]
    assert min(ranks) == 0 < max(ranks), ranks


PREPARED = {"adalora": allocate, "lora-bfloat16": halve}


def write_adapter(name, generator):
    model = get_peft_model(bert(), CONFIGS[name]).eval()
    move_away(model, generator)
    PREPARED.get(name, lambda _: None)(model)
    model.save_pretrained(FOLDER / name)
    (FOLDER / name / "README.md").unlink()


def main():
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    content = {"maker": "tools/golden/from_peft.py", "versions": VERSIONS}
    write_json(BATCHES, {**content, "batches": [random_batch(generator) for _ in range(STEPS)]})
    batch = batches()[0]
    base = logits(bert(), batch)
    expected = {**content, "base": values(base), "logits": {}}
    shutil.rmtree(FOLDER, ignore_errors=True)
    for name in CONFIGS:
        write_adapter(name, generator)
        outputs = logits(PeftModel.from_pretrained(bert(), FOLDER / name).eval(), batch)
        assert relative_distance(outputs, base) > 0.01, name
        expected["logits"][name] = values(outputs)
    write_json(FOLDER / "expected.json", expected)


if __name__ == "__main__":
    main()
