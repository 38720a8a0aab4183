"""
Times a LoRA step of PyTorch + Hugging Face PEFT on the CPU: the same work as the cases of the same names in `npm run
perf`.

python step.py --shape minilm|minilm-short|bert-base|deberta-v3-base --precision fp32|bf16|compile --threads 2 --steps 25

Prints one JSON object: versions, the median step in milliseconds, the time to the end of the first step, and peak
memory in bytes. bf16 is autocast: products in bfloat16, weights in float32. compile is torch.compile of the model in
float32.
"""

import argparse
import json
import resource
import statistics
import time
from dataclasses import dataclass

import peft
import torch
import transformers
from transformers import AutoModelForSequenceClassification, BertConfig, DebertaV2Config

WARM_UP_STEPS = 3


@dataclass(frozen=True)
class Shape:
    """The sizes of an encoder and of its batches."""

    config: transformers.PretrainedConfig
    targets: tuple[str, ...]
    rows: int
    tokens: int


def bert(layers: int, hidden: int, ffn: int) -> BertConfig:
    return BertConfig(
        num_hidden_layers=layers,
        hidden_size=hidden,
        intermediate_size=ffn,
        num_attention_heads=12,
        hidden_dropout_prob=0,
        attention_probs_dropout_prob=0,
    )


def shapes() -> dict[str, Shape]:
    attention = ("query", "value")
    deberta = DebertaV2Config(
        vocab_size=128_100,
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
        hidden_dropout_prob=0,
        attention_probs_dropout_prob=0,
        pooler_dropout=0,
        type_vocab_size=0,
        relative_attention=True,
        position_buckets=256,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        max_relative_positions=-1,
        layer_norm_eps=1e-7,
    )
    return {
        "minilm": Shape(bert(6, 384, 1536), attention, 16, 64),
        "minilm-short": Shape(bert(6, 384, 1536), attention, 32, 16),
        "bert-base": Shape(bert(12, 768, 3072), attention, 8, 64),
        "deberta-v3-base": Shape(deberta, ("query_proj", "value_proj"), 8, 64),
    }


def batch(shape: Shape) -> dict[str, torch.Tensor]:
    return {
        "input_ids": torch.randint(0, 8000, (shape.rows, shape.tokens)),
        "attention_mask": torch.ones(shape.rows, shape.tokens, dtype=torch.long),
        "labels": torch.arange(shape.rows) % 2,
    }


def timed_steps(shape: Shape, precision: str, steps: int) -> tuple[list[float], float]:
    """Returns the seconds of each step after the warm-up, and of the first step."""
    torch.manual_seed(0)
    base = AutoModelForSequenceClassification.from_config(shape.config)
    config = peft.LoraConfig(r=8, lora_alpha=16, target_modules=list(shape.targets), task_type="SEQ_CLS")
    model = peft.get_peft_model(base, config).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    run = torch.compile(model) if precision == "compile" else model
    times = []
    for _ in range(WARM_UP_STEPS + steps):
        inputs = batch(shape)
        started = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            loss = run(**inputs).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        times.append(time.perf_counter() - started)
    return times[WARM_UP_STEPS:], times[0]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", required=True, choices=list(shapes()))
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "compile"])
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--steps", type=int, default=25)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    times, first = timed_steps(shapes()[args.shape], args.precision, args.steps)
    print(
        json.dumps(
            {
                "shape": args.shape,
                "precision": args.precision,
                "threads": args.threads,
                "stepMedianMs": 1000 * statistics.median(times),
                "firstStepSeconds": first,
                "peakRssBytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
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
