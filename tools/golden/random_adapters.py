"""Writes random PEFT adapters of all types and options, and opens those that peftjs wrote. Run by random-adapters.ts.

    venv/bin/python tools/golden/random_adapters.py write FOLDER FIRST_SEED COUNT FAMILY..
    venv/bin/python tools/golden/random_adapters.py open FOLDER

`write` makes each FOLDER/<seed>-<family> that does not exist yet, with

    config.json, model.safetensors   a random network with its head
    adapter/                         an adapter on it, with random values in every trained tensor
    case.json                        the head, and PEFT's type and options
    expected.safetensors             batches, and the outputs of the reopened adapter, unmerged and merged

`open` reads ours/ and ours.safetensors of each folder: an adapter that peftjs wrote, and its outputs. It writes to
opened.json whether PEFT accepts every tensor, and how far its outputs differ.
"""

import sys
from pathlib import Path

# safetensors.py next to this script would hide the library.
sys.path.append(sys.path.pop(0))

import json
import shutil
import warnings
from unittest.mock import patch

import peft
import torch
import transformers
from peft import PeftModel, TaskType, get_peft_model
from safetensors.torch import load_file, save_file

from random_checkpoints import save_adapter, tokenizer
from random_models import AUTO, ENCODERS, FAMILIES, STD, batch, config_of, drawing, heads_of, labels_of, linear_names, network, noise

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
warnings.filterwarnings("ignore")

BATCHES = [0, 1, 2]
ATTEMPTS = 50
TASKS = {"tokens": TaskType.TOKEN_CLS, "next": TaskType.CAUSAL_LM, "embeddings": TaskType.FEATURE_EXTRACTION}


def sample(draw, names, most=3):
    return draw.sample(names, draw.randint(1, min(most, len(names))))


def chance(draw, probability, make):
    """Returns the options that `make` makes with this probability, otherwise none."""
    return make() if draw.random() < probability else {}


class Modules:
    """The module names that an adapter's options may use."""

    def __init__(self, model):
        self.linear = linear_names(model)
        self.paths = [name for name, module in model.named_modules() if name.split(".")[-1] in self.linear and hasattr(module, "weight")]
        self.leaves = [name for name, module in model.named_modules() if name and not list(module.children()) and list(module.parameters())]
        self.tables = sorted({name.split(".")[-1] for name, module in model.named_modules() if isinstance(module, torch.nn.Embedding)})
        self.norms = sorted({name.split(".")[-1] for name in self.leaves if "norm" in name.lower() or ".ln_" in name})
        self.others = sorted({name for name in self.leaves if name not in self.paths})
        self.layers = 1 + max(int(part) for name in self.paths for part in name.split(".") if part.isdigit())
        [self.layers_name] = {name.split(".")[at - 1] for name in self.paths for at, part in enumerate(name.split(".")) if part.isdigit()}

    def suffix(self, draw):
        """Returns the end of a random module's path, in whole names."""
        parts = draw.choice(self.leaves).split(".")
        return ".".join(parts[-draw.randint(1, min(3, len(parts))) :])


def targets(draw, modules, kinds=("names", "names", "names", "paths", "pattern", "all-linear")):
    kind = draw.choice(kinds)
    if kind == "names":
        return sample(draw, modules.linear, 4)
    if kind == "paths":
        return sample(draw, modules.paths, 5)
    if kind == "pattern":
        names, layers = "|".join(sample(draw, modules.linear)), "".join(map(str, range(draw.randint(1, modules.layers))))
        return draw.choice([rf".*\.[{layers}]\..*\.({names})", rf".*({names})", rf"(?i).*\.(?P<name>{names.upper()})"])
    return "all-linear"


def where(draw, modules):
    """Draws target modules, sometimes with exclusions."""
    target = targets(draw, modules)
    options = {"target_modules": target}
    options.update(chance(draw, 0.2, lambda: {"exclude_modules": draw.choice([sample(draw, modules.linear, 2), sample(draw, modules.paths, 2), rf".*\.0\..*", r"(?i).*POOLER.*"])}))
    if isinstance(target, list):
        options.update(chance(draw, 0.25, lambda: {"layers_to_transform": draw.choice([0, [modules.layers - 1], list(range(modules.layers))])}))
        if "layers_to_transform" in options:
            options.update(chance(draw, 0.4, lambda: {"layers_pattern": modules.layers_name}))
    return options


def saved(draw, modules):
    return chance(draw, 0.25, lambda: {"modules_to_save": [modules.suffix(draw) for _ in range(draw.randint(1, 2))]})


def pattern(draw, modules, value):
    keys = [draw.choice([draw.choice(modules.linear), draw.choice(modules.paths), "^" + draw.choice(modules.paths)]) for _ in range(2)]
    keys.append(rf".*\.0\..*\.{draw.choice(modules.linear)}")
    return {key: value() for key in sample(draw, keys)}


STARTS = [True] * 6 + [False, "gaussian", "pissa", "pissa_niter_4", "olora", "orthogonal", "eva"]
UNUSUAL = [
    {"alora_invocation_tokens": [5, 6]},
    {"layer_replication": [(0, 1), (0, 1)]},
    {"use_qalora": True, "qalora_group_size": 2},
    {"kasa_config": {}},
    {"use_bdlora": {}},
    {"target_parameters": ["weight"]},
    {"monteclora_config": {}},
]


def lora(draw, modules):
    options = {
        "r": draw.choice([1, 2, 2, 4, 6]),
        "lora_alpha": draw.choice([1, 2, 5, 8, 16, 0.5, 8, -4, 0]),
        "bias": draw.choice(["none", "none", "none", "all", "lora_only"]),
        "init_lora_weights": draw.choice(STARTS),
        **where(draw, modules),
        **saved(draw, modules),
        **chance(draw, 0.25, lambda: {"use_rslora": True}),
        **chance(draw, 0.25, lambda: {"use_dora": True}),
        **chance(draw, 0.1, lambda: {"lora_bias": True}),
        **chance(draw, 0.3, lambda: {"rank_pattern": pattern(draw, modules, lambda: draw.randint(1, 5))}),
        **chance(draw, 0.3, lambda: {"alpha_pattern": pattern(draw, modules, lambda: draw.choice([1, 3, 7, 10]))}),
        **chance(draw, 0.15, lambda: {"ensure_weight_tying": True}),
        **chance(draw, 0.06, lambda: draw.choice(UNUSUAL)),
    }
    tokens = [3, 7, 12]
    options.update(chance(draw, 0.12, lambda: {"trainable_token_indices": draw.choice([tokens, {draw.choice(modules.tables): tokens}])}))
    if isinstance(options["target_modules"], list):
        options["target_modules"] += draw.choice([[], [], [], [draw.choice(modules.tables)], [modules.suffix(draw)]])
    return options


def adalora(draw, modules):
    return {
        "init_r": draw.randint(1, 5),
        "target_r": 1,
        "lora_alpha": draw.choice([1, 4, 8]),
        "total_step": 10,
        "tinit": 1,
        "tfinal": 2,
        "bias": draw.choice(["none", "none", "all", "lora_only"]),
        **where(draw, modules),
        **saved(draw, modules),
    }


def vera(draw, modules):
    target = sample(draw, modules.linear)
    return {
        "r": draw.choice([1, 3, 8]),
        "target_modules": target,
        "projection_prng_key": draw.choice([0, 3, 11]),
        "save_projection": draw.random() < 0.6,
        "bias": draw.choice(["none", "none", "all", "vera_only"]),
        **saved(draw, modules),
    }


def ia3(draw, modules):
    target = targets(draw, modules, ("names", "pattern"))
    forward = sample(draw, target) if isinstance(target, list) else []
    return {"target_modules": target, "feedforward_modules": draw.choice([[], forward]), **saved(draw, modules)}


def ln_tuning(draw, modules):
    names = sample(draw, modules.norms)
    return {**draw.choice([{}, {"target_modules": names}, {"target_modules": names}, {"target_modules": rf".*({'|'.join(names)})"}]), **saved(draw, modules)}


def loha(draw, modules):
    return {
        "r": draw.randint(1, 4),
        "alpha": draw.choice([1, 4, 8]),
        **where(draw, modules),
        **saved(draw, modules),
        **chance(draw, 0.3, lambda: {"rank_pattern": pattern(draw, modules, lambda: draw.randint(1, 5))}),
        **chance(draw, 0.3, lambda: {"alpha_pattern": pattern(draw, modules, lambda: draw.choice([1, 3, 7]))}),
    }


def lokr(draw, modules):
    return {
        **loha(draw, modules),
        "decompose_both": draw.choice([True, False]),
        "decompose_factor": draw.choice([-1, 2, 3]),
        "rank_dropout_scale": draw.choice([True, False]),
    }


def oft(draw, modules):
    size = draw.choice([{"oft_block_size": 2, "r": 0}, {"oft_block_size": 3, "r": 0}, {"oft_block_size": 0, "r": 2}])
    return {
        **size,
        "block_share": draw.random() < 0.3,
        "coft": draw.random() < 0.3,
        "eps": draw.choice([6e-5, 0.1]),
        "use_cayley_neumann": draw.random() < 0.5,
        "bias": draw.choice(["none", "none", "all", "oft_only"]),
        **where(draw, modules),
        **saved(draw, modules),
    }


def small(**options):
    """Options of a type that peftjs does not read and must reject."""
    return lambda draw, modules: {**options, "target_modules": sample(draw, modules.linear)}


def prompts(**options):
    return lambda draw, modules: {"num_virtual_tokens": 3, **options}


# For each of PEFT's types: how often it is drawn, its configuration class and its options.
KINDS = {
    "LORA": (42, peft.LoraConfig, lora),
    "ADALORA": (6, peft.AdaLoraConfig, adalora),
    "VERA": (6, peft.VeraConfig, vera),
    "IA3": (6, peft.IA3Config, ia3),
    "LN_TUNING": (5, peft.LNTuningConfig, ln_tuning),
    "LOHA": (5, peft.LoHaConfig, loha),
    "LOKR": (6, peft.LoKrConfig, lokr),
    "OFT": (6, peft.OFTConfig, oft),
    "BOFT": (1, peft.BOFTConfig, small(boft_block_size=2)),
    "FOURIERFT": (1, peft.FourierFTConfig, small(n_frequency=5)),
    "HRA": (1, peft.HRAConfig, small(r=2)),
    "MISS": (1, peft.MissConfig, small(r=2)),
    "RANDLORA": (1, peft.RandLoraConfig, small(r=2)),
    "ROAD": (1, peft.RoadConfig, small(group_size=2)),
    "SHIRA": (1, peft.ShiraConfig, small(r=1)),
    "TRAINABLE_TOKENS": (1, peft.TrainableTokensConfig, lambda draw, modules: {"token_indices": [3, 7]}),
    "PROMPT_TUNING": (1, peft.PromptTuningConfig, prompts()),
    "P_TUNING": (1, peft.PromptEncoderConfig, prompts(encoder_hidden_size=8)),
    "PREFIX_TUNING": (1, peft.PrefixTuningConfig, prompts()),
}


def drawn_config(draw, model, head):
    names = [name for name, (weight, *_) in KINDS.items() for _ in range(weight)]
    kind = draw.choice(names)
    _, config, options = KINDS[kind]
    task = TASKS.get(head, TaskType.SEQ_CLS) if draw.random() < 0.9 else None
    return kind, config, {"task_type": task, **options(draw, Modules(model))}


def write_adapter(folder, base, case, draw):
    """Draws configurations until PEFT makes, saves and reopens one. Records it in the case and returns the expected
    tensors."""
    for attempt in range(ATTEMPTS):
        kind, config, options = drawn_config(draw, base(), case["head"])
        try:
            model = get_peft_model(base(), config(**options)).eval()
            move(model, case)
            shutil.rmtree(folder / "adapter", ignore_errors=True)
            save_adapter(model, folder)
            expected = opened_outputs(base, folder / "adapter", case)
        except Exception as error:
            case["refusedByPeft"] = [*case.get("refusedByPeft", []), f"{kind} {options}: {error}"[:300]]
            continue
        if all(bool(torch.isfinite(tensor).all()) for tensor in expected.values()):
            case.update(kind=kind, options=repr(options))
            return expected
    raise RuntimeError(f"{folder}: {case['refusedByPeft']}")


def move(model, case):
    """Moves the adapter away from its initial values, and prunes some of AdaLoRA's triplets."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.add_(STD * noise(parameter.shape, "adapter", case["seed"], name))
    if hasattr(model.base_model, "update_and_allocate") and case["seed"] % 2 and case["head"] != "embeddings":
        inputs = batch(model.config, 1, case["seed"])
        for step in range(1, 4):
            model(**inputs, labels=labels_of(case["head"], case["labels"], inputs, case["seed"])).loss.backward()
            model.base_model.update_and_allocate(step)
            model.zero_grad()


def opened_outputs(base, folder, case):
    """Returns the outputs of the adapter in a folder, unmerged and, where PEFT can merge it, merged."""
    model = PeftModel.from_pretrained(base(), folder).eval()
    config = model.config
    expected = outputs(model, config, case, "unmerged")
    try:
        expected.update(outputs(model.merge_and_unload(), config, case, "merged"))
    except Exception as error:
        case["notMerged"] = str(error)[:200]
    return expected


def outputs(model, config, case, name):
    made = {}
    for number in BATCHES:
        inputs = batch(config, number, case["seed"])
        with torch.no_grad():
            output = model(**inputs)
        made[f"{name}/{number}"] = mean(output.last_hidden_state, inputs) if case["head"] == "embeddings" else output.logits
    return made


def mean(hidden, inputs):
    mask = inputs["attention_mask"][:, :, None]
    return (hidden * mask).sum(1) / mask.sum(1)


def drawn_case(families, seed):
    family = families[seed % len(families)]
    config = config_of(family, drawing(family, "adapter", seed))
    draw = drawing("case", family, seed)
    heads = heads_of(family, config) + (["embeddings"] if family in ENCODERS else ["next"])
    head = draw.choice(heads)
    return config, {"family": family, "seed": seed, "head": head, "labels": {"number": 1}.get(head, draw.randint(2, 4))}


def write(into, families, seed):
    config, case = drawn_case(families, seed)
    folder = into / f"{seed:03}-{case['family']}"
    if (folder / "case.json").exists():
        return
    model = network(config, case["head"], case["labels"], seed)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(config)))
    expected = write_adapter(folder, lambda: read(folder, case), case, drawing("adapter", seed))
    for number in BATCHES:
        inputs = batch(config, number, seed)
        expected.update({f"{number}/{name}": tensor for name, tensor in inputs.items()})
        if case["head"] != "embeddings":
            expected[f"{number}/labels"] = labels_of(case["head"], case["labels"], inputs, f"{seed}/{number}")
    small = {name: tensor.to(torch.int32) if tensor.dtype == torch.int64 else tensor for name, tensor in expected.items()}
    save_file({name: tensor.contiguous().clone() for name, tensor in small.items()}, folder / "expected.safetensors")
    (folder / "case.json").write_text(json.dumps(case) + "\n")


def read(folder, case):
    return AUTO[case["head"]].from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def opened(model, folder):
    """Returns the model with the adapter of a folder, and PEFT's report on the adapter's tensors."""
    results = []
    load_adapter = PeftModel.load_adapter

    def recording(*arguments, **options):
        results.append(load_adapter(*arguments, **options))
        return results[-1]

    with patch.object(PeftModel, "load_adapter", recording):
        return PeftModel.from_pretrained(model, folder), results[0]


def open_ours(folder):
    """PEFT ignores unexpected tensors and only warns of missing ones; here both are errors."""
    case = json.loads((folder / "case.json").read_text())
    ours = load_file(folder / "ours.safetensors")
    try:
        model = read(folder, case)
        config = model.config
        adapted, result = opened(model, folder / "ours")
        if result.missing_keys or result.unexpected_keys:
            return {"error": f"missing {result.missing_keys}, unexpected {result.unexpected_keys}"}
        theirs = outputs(adapted.eval(), config, case, "unmerged")
        try:
            theirs.update(outputs(adapted.merge_and_unload(), config, case, "merged"))
        except Exception as error:
            case["notMerged"] = str(error)[:200]
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:400]}
    return {kind: farthest(case, config, kind, ours, theirs) for kind in ("unmerged", "merged") if f"{kind}/0" in ours and f"{kind}/0" in theirs}


def farthest(case, config, kind, ours, theirs):
    """Returns max |a - b| / max |b| over all batches, without padding."""
    difference = size = 0.0
    for number in BATCHES:
        expected = theirs[f"{kind}/{number}"]
        actual = ours[f"{kind}/{number}"].reshape(expected.shape)
        if case["head"] in ("tokens", "next"):
            mask = batch(config, number, case["seed"])["attention_mask"].bool()
            actual, expected = actual[mask], expected[mask]
        difference = max(difference, (actual - expected).abs().max().item())
        size = max(size, expected.abs().max().item())
    return difference / size


if __name__ == "__main__":
    torch.set_num_threads(1)
    what, into, *rest = sys.argv[1:]
    into = Path(into)
    if what == "write":
        first, count, *families = rest
        families = list(FAMILIES) if families == ["all"] else families
        for number in range(int(first), int(first) + int(count)):
            write(into, families, number)
    else:
        for folder in sorted(path.parent for path in into.glob("*/ours.safetensors")):
            (folder / "opened.json").write_text(json.dumps(open_ours(folder)) + "\n")
