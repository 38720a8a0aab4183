"""Makes golden values of retrieval metrics, from the InformationRetrievalEvaluator of sentence-transformers.

    pip install sentence-transformers==6.2.0 torch==2.15.0 numpy==2.4.6
    python tools/golden/metrics_retrieval.py > packages/tasks/test/fixtures/metrics-retrieval.json

Scores are small integers, so that many documents tie.
"""

import json
import sys

from importlib.metadata import version

sys.path.append(sys.path.pop(0))  # safetensors.py next to this script would hide the library

import numpy as np
import torch
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

rng = np.random.default_rng(0)


class Scores:
    """A model whose query vectors are rows of the score table, and whose documents are unit vectors."""

    def __init__(self, scores):
        self.scores = torch.tensor(scores, dtype=torch.float32)

    def encode_query(self, queries, **_):
        return self.scores[[int(query) for query in queries]]

    def encode_document(self, documents, **_):
        return torch.eye(self.scores.shape[1])[[int(document) for document in documents]]


def case(name, queries, documents, values, relevant):
    scores = rng.integers(0, values, (queries, documents))
    chosen = [sorted(rng.choice(documents, size=count, replace=False).tolist()) for count in relevant]
    key = lambda number: f"{number:04d}"
    evaluator = InformationRetrievalEvaluator(
        queries={key(query): str(query) for query in range(queries)},
        corpus={key(document): str(document) for document in range(documents)},
        relevant_docs={key(query): {key(document) for document in of} for query, of in enumerate(chosen)},
        score_functions={"dot": lambda a, b: a @ b.T},
    )
    metrics = evaluator.compute_all_metrics(Scores(scores))["dot"]
    values = {
        "recallAt1": metrics["recall@k"][1],
        "recallAt10": metrics["recall@k"][10],
        "mrr": metrics["mrr@k"][10],
        "ndcgAt10": metrics["ndcg@k"][10],
    }
    return {
        "name": name,
        "scores": scores.tolist(),
        "relevant": chosen,
        "values": {metric: float(value) for metric, value in values.items()},
    }


cases = [
    case("one relevant document a query", 12, 40, 1000, [1] * 12),
    case("several relevant documents", 12, 30, 1000, rng.integers(1, 6, 12).tolist()),
    case("equal scores", 10, 25, 4, rng.integers(1, 4, 10).tolist()),
    case("more than ten relevant documents", 3, 20, 1000, [11, 15, 20]),
    case("fewer than ten documents", 4, 5, 3, [1, 2, 3, 5]),
    case("queries without a relevant document", 6, 15, 1000, [0, 1, 0, 2, 1, 0]),
]
versions = {name: version(name) for name in ("sentence-transformers", "torch", "numpy")}
golden = {"maker": "tools/golden/metrics_retrieval.py", "versions": versions, "cases": cases}
json.dump(golden, sys.stdout)
