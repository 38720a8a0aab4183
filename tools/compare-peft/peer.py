"""Trains with Hugging Face PEFT on the files of prepare.ts, once; run.ts does the same with peftjs.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 scikit-learn scipy
    venv/bin/python tools/compare-peft/peer.py --model DIR --work DIR --task rte --seed 1 --out FILE

There is no dropout: peftjs has the adapter's, but not BERT's own. The learning-rate schedule is that of peftjs, which
never takes a step with a rate of 0, and biases have no weight decay. The loss is computed in float32.
"""

import argparse
import json
import os
import platform
import resource
import time

STARTED = time.perf_counter()
SETTINGS = json.load(open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "settings.json"), encoding="utf8"))
THREADS = SETTINGS["threads"]
# NumPy's own threads would compete with torch's.
os.environ.update(OMP_NUM_THREADS=str(THREADS), MKL_NUM_THREADS=str(THREADS), OPENBLAS_NUM_THREADS="1")
LOAD_BEFORE = os.getloadavg()[0]

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


def read_json(*path):
    with open(os.path.join(*path), encoding="utf8") as file:
        return json.load(file)


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
    labels = len(task["classes"]) or 1
    network = AutoModelForSequenceClassification.from_pretrained(
        base,
        num_labels=labels,
        problem_type="regression" if task["kind"] == "regression" else "single_label_classification",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return PeftModel.from_pretrained(network, adapter, is_trainable=True)


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


def train(model, task, epochs):
    """Returns the loss and the seconds of every step."""
    optimizer, schedule, trained = optimizer_of(model, sum(len(epoch) for epoch in epochs))
    model.train()
    losses, seconds = [], []
    for epoch in epochs:
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
    return losses, seconds


@torch.inference_mode()
def evaluate(model, task, plans, names):
    model.eval()
    predicted = [0.0] * len(task["dev"])
    for plan in plans:
        logits = model(**batch_of(task["dev"], plan, task["kind"])).logits
        values = logits.argmax(-1) if task["kind"] == "classification" else logits[:, 0]
        for row, value in zip(plan["rows"], values.tolist(), strict=True):
            predicted[row] = value
    labels = [row["label"] for row in task["dev"]]
    return {name: float(METRICS[name](labels, predicted)) for name in names}


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def cpu():
    with open("/proc/cpuinfo", encoding="utf8") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main():
    parser = argparse.ArgumentParser()
    for name in ("model", "work", "task", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--seed", type=int, required=True)
    flags = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.manual_seed(flags.seed)
    task = read_json(flags.work, flags.task, "task.json")
    folder = os.path.join(flags.work, flags.task, f"seed-{flags.seed}")
    batches = read_json(folder, "batches.json")
    model = model_of(flags.model, os.path.join(folder, "adapter"), task)
    started = time.perf_counter()
    losses, seconds = train(model, task, batches["epochs"])
    trained = time.perf_counter()
    names = METRICS_OF.get(flags.task, ["accuracy"])
    metrics = evaluate(model, task, batches["dev"], names)
    evaluated = time.perf_counter()
    result = {
        "side": "peft",
        "task": flags.task,
        "seed": flags.seed,
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
    with open(flags.out, "w", encoding="utf8") as file:
        json.dump(result, file, indent=2)
        file.write("\n")


if __name__ == "__main__":
    main()
