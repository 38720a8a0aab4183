"""
Times a LoRA step of PyTorch + Hugging Face PEFT on the CPU: the same work as a case of `npm run perf`, on the same
checkpoint.

python step.py MODEL --task sequence-classification|causal-lm --batch 16x64 --threads 2 --steps 25
    [--precision bf16|compile] [--checkpointing]

Prints one JSON object with the names of perf/measure.ts, and versions. bf16 is autocast: products in bfloat16, weights
in float32. compile is torch.compile of the model in float32. Decoders have LoRA on all linear modules, encoders on
PEFT's default.
"""

import argparse
import json
import resource
import statistics
import time

import peft
import torch
import transformers

WARM_UP_STEPS = 3


def peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def restart_peak() -> None:
    """Makes the peak of resident memory start again from the current value."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def loaded(folder: str, task: str) -> transformers.PreTrainedModel:
    if task == "sequence-classification":
        return transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    model.config.use_cache = False
    return model


def with_lora(base: transformers.PreTrainedModel, args: argparse.Namespace) -> torch.nn.Module:
    if args.checkpointing:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    place = {"task_type": "SEQ_CLS"}
    if args.task == "causal-lm":
        place = {"task_type": "CAUSAL_LM", "target_modules": "all-linear"}
    return peft.get_peft_model(base, peft.LoraConfig(r=8, lora_alpha=16, **place)).train()


def random_batch(args: argparse.Namespace) -> dict[str, torch.Tensor]:
    rows, tokens = args.batch
    ids = torch.randint(0, 8000, (rows, tokens))
    labels = ids if args.task == "causal-lm" else torch.arange(rows) % 2
    return {"input_ids": ids, "attention_mask": torch.ones(rows, tokens, dtype=torch.long), "labels": labels}


def timed_steps(model: torch.nn.Module, args: argparse.Namespace) -> dict[str, float]:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    run = torch.compile(model) if args.precision == "compile" else model
    seconds, processor_seconds = [], []
    warm_up = min(WARM_UP_STEPS, args.steps)
    for _ in range(warm_up + args.steps):
        inputs = random_batch(args)
        started, processor_started = time.perf_counter(), time.process_time()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.precision == "bf16"):
            loss = run(**inputs).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        seconds.append(time.perf_counter() - started)
        processor_seconds.append(time.process_time() - processor_started)
    return {
        "stepMedianMs": 1000 * statistics.median(seconds[warm_up:]),
        "firstStepSeconds": seconds[0],
        "firstStepCpuSeconds": processor_seconds[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--task", required=True, choices=["sequence-classification", "causal-lm"])
    parser.add_argument("--batch", required=True, type=lambda text: [int(size) for size in text.split("x")])
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "compile"])
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    started = time.perf_counter()
    base = loaded(args.model, args.task)
    load_seconds = time.perf_counter() - started
    load_peak, resident = peak_bytes(), resident_bytes()
    restart_peak()
    times = timed_steps(with_lora(base, args), args)
    print(
        json.dumps(
            {
                **times,
                "loadSeconds": load_seconds,
                "loadPeakBytes": load_peak,
                "stepPeakBytes": peak_bytes() - resident,
                "peakRssBytes": max(load_peak, peak_bytes()),
                "versions": {
                    "torch": torch.__version__,
                    "transformers": transformers.__version__,
                    "peft": peft.__version__,
                },
            }
        )
    )


if __name__ == "__main__":
    main()
