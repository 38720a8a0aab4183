"""Golden values for packages/bench/src/statistics, made by scipy.

    python3 -m venv venv && venv/bin/pip install scipy==1.17.1
    venv/bin/python tools/golden/statistics.py > packages/bench/test/fixtures/statistics.json
    npx prettier --write packages/bench/test/fixtures/statistics.json
"""

import json
import sys

import numpy
import scipy
from scipy import stats

# Paired differences of accuracies on 300 rows: multiples of 1/300, so that ties are common.
rng = numpy.random.default_rng(20231)
SAMPLES = [
    [0.01, 0.02],
    [0.0, 0.0, 0.0],
    [0.1, -0.1, 0.2, -0.2, 0.3],
    [0.003, 0.004, 0.007, 0.001, 0.002, 0.009],
    *[[int(k) / 300 for k in rng.integers(-4, 9, size)] for size in (4, 5, 6, 8, 10, 12)],
    [float(x) for x in rng.normal(0.5, 1, 10)],
]


def sign_flip_p(differences):
    test = stats.permutation_test(
        (numpy.array(differences),),
        numpy.mean,
        permutation_type="samples",
        alternative="two-sided",
        n_resamples=numpy.inf,
        vectorized=True,
    )
    return float(test.pvalue)


def percentile_interval(values):
    interval = stats.bootstrap(
        (numpy.array(values),),
        numpy.mean,
        method="percentile",
        confidence_level=0.95,
        n_resamples=200_000,
        batch=10_000,
        rng=numpy.random.default_rng(1),
    ).confidence_interval
    return [float(interval.low), float(interval.high)]


json.dump(
    {
        "madeBy": {"script": "tools/golden/statistics.py", "scipy": scipy.__version__, "numpy": numpy.__version__},
        "signFlip": [{"differences": sample, "p": sign_flip_p(sample)} for sample in SAMPLES],
        "bootstrap": [{"values": sample, "interval": percentile_interval(sample)} for sample in SAMPLES[-4:]],
    },
    sys.stdout,
    indent=2,
)
print()
