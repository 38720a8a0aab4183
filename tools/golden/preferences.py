"""Makes golden values of the preference losses with TRL's trainers:

- packages/core/test/fixtures/preferences.json: losses, rewards and gradients on fixed logits
- tests/peft/fixtures/preferences: LoRA on the small Llama of tests/models/fixtures, and every trained tensor after ten
  steps of torch's AdamW

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 trl==1.16.0
    PYTHONHASHSEED=0 venv/bin/python tools/golden/preferences.py
    npx oxfmt packages/core/test/fixtures/preferences.json tests/peft/fixtures/preferences

The trainers are TRL's own, on that Llama; their losses get the fixed logits in place of a network's. Numbers are rounded
to five digits before use.
"""

import sys
from pathlib import Path

# safetensors.py next to this script would hide the library.
sys.path = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

import importlib.util
import json
import os
import shutil
import tempfile
import warnings
from importlib.metadata import version
from types import SimpleNamespace

warnings.simplefilter("ignore")
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TQDM_DISABLE"] = "1"

import torch
from datasets import Dataset
from peft import LoraConfig
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

here = Path(__file__).resolve().parent
specification = importlib.util.spec_from_file_location("architectures", here / "architectures.py")
architectures = importlib.util.module_from_spec(specification)
specification.loader.exec_module(architectures)

ROOT = here.parents[1]
LOGITS = ROOT / "packages/core/test/fixtures/preferences.json"
FOLDER = ROOT / "tests/peft/fixtures/preferences"
VERSIONS = {name: version(name) for name in ("torch", "transformers", "peft", "trl")}
WORDS = [f"w{number}" for number in range(77)]
STEPS, RATE = 10, 5e-3

# For each case: TRL's options.
CASES = {
    "sigmoid": {},
    "sigmoid-strict": {"beta": 0.7},
    "hinge": {"loss_type": "hinge"},
    "ipo": {"loss_type": "ipo"},
    "robust": {"loss_type": "robust", "label_smoothing": 0.1},
    "sigmoid_norm": {"loss_type": "sigmoid_norm", "beta": 2.0},
    "apo_zero": {"loss_type": "apo_zero"},
    "apo_down": {"loss_type": "apo_down"},
}


def tokenizer():
    """Whitespace between words; the ids 0 and 2 are padding and end, as in the Llama's configuration."""
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<s>", "</s>", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>")


def rows(count, words, generator):
    """Random texts of up to 7 words, with prompts of up to 4."""

    def text(most):
        length = int(torch.randint(1, most, (1,), generator=generator))
        return " ".join(WORDS[int(number)] for number in torch.randint(0, words, (length,), generator=generator))

    return [{"prompt": text(5), "chosen": f" {text(8)}", "rejected": f" {text(8)}"} for _ in range(count)]


# TRL's reference of an adapter that exists already would be a copy of it, so the trainers attach it themselves.
LORA = LoraConfig(
    task_type="CAUSAL_LM", r=2, lora_alpha=4, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False
)


def trainer(kind, data, **options):
    config = {"output_dir": tempfile.mkdtemp(), "report_to": [], "use_cpu": True, "bf16": False, "gradient_checkpointing": False}
    Config, Trainer = {"dpo": (DPOConfig, DPOTrainer), "orpo": (ORPOConfig, ORPOTrainer)}[kind]
    made = Trainer(
        model=architectures.network("llama", "next"),
        args=Config(**config, **options),
        train_dataset=data,
        processing_class=tokenizer(),
        peft_config=LORA,
    )
    made.model.eval()
    return made


def collated(made, pairs):
    dataset = made.train_dataset
    names = [name for name in dataset.column_names if name not in ("prompt", "chosen", "rejected")] or dataset.column_names
    return made.data_collator([{name: dataset[row][name] for name in dataset.column_names if name in names} for row in pairs])


def of_answers(batch):
    """The ids, the mask and the labels of a batch of either trainer, chosen answers first."""
    if "completion_mask" in batch:
        labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
        return batch["input_ids"], batch["attention_mask"], labels
    joined = ORPOTrainer.concatenated_inputs(batch, padding_value=0)
    return tuple(joined[f"concatenated_{name}"] for name in ("input_ids", "attention_mask", "labels"))


def metrics_of(made):
    return {name: values[-1] for name, values in made._metrics["eval"].items() if name.startswith(("rewards/", "logps/"))}


def rounded(tensor):
    return torch.tensor([float(f"{value:.5g}") for value in tensor.flatten().tolist()]).reshape(tensor.shape)


def short(tensor):
    return [float(f"{value:.9g}") for value in tensor.flatten().tolist()]


def on_fixed_logits():
    """The losses on logits of four rows, and their gradients."""
    generator = torch.Generator().manual_seed(7)
    data = Dataset.from_list(rows(4, 13, generator))
    batch = collated(trainer("dpo", data), range(4))
    ids, mask, labels = of_answers(batch)
    logits = rounded(2 * torch.randn((*ids.shape, 16), generator=generator))
    reference = rounded(-20 + 3 * torch.randn((2, 4), generator=generator))
    result = {"inputIds": ids, "attentionMask": mask, "labels": labels, "logits": logits, "reference": reference.T}
    facts = {name: tensor.tolist() for name, tensor in result.items()}

    def scored(given, labels):
        logps = torch.log_softmax(given[:, :-1], -1)
        targets = labels[:, 1:]
        own = logps.gather(2, targets.clamp(min=0)[..., None])[..., 0].masked_fill(targets < 0, 0)
        empty = torch.zeros_like(own)
        return SimpleNamespace(log_probs=own, entropy=empty, mean_logits=empty, is_top1=empty.bool())

    facts["cases"] = {}
    for name, options in CASES.items():
        made = trainer("dpo", data, **options)
        made.precompute_ref_logps = True
        given = logits.clone().requires_grad_()
        inputs = {**batch, "ref_chosen_logps": reference[0], "ref_rejected_logps": reference[1]}
        loss = made._compute_loss(lambda labels, **_: scored(given, labels), inputs, False)
        loss.backward()
        facts["cases"][name] = {"options": options, "loss": loss.item(), "gradient": short(given.grad), "metrics": metrics_of(made)}
    for name, options in {"orpo": {}, "orpo-strict": {"beta": 0.8}}.items():
        made = trainer("orpo", data, **options)
        batch = collated(made, range(4))
        assert all(torch.equal(ours, theirs) for ours, theirs in zip((ids, mask, labels), of_answers(batch)))
        given = logits.clone().requires_grad_()
        loss, metrics = made.get_batch_loss_metrics(lambda *_, **__: SimpleNamespace(logits=given), batch)
        loss.backward()
        metrics = {name: value for name, value in metrics.items() if name.startswith(("rewards/", "logps/"))}
        facts["cases"][name] = {"options": options, "loss": loss.item(), "gradient": short(given.grad), "metrics": metrics}
    return facts


def trained(kind, data, folder):
    """Trains for ten steps of four rows. Returns the batches, the losses and the metrics after training."""
    made = trainer(kind, data)
    made.model.save_pretrained(folder)
    (folder / "README.md").unlink()
    parameters = {name.replace(".default", ""): each for name, each in made.model.named_parameters() if each.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=RATE, weight_decay=0)
    batches, losses = [], []
    for step in range(STEPS):
        batch = collated(made, range(4 * step, 4 * step + 4))
        ids, mask, labels = of_answers(batch)
        batches.append({"inputIds": ids.tolist(), "attentionMask": mask.tolist(), "labels": labels.tolist()})
        if kind == "dpo":
            loss = made._compute_loss(made.model, batch, False)
        else:
            loss, metrics = made.get_batch_loss_metrics(made.model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    save_file({name: each.detach().contiguous() for name, each in parameters.items()}, folder / "after.safetensors", metadata={"format": "pt"})
    with torch.no_grad():
        if kind == "dpo":
            made._compute_loss(made.model, batch, False)
            metrics = metrics_of(made)
        else:
            metrics = made.get_batch_loss_metrics(made.model, batch)[1]
            metrics = {name: value for name, value in metrics.items() if name.startswith(("rewards/", "logps/"))}
    return batches, {"losses": losses, "metrics": metrics}


def main():
    torch.use_deterministic_algorithms(True)
    data = Dataset.from_list(rows(4 * STEPS, 77, torch.Generator().manual_seed(3)))
    facts = {"maker": "tools/golden/preferences.py", "versions": VERSIONS}
    LOGITS.write_text(json.dumps({**facts, **on_fixed_logits()}) + "\n")
    shutil.rmtree(FOLDER, ignore_errors=True)
    runs = {}
    for kind in ("dpo", "orpo"):
        batches, runs[kind] = trained(kind, data, FOLDER / kind)
        facts.setdefault("batches", batches)
        assert facts["batches"] == batches
    (FOLDER / "expected.json").write_text(json.dumps({**facts, "rate": RATE, "runs": runs}) + "\n")


if __name__ == "__main__":
    main()
