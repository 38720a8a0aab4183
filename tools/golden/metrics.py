"""Golden values of the metrics, from scikit-learn and SciPy.

    pip install numpy==2.1.3 scipy==1.14.1 scikit-learn==1.5.2
    python tools/golden/metrics.py > packages/tasks/test/fixtures/metrics.json
"""

import json
import math
import sys
import warnings

import numpy as np
import scipy
import sklearn
from scipy.special import log_softmax
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, mean_squared_error


warnings.simplefilter("ignore")  # undefined metrics are intended here


def classification(name, predicted, actual):
    is_binary = set(predicted) | set(actual) <= {0, 1}
    positive = {"average": "binary", "pos_label": 1} if is_binary else {"average": "macro", "labels": [1]}
    values = {
        "accuracy": accuracy_score(actual, predicted),
        "macroF1": f1_score(actual, predicted, average="macro", zero_division=0),
        "f1": f1_score(actual, predicted, **positive),
        "matthewsCorrelation": matthews_corrcoef(actual, predicted),
    }
    return case(name, predicted, actual, values)


def regression(name, predicted, actual):
    values = {
        "pearson": pearsonr(predicted, actual).statistic,
        "spearman": spearmanr(predicted, actual).statistic,
        "meanSquaredError": mean_squared_error(actual, predicted),
    }
    return case(name, predicted, actual, values)


def case(name, predicted, actual, values):
    return {
        "name": name,
        "predicted": np.asarray(predicted).tolist(),
        "actual": np.asarray(actual).tolist(),
        "values": {metric: number(value) for metric, value in values.items()},
    }


def number(value):
    """Converts NaN to None, since JSON has no NaN."""
    return None if math.isnan(value) else float(value)


def language(name, logits, labels):
    """A case of rows of logits [tokens, vocabulary] and labels [tokens]; a token's logits predict the label of the next
    one."""
    losses = [
        -log_softmax(np.asarray(row, np.float64)[token])[label[token + 1]]
        for row, label in zip(logits, labels)
        for token in range(len(label) - 1)
        if label[token + 1] != -100
    ]
    return {
        "name": name,
        "logits": [np.asarray(row).ravel().tolist() for row in logits],
        "labels": labels,
        "tokens": len(losses),
        "perplexity": number(np.exp(np.mean(losses))) if losses else None,
    }


def texts():
    rng = np.random.default_rng(1)
    drawn = lambda tokens, scale: np.round(rng.normal(size=(tokens, 7)) * scale, 3)
    yield language("one row", [drawn(6, 1)], [[3, 1, 4, 1, 5, 0]])
    yield language("rows of other lengths, with a prompt", [drawn(5, 2), drawn(3, 2)], [[-100, -100, 2, 6, 0], [1, 2, 3]])
    yield language("large logits", [drawn(4, 300)], [[0, 1, 2, 3]])
    yield language("nothing to predict", [drawn(3, 1)], [[4, -100, -100]])


def noisy_classes(rng, classes, rows, right):
    actual = rng.integers(0, classes, rows)
    guess = rng.integers(0, classes, rows)
    return np.where(rng.random(rows) < right, actual, guess), actual


def cases():
    rng = np.random.default_rng(0)
    yield classification("two classes", *noisy_classes(rng, 2, 40, 0.6))
    yield classification("two classes, worse than chance", *noisy_classes(rng, 2, 25, 0.0))
    yield classification("eight classes", *noisy_classes(rng, 8, 60, 0.5))
    yield classification("rare positive class", [0] * 18 + [1, 1], [0] * 17 + [1, 1, 0])
    yield classification("a class that is never predicted", [0, 1, 0, 1, 0, 1], [0, 1, 2, 2, 0, 1])
    yield classification("a class that is only predicted", [0, 1, 2, 2, 0, 1], [0, 1, 0, 1, 0, 1])
    yield classification("constant predictions", [1] * 10, [0, 1] * 5)
    yield classification("constant labels", [0, 1] * 5, [1] * 10)
    yield classification("no positive class", [0] * 6, [0] * 6)
    actual = rng.normal(size=50)
    yield regression("noisy values", np.round(actual + rng.normal(size=50), 6), np.round(actual, 6))
    yield regression("ties on both sides", np.round(rng.uniform(0, 5, 40)), np.round(rng.uniform(0, 5, 40) * 2) / 2)
    yield regression("monotone but not linear", np.exp(np.arange(12.0)), np.arange(12.0))
    yield regression("small spread far from zero", 1e6 + np.arange(9.0) / 8, np.array([1.0, 3, 2, 5, 4, 7, 6, 9, 8]))
    yield regression("opposed", -np.arange(7.0), np.arange(7.0))
    yield regression("constant predictions of numbers", [0.1] * 6, np.arange(6.0))
    yield regression("constant numbers", np.arange(6.0), [2.5] * 6)


versions = {
    "python": sys.version.split()[0],
    "numpy": np.__version__,
    "scipy": scipy.__version__,
    "scikit-learn": sklearn.__version__,
}
golden = {"maker": "tools/golden/metrics.py", "versions": versions, "cases": list(cases()), "texts": list(texts())}
json.dump(golden, sys.stdout, indent=1)
