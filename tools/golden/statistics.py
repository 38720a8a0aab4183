"""Golden values for packages/bench/src/report/statistics, made by scipy and statsmodels.

    python3 -m venv venv && venv/bin/pip install scipy==1.17.1 statsmodels==0.15.0
    venv/bin/python tools/golden/statistics.py > packages/bench/test/fixtures/statistics.json
    npx oxfmt packages/bench/test/fixtures/statistics.json
"""

import json
import sys

import numpy
import scipy
import statsmodels
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

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
# Paired differences on several tasks, with equal and unequal numbers of seeds; the mean of the tasks' means is tested.
BY_TASK = [
    [[int(k) / 300 for k in rng.integers(-3, 9, size)] for size in sizes] for sizes in ([6, 6], [4, 6, 3], [5, 1], [8, 8])
]
FAMILIES = [
    [0.03],
    [0.03125, 0.0625],
    [0.01, 0.04, 0.03, 0.005],
    [0.5, 0.02, 0.02, 1.0, 0.3],
    [float(p) for p in rng.uniform(0, 0.2, 12)],
]


def sign_flip_p(differences, statistic=numpy.mean):
    test = stats.permutation_test(
        (numpy.array(differences),),
        statistic,
        permutation_type="samples",
        alternative="two-sided",
        n_resamples=numpy.inf,
        vectorized=True,
    )
    return float(test.pvalue)


def sign_flip_p_over_tasks(by_task):
    weights = numpy.concatenate([numpy.full(len(task), 1 / len(task) / len(by_task)) for task in by_task])
    return sign_flip_p(numpy.concatenate(by_task), lambda values, axis: (values * weights).sum(axis=axis))


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


# Paired differences and margins, equivalent and not, including margins where p is near 5 %.
TO_MARGINS = [(sample, margin) for sample in SAMPLES if numpy.std(sample) > 0 for margin in (0.005, 0.02)]


def equivalence(differences, margin):
    p, (_, above, _), (_, below, _) = ttost_paired(numpy.array(differences), numpy.zeros(len(differences)), -margin, margin)
    inside = stats.ttest_1samp(differences, 0).confidence_interval(0.9)
    return {
        "differences": differences,
        "margin": margin,
        "p": float(p),
        "notBelow": float(above),
        "notAbove": float(below),
        "smallestMargin": float(max(-inside.low, inside.high)),
    }


def equivalence_over_tasks(by_task, margin):
    # The mean of k means with Welch-Satterthwaite degrees of freedom; for two tasks this is scipy's two-sample test.
    first, second = (numpy.array(task) for task in by_task)
    tests = [
        stats.ttest_ind(first + 2 * side, -second, equal_var=False, alternative=alternative).pvalue
        for side, alternative in ((margin, "greater"), (-margin, "less"))
    ]
    return {"byTask": by_task, "margin": margin, "p": float(max(tests))}


T_VALUES = [(t, degrees) for t in (0.0, 0.3, -1.5, 2.015, 12.0) for degrees in (1.0, 2.7, 5.0, 20.3, 1499.0)]
TAILS = [(tail, degrees) for tail in (0.05, 0.025, 0.05 / 105) for degrees in (1.0, 2.7, 5.0, 20.3, 1499.0)]

json.dump(
    {
        "madeBy": {
            "script": "tools/golden/statistics.py",
            "scipy": scipy.__version__,
            "numpy": numpy.__version__,
            "statsmodels": statsmodels.__version__,
        },
        "signFlip": [{"differences": sample, "p": sign_flip_p(sample)} for sample in SAMPLES],
        "signFlipOverTasks": [{"byTask": by_task, "p": sign_flip_p_over_tasks(by_task)} for by_task in BY_TASK],
        "holm": [{"p": ps, "adjusted": multipletests(ps, method="holm")[1].tolist()} for ps in FAMILIES],
        "studentTail": [{"t": t, "degrees": df, "p": float(stats.t.sf(t, df))} for t, df in T_VALUES],
        "studentQuantile": [{"tail": p, "degrees": df, "t": float(stats.t.isf(p, df))} for p, df in TAILS],
        "equivalence": [equivalence(sample, margin) for sample, margin in TO_MARGINS],
        "equivalenceOverTasks": [
            equivalence_over_tasks(by_task, margin)
            for by_task in BY_TASK
            if len(by_task) == 2 and min(map(len, by_task)) > 1
            for margin in (0.01, 0.03)
        ],
        "bootstrap": [{"values": sample, "interval": percentile_interval(sample)} for sample in SAMPLES[-4:]],
    },
    sys.stdout,
    indent=2,
)
print()
