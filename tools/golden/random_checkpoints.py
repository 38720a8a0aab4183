"""Writes random checkpoints with transformers, and the results of transformers and PEFT on them. Run by
random-checkpoints.ts, which compares them with peftjs's results on the same files.

    venv/bin/python tools/golden/random_checkpoints.py FOLDER FIRST_SEED COUNT FAMILY..

Makes each FOLDER/<family>-<seed> that does not exist yet, with

    config.json, model.safetensors   the network, in one of three precisions, sometimes in shards or without its head
    adapter/                         a LoRA adapter of PEFT, before training
    case.json                        the case's settings, and the losses of 30 steps of torch's AdamW
    expected.safetensors             batches, hidden states, logits, gradients, and every adapter tensor after these steps
"""

import sys
from pathlib import Path

# safetensors.py next to this script would hide the library.
sys.path.append(sys.path.pop(0))

import copy
import json
import warnings

import torch
import transformers
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors.torch import save_file

from peft_steps import on_disk, parameter_groups, trained_parameters
from random_models import (
    AUTO,
    BATCHES,
    FAMILIES,
    OF_TEXTS,
    STD,
    batch,
    config_of,
    drawing,
    heads_of,
    labels_of,
    linear_names,
    network,
    noise,
)

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
warnings.filterwarnings("ignore")

STEPS = 30
TRAINED_ON = [1, 2, 3]
OPTIMIZER = {"lr": 2e-3, "betas": (0.9, 0.999), "eps": 1e-8, "foreach": False}
TASKS = {"tokens": TaskType.TOKEN_CLS, "next": TaskType.CAUSAL_LM}
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
PROMPTS = [1, 5, 12]
NEW_TOKENS = 24
# A token is certain if its logit exceeds the next best by more than rounding can change.
MARGIN = 1e-3
# The largest relative difference after trainings whose initial values differ by a rounding.
ROUNDING, STABLE = 1e-7, 1e-5
ATTEMPTS = 20


def tokenizer(config):
    """Returns a tokenizer with as many words as the network."""
    words = {f"w{number}": number for number in range(config.vocab_size)}
    return {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "w0"},
    }


def write_checkpoint(folder, case, model):
    """Writes the network and returns it as read back in single precision."""
    saved = copy.deepcopy(model.base_model if case["isBare"] else model)
    saved.to(DTYPES[case["dtype"]]).save_pretrained(folder, **({"max_shard_size": "20KB"} if case["isSharded"] else {}))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(model.config)))
    rounded = type(saved).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    if not case["isBare"]:
        return rounded
    model.base_model.load_state_dict(rounded.state_dict(), strict=False)  # without its head it may have a pooler
    return model


def drawn_case(family, seed):
    draw = drawing(family, seed)
    config = config_of(family, draw)
    heads = heads_of(family, config)
    head = draw.choice([*heads, "next"]) if "next" in heads else draw.choice(heads)
    is_free = head != "next" or config.tie_word_embeddings
    return config, {
        "family": family,
        "seed": seed,
        "head": head,
        "labels": {"number": 1}.get(head, draw.randint(2, 5)),
        "dtype": draw.choice(list(DTYPES)),
        "isSharded": draw.random() < 0.25,
        "isBare": is_free and draw.random() < 0.25,
    }


def lora(case, model, attempt):
    """Adds LoRA to some modules of every layer, with random A and B, and trains the head where PEFT does."""
    draw = drawing("lora", case["family"], case["seed"], attempt)
    names = linear_names(model)
    # peftjs trains the whole head; PEFT trains only its last module unless modules_to_save says otherwise.
    head = {"deberta-v2": ["pooler"] if case["head"] in OF_TEXTS else None, "modernbert": ["head"]}.get(case["family"])
    config = LoraConfig(
        task_type=TASKS.get(case["head"], TaskType.SEQ_CLS),
        r=draw.randint(1, 4),
        lora_alpha=draw.choice([1, 3, 8]),
        use_rslora=draw.random() < 0.3,
        target_modules=draw.sample(names, draw.randint(1, len(names))),
        modules_to_save=head,
    )
    adapted = get_peft_model(model, config).eval()
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(STD * noise(parameter.shape, case["seed"], name))
    return adapted


def nudged(model):
    """Returns the model with every trained value changed by about one rounding."""
    with torch.no_grad():
        for name, parameter in trained_parameters(model).items():
            parameter.mul_(1 + ROUNDING * noise(parameter.shape, name))
    return model


def write_training(folder, case, model):
    """Writes the first random adapter whose training does not amplify roundings; no two programs agree on the others
    after 30 steps."""
    for attempt in range(ATTEMPTS):
        adapted = lora(case, copy.deepcopy(model), attempt)
        save_adapter(adapted, folder)
        losses, expected = train(case, adapted)
        _, others = train(case, nudged(lora(case, copy.deepcopy(model), attempt)))
        if all(distance(others[name], tensor) < STABLE for name, tensor in expected.items() if name.startswith("trained/")):
            return losses, expected
    raise RuntimeError(f"{folder}: no training is stable")


def save_adapter(model, folder):
    """Saves the adapter without the network's path on this machine."""
    model.peft_config["default"].base_model_name_or_path = folder.name
    model.save_pretrained(folder / "adapter")
    (folder / "adapter/README.md").unlink()


def distance(a, b):
    return ((a - b).norm() / b.norm()).item()


def train(case, model):
    """Returns the losses of all steps, the gradients of the first, and the tensors after the last."""
    trained = trained_parameters(model)
    optimizer = torch.optim.AdamW(parameter_groups(trained), **OPTIMIZER)
    losses, expected = [], {}
    for step in range(STEPS):
        number = TRAINED_ON[step % len(TRAINED_ON)]
        inputs = batch(model.config, number, case["seed"])
        labels = labels_of(case["head"], case["labels"], inputs, f"{case['seed']}/{number}")
        expected[f"{number}/labels"] = labels
        loss = model(**inputs, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            expected.update({f"gradient/{name}": each.grad.clone() for name, each in trained.items() if each.grad is not None})
        optimizer.step()
        losses.append(loss.item())
    expected.update({f"trained/{name}": each.detach() for name, each in trained.items()})
    return losses, expected


def outputs(case, model):
    """Returns the hidden states of the last layer, and the logits if the checkpoint holds the head."""
    expected = {}
    for number in range(len(BATCHES)):
        inputs = batch(model.config, number, case["seed"])
        expected.update({f"{number}/{name}": tensor for name, tensor in inputs.items()})
        with torch.no_grad():
            expected[f"{number}/hidden"] = model.base_model(**inputs).last_hidden_state
            if not case["isBare"]:
                expected[f"{number}/logits"] = model(**inputs).logits
    return expected


def written(case, model):
    """Generates text from some prompts: the tokens up to the first uncertain one."""
    expected = {}
    for number, length in enumerate(PROMPTS):
        inputs = batch(model.config, 2, f"{case['seed']}/prompt/{number}")
        prompt = inputs["input_ids"][:1, :length]
        with torch.no_grad():
            ids = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=NEW_TOKENS,
                                 eos_token_id=[], output_logits=True, return_dict_in_generate=True)  # fmt: skip
        best = torch.stack(ids.logits)[:, 0].topk(2).values
        unsure = ((best[:, 0] - best[:, 1]) < MARGIN * best.abs().amax()).nonzero()
        certain = int(unsure[0]) if len(unsure) else NEW_TOKENS
        expected[f"prompt/{number}"] = prompt[0]
        expected[f"written/{number}"] = ids.sequences[0, length : length + certain]
    return expected


def write(folder, family, seed):
    config, case = drawn_case(family, seed)
    if (folder / "case.json").exists():
        return
    model = write_checkpoint(folder, case, network(config, case["head"], case["labels"], seed))
    expected = outputs(case, model)
    if case["head"] == "next":
        expected.update(written(case, model))
    case["losses"], trained = write_training(folder, case, model)
    expected.update(trained)
    small = {name: tensor.to(torch.int32) if tensor.dtype == torch.int64 else tensor for name, tensor in expected.items()}
    save_file({name: tensor.contiguous().clone() for name, tensor in small.items()}, folder / "expected.safetensors")
    (folder / "case.json").write_text(json.dumps(case) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    into, first, count, *families = sys.argv[1:]
    for each in families if families != ["all"] else FAMILIES:
        for number in range(int(first), int(first) + int(count)):
            write(Path(into) / f"{each}-{number}", each, number)
