"""Makes golden values of F1 with several labels per row, from scikit-learn.

    pip install numpy==2.4.6 scikit-learn==1.9.1
    python tools/golden/metrics_labels.py > packages/tasks/test/fixtures/metrics-labels.json
"""

import json
import sys

import numpy as np
import sklearn
from sklearn.metrics import f1_score

rng = np.random.default_rng(0)


def case(rows, labels, share, errors):
    actual = (rng.random((rows, labels)) < share).astype(int)
    predicted = np.where(rng.random((rows, labels)) < errors, 1 - actual, actual)
    score = lambda average: f1_score(actual, predicted, average=average, zero_division=0)
    return {
        "predicted": ["".join(map(str, row)) for row in predicted.tolist()],
        "actual": ["".join(map(str, row)) for row in actual.tolist()],
        "micro": float(score("micro")),
        "macro": float(score("macro")),
        "labels": score(None).tolist(),
    }


shapes = [(40, 5, 0.3, 0.2), (25, 12, 0.05, 0.1), (8, 3, 0.5, 1), (6, 4, 0, 0), (10, 2, 1, 0.4), (30, 6, 0.1, 0.02)]
versions = {"python": sys.version.split()[0], "numpy": np.__version__, "scikit-learn": sklearn.__version__}
golden = {"maker": "tools/golden/metrics_labels.py", "versions": versions, "cases": [case(*shape) for shape in shapes]}
json.dump(golden, sys.stdout, indent=1)
