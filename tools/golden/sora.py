"""Gates under the optimizer of SoRA's released code, recomputed from its formulas.

    python3 -m venv venv && venv/bin/pip install numpy==2.4.6
    venv/bin/python tools/golden/sora.py > packages/sora/test/fixtures/released-optimizer.json
    npx oxfmt packages/sora/test/fixtures/released-optimizer.json

AdamW of older transformers without decay, then three masked edits one after the other, so that the third sees the
results of the first two:

    m = b1 m + (1 - b1) g          v = b2 v + (1 - b2) g^2
    p = p - lr sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps)
    p > xi: p = p - xi             p < -xi: p = p + xi             |p| < xi: p = 0

The learning rate rises linearly from 0 in the first 3 of 50 steps and falls linearly to 0. Gradients are rounded to
five digits. The golden values are in single precision, operation by operation, as in the released code. The same
computation in double precision must agree on every zero, so that rounding decides no gate.
"""

import json
import sys

import numpy

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-6
PEAK, XI = 1e-2, 2.5e-3
STEPS, WARMUP, GATES = 50, 3, 16

rng = numpy.random.default_rng(2311)
start = numpy.round(rng.normal(0, 0.1, GATES), 5)
wanted = rng.normal(0, 0.3, GATES) * (rng.random(GATES) < 0.6)


def rounded(values, digits=5):
    return [float(f"{value:.{digits}g}") for value in values]


def learning_rate(step):  # step 0, 1, ..
    return PEAK * (step / WARMUP if step < WARMUP else (STEPS - step) / (STEPS - WARMUP))


def proximal(p, xi):
    p = p.copy()
    above = p > xi
    p[above] = p[above] - xi
    below = p < -xi
    p[below] = p[below] + xi
    p[numpy.abs(p) < xi] = 0
    return p


class Gates:
    def __init__(self, dtype):
        self.dtype = dtype
        self.p = start.astype(dtype)
        self.m = numpy.zeros(GATES, dtype)
        self.v = numpy.zeros(GATES, dtype)

    def step(self, t, rate, gradient):  # t 1, 2, ..
        number = self.dtype
        g = numpy.array(gradient, number)
        self.m = number(BETA1) * self.m + number(1 - BETA1) * g
        self.v = number(BETA2) * self.v + number(1 - BETA2) * g * g
        size = number(rate * (1 - BETA2**t) ** 0.5 / (1 - BETA1**t))
        proposed = self.p - size * self.m / (numpy.sqrt(self.v) + number(EPSILON))
        self.p = proximal(proposed, number(XI))
        return proposed


double, single = Gates(numpy.float64), Gates(numpy.float32)
steps = []
for index in range(STEPS):
    gradient = rounded(double.p - wanted + rng.normal(0, 0.03, GATES))
    rate = learning_rate(index)
    proposed = double.step(index + 1, rate, gradient)
    single.step(index + 1, rate, gradient)
    moved = numpy.abs(proposed[proposed != 0])
    assert numpy.abs(moved - XI).min() > 1e-5 * XI and numpy.abs(moved - 2 * XI).min() > 1e-5 * XI
    assert ((single.p == 0) == (double.p == 0)).all()
    assert numpy.linalg.norm(single.p - double.p) < 2e-6 * numpy.linalg.norm(double.p)
    steps.append({"learningRate": rate, "gradient": gradient, "gate": rounded(single.p, 9)})

json.dump(
    {
        "madeBy": {"script": "tools/golden/sora.py", "numpy": numpy.__version__, "python": sys.version.split()[0]},
        "xi": XI,
        "beta1": BETA1,
        "beta2": BETA2,
        "epsilon": EPSILON,
        "start": start.tolist(),
        "steps": steps,
    },
    sys.stdout,
)
