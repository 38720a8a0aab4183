"""Makes tests/models/fixtures/<network>-tiny/generation.safetensors with transformers: texts that the networks of
architectures.py generate.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2
    /tmp/golden/bin/python tools/golden/generation.py && npx oxfmt packages/models/test/fixtures/sampling.json

The metadata of each file records the versions that made it. A file holds, for the network with its next-token head,

    prompt/<n>             token ids
    alone/<n>/ids          the continuation, by greedy decoding
    batch/ids, /logits     the same for all prompts in one batch padded on the left, with the logits [prompts, tokens, words] of each step
    penalty/ids            the continuation of the longest prompt with a repetition penalty
    ended/ids, /eos        its continuation with two tokens that end a text
    long/prompt, /ids      a prompt so long that the network's positions run out

Also makes packages/models/test/fixtures/sampling.json: what transformers' logits processors make of some logits.
"""

import sys

sys.path.append(sys.path.pop(0))  # safetensors.py next to this script would hide the library

import json

import architectures as made
import torch
from safetensors.torch import save_file
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

NETWORKS = ("gpt2", "llama", "qwen2", "qwen3", "mistral", "gemma3", "phi3")
LENGTHS = (1, 9, 5)
LONGEST = 1
# Gives prompts after which every network writes several different words, none nearly as likely as another.
SEED = 23
MARGIN = 1e-3
NEW_TOKENS = 24
PENALTY = 2.0
POSITIONS = 48
LONG = 40

LOGITS = 30
# Tokens already in the text, and settings of sampling.
SEEN = [3, 4, 3, 11, 3, 4, 3]
SETTINGS = [
    {},
    {"temperature": 0.6},
    {"topK": 5},
    {"topP": 0.7},
    {"topP": 0.05},
    {"minP": 0.1},
    {"minP": 1},
    {"temperature": 1.5, "topP": 0.9, "minP": 0.2},
    {"noRepeatNgramSize": 1},
    {"noRepeatNgramSize": 2},
    {"noRepeatNgramSize": 3, "repetitionPenalty": 1.3, "topK": 20},
    {"repetitionPenalty": 1.4},
    {"repetitionPenalty": 0.7, "temperature": 1.7, "topK": 12, "topP": 0.8},
]


def prompts():
    generator = torch.Generator().manual_seed(SEED)
    return [torch.randint(3, made.VOCABULARY, (length,), generator=generator) for length in LENGTHS]


def written(model, rows, new_tokens=NEW_TOKENS, **settings):
    """Returns new ids [rows, tokens] and logits [rows, tokens, words] for rows padded on the left."""
    longest = max(map(len, rows))
    ids = torch.stack([torch.cat([torch.full((longest - len(row),), made.PADDING), row]) for row in rows])
    mask = torch.stack([torch.arange(longest) >= longest - len(row) for row in rows]).long()
    model.generation_config.eos_token_id = None
    output = model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=new_tokens,
        do_sample=False,
        pad_token_id=made.PADDING,
        output_logits=True,
        return_dict_in_generate=True,
        **settings,
    )
    return output.sequences[:, longest:], torch.stack(output.logits, 1)


def write(name):
    model = made.network(name, "next")
    rows = prompts()
    long = torch.randint(3, made.VOCABULARY, (LONG,), generator=torch.Generator().manual_seed(SEED + 1))
    expected = {f"prompt/{number}": row for number, row in enumerate(rows)}
    for number, row in enumerate(rows):
        expected[f"alone/{number}/ids"] = written(model, [row])[0][0]
    expected["batch/ids"], expected["batch/logits"] = written(model, rows)
    expected["penalty/ids"] = written(model, [rows[LONGEST]], repetition_penalty=PENALTY)[0][0]
    own = expected[f"alone/{LONGEST}/ids"].tolist()
    assert expected["penalty/ids"].tolist() != own, name
    newest = max(own, key=own.index)
    eos = [next(word for word in range(made.VOCABULARY) if word not in own), newest]
    expected["ended/eos"] = torch.tensor(eos)
    expected["ended/ids"] = written(model, [rows[LONGEST]], eos_token_id=eos)[0][0]
    expected["long/prompt"], expected["long/ids"] = long, written(model, [long], POSITIONS - LONG + 1)[0][0]
    # With longrope, the longest text of a batch determines the rotation of all of them.
    for number in range(len(rows)) if name != "phi3" else []:
        assert expected["batch/ids"][number].tolist() == expected[f"alone/{number}/ids"].tolist(), (name, number)
    first, second = expected["batch/logits"].topk(2, -1).values.unbind(-1)
    assert (first - second).min() > MARGIN, name
    small = {key: tensor if tensor.is_floating_point() else tensor.to(torch.int32) for key, tensor in expected.items()}
    metadata = {"format": "pt", "maker": "tools/golden/generation.py", "versions": json.dumps(made.VERSIONS)}
    save_file(made.contiguous(small), made.FIXTURES / f"{name}-tiny/generation.safetensors", metadata=metadata)


def processed(logits, settings):
    """Returns the probability of every token after transformers' logits processors."""
    steps = LogitsProcessorList()
    if "repetitionPenalty" in settings:
        steps.append(RepetitionPenaltyLogitsProcessor(settings["repetitionPenalty"]))
    if "noRepeatNgramSize" in settings:
        steps.append(NoRepeatNGramLogitsProcessor(settings["noRepeatNgramSize"]))
    steps.append(TemperatureLogitsWarper(float(settings.get("temperature", 1))))
    if "topK" in settings:
        steps.append(TopKLogitsWarper(settings["topK"]))
    if "topP" in settings:
        steps.append(TopPLogitsWarper(settings["topP"]))
    if "minP" in settings:
        steps.append(MinPLogitsWarper(settings["minP"]))
    return steps(torch.tensor([SEEN]), logits[None].clone()).softmax(-1)[0]


def write_sampling():
    logits = 2 * torch.randn(LOGITS, generator=torch.Generator().manual_seed(9))
    rounded = [float(f"{value:.9g}") for value in logits]
    cases = [
        {"settings": settings, "probabilities": [float(f"{value:.9g}") for value in processed(logits, settings)]}
        for settings in SETTINGS
    ]
    content = {"maker": "tools/golden/generation.py", "versions": made.VERSIONS, "logits": rounded, "seen": SEEN, "cases": cases}
    (made.TABLES / "sampling.json").write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    write_sampling()
    for each in sys.argv[1:] or NETWORKS:
        write(each)
