"""Results of torch.randperm for given seeds, which alone define some published splits of data sets.

    pip install torch
    python tools/golden/torch_permutation.py > packages/tasks/test/fixtures/torch-permutation.json
"""

import json
import sys

import torch

SHOWN = 24


def permutation(length, seed):
    order = torch.randperm(length, generator=torch.Generator().manual_seed(seed)).tolist()
    return {"length": length, "seed": seed, "first": order[:SHOWN], "last": order[-SHOWN:]}


cases = [permutation(*case) for case in [(1, 42), (10, 42), (277, 42), (277, 0), (1043, 42), (67349, 42), (700, 2**32 - 1)]]
versions = {"python": sys.version.split()[0], "torch": torch.__version__.split("+")[0]}
json.dump({"maker": "tools/golden/torch_permutation.py", "versions": versions, "cases": cases}, sys.stdout)
