"""Activation functions of transformers, by their names there, and their derivatives.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0
    venv/bin/python tools/golden/activations.py > packages/engine/test/fixtures/activations.json
    npx oxfmt packages/engine/test/fixtures/activations.json
"""

import sys

sys.path.pop(0)

import json

import torch
import transformers
from transformers.activations import ACT2CLS, ACT2FN

# None of these points is at a jump of a derivative.
POINTS = [-12.0, -6.5, -3.25, -1.0, -0.3, -0.001, 0.002, 0.2, 0.7, 2.5, 3.5, 5.9, 7.0, 12.0]
# Left out because they have weights.
LEFT_OUT = {"prelu", "xielu"}

values = {}
for name in sorted(set(ACT2CLS) - LEFT_OUT):
    x = torch.tensor(POINTS, requires_grad=True)
    y = ACT2FN[name](x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    values[name] = {"y": y.tolist(), "slope": slope.tolist()}
print(
    json.dumps(
        {
            "maker": "tools/golden/activations.py",
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
            "x": POINTS,
            "values": values,
        }
    )
)
