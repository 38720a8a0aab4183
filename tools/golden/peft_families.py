"""Makes tests/peft/fixtures/families with Hugging Face PEFT: adapters on the small networks of tests/models/fixtures,
one for each way in which a model family or a PEFT option makes a file special, and PEFT's outputs after opening them
again.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2
    PYTHONHASHSEED=0 venv/bin/python tools/golden/peft_families.py && npx oxfmt tests/peft/fixtures/families

To let PEFT open the same adapters as written by peftjs:

    WRITE_FAMILIES=/tmp/families npx vitest run tests/peft/families.test.ts
    venv/bin/python tools/golden/peft_families.py /tmp/families

expected.json records the versions that made the committed files. Every trained tensor is moved away from its initial
value.
"""

import sys
from pathlib import Path

# safetensors.py next to this script would hide the library.
sys.path = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

import importlib.util
import json
import shutil
import warnings

import torch
from peft import AdaLoraConfig, LoraConfig, PeftModel, TrainableTokensConfig, get_peft_model
from safetensors.torch import load_file, save_file

here = Path(__file__).resolve().parent
specification = importlib.util.spec_from_file_location("architectures", here / "architectures.py")
architectures = importlib.util.module_from_spec(specification)
specification.loader.exec_module(architectures)

FOLDER = here.parents[1] / "tests/peft/fixtures/families"
STD = 0.2
BATCH = 1
TOKENS = 2


def classes(**options):
    return LoraConfig(task_type="SEQ_CLS", r=1, **options)


def words(**options):
    return LoraConfig(task_type="CAUSAL_LM", r=1, **options)


# For each adapter: the network, its head and PEFT's configuration.
ADAPTERS = {
    "deberta-all-linear": ("deberta-v3", "classes", classes(target_modules="all-linear")),
    "deberta-pooler": ("deberta-v2", "classes", classes(target_modules=["pooler.dense"])),
    "deberta-bias-all": ("deberta-v3", "classes", classes(bias="all", target_modules=["query_proj"])),
    "roberta-bias-all": ("roberta", "classes", classes(bias="all", target_modules=["query"])),
    "electra-bias-all": ("electra", "classes", classes(bias="all", target_modules=["query"])),
    "distilbert": ("distilbert", "classes", classes(target_modules=["q_lin"])),
    "regex-flags": (
        "electra",
        "classes",
        classes(target_modules=r"(?i).*\.(?P<which>QUERY|value)", exclude_modules=r".*\.1\.(?#the last one).*"),
    ),
    "alphas": (
        "electra",
        "classes",
        classes(target_modules=["query", "value"], lora_alpha=-3, alpha_pattern={r"(?i:VALUE)": 0, "0.attention.self.value": 2}),
    ),
    "feature-extraction": (
        "electra",
        "body",
        LoraConfig(task_type="FEATURE_EXTRACTION", r=1, target_modules=["query", "output.dense"]),
    ),
    "norms": ("llama", "classes", classes(target_modules=["q_proj"], modules_to_save=["norm"])),
    "long-lora": ("qwen2", "next", words(target_modules=["q_proj"], modules_to_save=["embed_tokens", "norm"])),
    "gpt2": ("gpt2", "next", words(target_modules=["c_attn"], fan_in_fan_out=True)),
    "tied-table": ("gpt2", "next", words(target_modules=["c_fc"], modules_to_save=["wte"])),
    "tied-head": ("llama", "next", words(target_modules=["q_proj"], modules_to_save=["lm_head"])),
    "tied-both": ("llama", "next", words(target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])),
    "tied-together": (
        "llama",
        "next",
        words(target_modules=["q_proj"], modules_to_save=["embed_tokens"], ensure_weight_tying=True),
    ),
    "tied-head-lora": ("llama", "next", words(target_modules=["q_proj", "lm_head"])),
    "tied-table-lora": ("llama", "next", words(target_modules=["q_proj", "embed_tokens"])),
    "tied-lora-together": (
        "llama",
        "next",
        words(target_modules=["q_proj", "embed_tokens"], ensure_weight_tying=True),
    ),
    "tokens": ("electra", "classes", classes(target_modules=["query"], trainable_token_indices=[7, 3, 40])),
    "tokens-by-name": (
        "qwen2",
        "next",
        words(target_modules=["q_proj"], trainable_token_indices={"embed_tokens": [3, 40], "lm_head": [5]}),
    ),
    "tokens-tied": ("llama", "next", words(target_modules=["q_proj"], trainable_token_indices=[7, 3, 40])),
    "tokens-apart": (
        "gpt2",
        "next",
        words(target_modules=["c_attn"], trainable_token_indices={"wte": [3, 40], "lm_head": [5]}),
    ),
    "tokens-of-head": (
        "llama",
        "next",
        words(target_modules=["q_proj"], trainable_token_indices={"lm_head": [5, 6]}),
    ),
    "tokens-alone": ("llama", "next", TrainableTokensConfig(task_type="CAUSAL_LM", token_indices=[3, 40])),
    "tokens-adalora": (
        "electra",
        "classes",
        AdaLoraConfig(
            task_type="SEQ_CLS", init_r=1, target_r=1, total_step=9, target_modules=["query"], trainable_token_indices=[3]
        ),
    ),
}


# The losses of the first training steps are recorded for these.
TRAINED = ("tokens-tied", "tied-head-lora", "tied-together")
STEPS, RATE = 3, 0.01


def network(name, head):
    if head != "body":
        return architectures.network(name, head)
    model = architectures.network(name, "classes")
    return getattr(model, model.base_model_prefix)


def outputs(model, name):
    """Returns logits [rows, classes]; of a language model those of the first tokens [rows, TOKENS, words]; of a bare
    network its mean token."""
    inputs = architectures.batch(name, BATCH)
    with torch.no_grad():
        result = model(**inputs)
    if "logits" in result:
        return result.logits if result.logits.dim() == 2 else result.logits[:, :TOKENS]
    mask = inputs["attention_mask"][:, :, None]
    return (result.last_hidden_state * mask).sum(1) / mask.sum(1)


def move_away(model, generator):
    """Adds noise to everything that PEFT trains, and converts it to half precision to keep the files small."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            noise = STD * torch.randn(parameter.shape, generator=generator)
            parameter.data = (parameter.data + noise).to(torch.bfloat16)


def losses(name):
    """Returns the losses of the first steps of AdamW on one batch, starting from an adapter's files. They depend on the
    gradients."""
    family, head, _ = ADAPTERS[name]
    model = PeftModel.from_pretrained(network(family, head), FOLDER / name, is_trainable=True).eval()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0)
    batch = architectures.batch(family, BATCH)
    recorded = []
    for _ in range(STEPS):
        loss = model(**batch, labels=architectures.labels(head, batch)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        recorded.append(loss.item())
    return recorded


def main():
    warnings.simplefilter("ignore")
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    shutil.rmtree(FOLDER, ignore_errors=True)
    expected, made_of = {}, {}
    for name, (family, head, config) in ADAPTERS.items():
        model = get_peft_model(network(family, head), config).eval()
        move_away(model, generator)
        model.save_pretrained(FOLDER / name)
        (FOLDER / name / "README.md").unlink()
        expected[name] = outputs(PeftModel.from_pretrained(network(family, head), FOLDER / name).eval(), family)
        base = outputs(network(family, head), family)
        assert torch.linalg.norm(expected[name] - base) > 0.01 * torch.linalg.norm(base), name
        made_of[name] = {"network": family, "head": head}
    save_file({name: tensor.contiguous() for name, tensor in expected.items()}, FOLDER / "expected.safetensors")
    for name in TRAINED:
        made_of[name]["losses"] = losses(name)
    facts = {"maker": "tools/golden/peft_families.py", "versions": architectures.VERSIONS, "adapters": made_of}
    (FOLDER / "expected.json").write_text(json.dumps(facts) + "\n")


def check(folder):
    """Opens the same adapters as written by peftjs. The outputs must equal those of the fixtures; prints warnings about
    keys."""
    expected = load_file(FOLDER / "expected.safetensors")
    for name, (family, head, _) in ADAPTERS.items():
        if not (folder / name).exists():
            continue
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = PeftModel.from_pretrained(network(family, head), folder / name).eval()
        warned = [str(each.message) for each in caught if "keys" in str(each.message) or "fan_in" in str(each.message)]
        distance = torch.linalg.norm(outputs(model, family) - expected[name]) / torch.linalg.norm(expected[name])
        print(f"{name}: {distance:.1e}", *warned)
        assert distance < 1e-5, name


if __name__ == "__main__":
    check(Path(sys.argv[1])) if len(sys.argv) > 1 else main()
