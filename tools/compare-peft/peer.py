"""Trains with Hugging Face PEFT, once, from what prepare.ts wrote; run.ts does the same with peftjs, and compare.ts runs
both:

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 scikit-learn scipy

The learning-rate schedule is that of peftjs, which never takes a step with a rate of 0, and biases have no weight decay.
The loss is computed in float32.
"""

import argparse
import json
import os
import platform
import resource
import time
from pathlib import Path

STARTED = time.perf_counter()
LOAD_BEFORE = os.getloadavg()[0]
PARSER = argparse.ArgumentParser()
for name in ("study", "model", "work", "task", "out"):
    PARSER.add_argument(f"--{name}", required=True)
PARSER.add_argument("--seed", type=int, required=True)
FLAGS = PARSER.parse_args()
SETTINGS = json.loads((Path(__file__).resolve().parent / f"{FLAGS.study}.json").read_text(encoding="utf8"))
THREADS = SETTINGS["threads"]
# NumPy's own threads would compete with torch's.
os.environ.update(OMP_NUM_THREADS=str(THREADS), MKL_NUM_THREADS=str(THREADS), OPENBLAS_NUM_THREADS="1")

import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from peft import PeftModel  # noqa: E402
from scipy.stats import pearsonr, spearmanr  # noqa: E402
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef  # noqa: E402
from transformers import AutoModelForSequenceClassification  # noqa: E402

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

METRICS = {
    "accuracy": accuracy_score,
    "f1": f1_score,
    "matthewsCorrelation": matthews_corrcoef,
    "pearson": lambda labels, predicted: pearsonr(labels, predicted)[0],
    "spearman": lambda labels, predicted: spearmanr(labels, predicted)[0],
}
METRICS_OF = {"cola": ["matthewsCorrelation"], "mrpc": ["f1", "accuracy"], "stsb": ["pearson", "spearman"]}


def batch_of(rows, plan, kind):
    """Returns rows padded to the tokens of their batch: [rows, tokens]."""
    chosen = [rows[row] for row in plan["rows"]]
    shape = (len(chosen), plan["tokens"])
    ids, types, mask = (torch.zeros(shape, dtype=torch.long) for _ in range(3))
    for place, row in enumerate(chosen):
        length = len(row["ids"])
        ids[place, :length] = torch.tensor(row["ids"])
        types[place, :length] = torch.tensor(row["typeIds"])
        mask[place, :length] = 1
    labels = torch.tensor([row["label"] for row in chosen], dtype=torch.long if kind == "classification" else torch.float)
    return {"input_ids": ids, "token_type_ids": types, "attention_mask": mask, "labels": labels}


def model_of(base, adapter, task):
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    network = AutoModelForSequenceClassification.from_pretrained(
        base,
        num_labels=len(task["classes"]) or 1,
        problem_type="regression" if task["kind"] == "regression" else "single_label_classification",
        **({} if SETTINGS["dropout"] == "config" else no_dropout),
    )
    model = PeftModel.from_pretrained(network, adapter, is_trainable=True)
    if not SETTINGS["trainHead"]:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and "classifier" not in name)
    return model


def optimizer_of(model, total_steps):
    """Returns torch's AdamW, with a linear warm-up and decay in which every step has a rate above 0."""
    options = SETTINGS["optimizer"]
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for name, p in trained if not name.endswith("bias")], "weight_decay": options["weightDecay"]},
        {"params": [p for name, p in trained if name.endswith("bias")], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        groups, lr=options["learningRate"], betas=(options["beta1"], options["beta2"]), eps=options["epsilon"]
    )
    warmup = int(options["warmupRatio"] * total_steps)

    def factor(done):
        if done < warmup:
            return (done + 1) / (warmup + 1)
        return 1 - (done - warmup) / max(1, total_steps - warmup)

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor), [p for _, p in trained]


def train(model, task, batches, names):
    """Returns the loss and the seconds of every step. With early stopping the model ends as its best checkpoint."""
    optimizer, schedule, trained = optimizer_of(model, sum(len(epoch) for epoch in batches["epochs"]))
    stopping = SETTINGS.get("earlyStopping")
    losses, seconds = [], []
    best, waited, kept = float("-inf"), 0, None
    for epoch in batches["epochs"]:
        model.train()
        for plan in epoch:
            started = time.perf_counter()
            loss = model(**batch_of(task["train"], plan, task["kind"])).loss
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, SETTINGS["optimizer"]["clipNorm"])
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            seconds.append(time.perf_counter() - started)
        if not stopping:
            continue
        score = evaluate(model, task, "selection", batches, names)[names[0]]
        if score > best:
            best, waited, kept = score, 0, [parameter.detach().clone() for parameter in trained]
        else:
            waited += 1
        if waited == stopping["patience"]:
            break
    with torch.no_grad():
        for parameter, value in zip(trained, kept or [], strict=kept is not None):
            parameter.copy_(value)
    return losses, seconds


@torch.inference_mode()
def evaluate(model, task, rows, batches, names):
    model.eval()
    predicted = [0.0] * len(task[rows])
    for plan in batches[rows]:
        logits = model(**batch_of(task[rows], plan, task["kind"])).logits
        values = logits.argmax(-1) if task["kind"] == "classification" else logits[:, 0]
        for row, value in zip(plan["rows"], values.tolist(), strict=True):
            predicted[row] = value
    labels = [row["label"] for row in task[rows]]
    return {name: float(METRICS[name](labels, predicted)) for name in names}


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def cpu():
    lines = Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main():
    torch.set_num_threads(THREADS)
    torch.manual_seed(FLAGS.seed)
    of_task = Path(FLAGS.work) / FLAGS.task
    folder = of_task / f"seed-{FLAGS.seed}"
    task = json.loads((of_task / "task.json").read_text(encoding="utf8"))
    batches = json.loads((folder / "batches.json").read_text(encoding="utf8"))
    names = METRICS_OF.get(FLAGS.task, ["accuracy"])
    model = model_of(FLAGS.model, folder / "adapter", task)
    started = time.perf_counter()
    losses, seconds = train(model, task, batches, names)
    trained = time.perf_counter()
    metrics = evaluate(model, task, "dev", batches, names)
    evaluated = time.perf_counter()
    result = {
        "side": "peft",
        "task": FLAGS.task,
        "seed": FLAGS.seed,
        "metrics": metrics,
        "primaryMetric": names[0],
        "losses": losses[: SETTINGS["recordedLosses"]],
        "steps": len(losses),
        "seconds": {
            "total": evaluated - STARTED,
            "train": trained - started,
            "compile": 0,
            "evaluate": evaluated - trained,
            "stepMedian": median(seconds),
        },
        "peakRssBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "threads": THREADS,
        "load": {"before": LOAD_BEFORE, "after": os.getloadavg()[0]},
        "cpu": cpu(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
    }
    Path(FLAGS.out).write_text(json.dumps(result, indent=2) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
