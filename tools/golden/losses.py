"""Makes golden values of the losses of torch and sentence-transformers, and their gradients.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 sentence-transformers==6.2.0
    venv/bin/python tools/golden/losses.py > packages/core/test/fixtures/losses.json
    npx oxfmt packages/core/test/fixtures/losses.json

Embeddings are rows of four texts for each of three columns: anchors, positives, negatives. Numbers are rounded to five
digits before use. Losses of embeddings come from the released classes, with a model that returns the embeddings it is
given.
"""

import sys

sys.path.pop(0)

import json
from importlib.metadata import version

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.losses import ContrastiveLoss, CosineSimilarityLoss, MultipleNegativesRankingLoss, TripletLoss

generator = torch.Generator().manual_seed(3)


def draw(*shape):
    values = torch.randn(shape, generator=generator)
    return torch.tensor([float(f"{value:.5g}") for value in values.flatten().tolist()]).reshape(shape)


class Given(SentenceTransformer):
    """A model that returns its input as the embeddings."""

    def __init__(self):
        super().__init__(modules=[torch.nn.Identity()])

    def forward(self, features, **_):
        return features


def embedded(loss, columns, labels=None):
    tensors = [column.clone().requires_grad_() for column in columns]
    value = loss([{"sentence_embedding": tensor} for tensor in tensors], labels)
    value.backward()
    return {"loss": value.item(), "gradient": torch.cat([tensor.grad for tensor in tensors]).flatten().tolist()}


def classified(loss, logits, labels):
    tensor = logits.clone().requires_grad_()
    value = loss(tensor, labels)
    value.backward()
    return {"loss": value.item(), "gradient": tensor.grad.flatten().tolist()}


columns = [draw(4, 6) for _ in range(3)]
scores = torch.tensor([0.9, 0.1, 0.55, 0.0])
alike = torch.tensor([1.0, 0.0, 0.0, 1.0])
logits, classes = draw(4, 3), torch.tensor([2, 0, 1, 2])
several = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
weights, smoothing = [0.5, 2.0, 1.25], 0.1

model = Given()
json.dump(
    {
        "maker": "tools/golden/losses.py",
        "versions": {name: version(name) for name in ("torch", "sentence-transformers")},
        "columns": [column.flatten().tolist() for column in columns],
        "scores": scores.tolist(),
        "alike": alike.tolist(),
        "logits": logits.flatten().tolist(),
        "classes": classes.tolist(),
        "several": several.flatten().tolist(),
        "weights": weights,
        "smoothing": smoothing,
        "pairs": embedded(MultipleNegativesRankingLoss(model), columns[:2]),
        "hard-negatives": embedded(MultipleNegativesRankingLoss(model, scale=5), columns),
        "cosine-similarity": embedded(CosineSimilarityLoss(model), columns[:2], scores),
        "triplet": embedded(TripletLoss(model, triplet_margin=0.8), columns),
        "contrastive": embedded(ContrastiveLoss(model, size_average=True), columns[:2], alike),
        "smoothed": classified(torch.nn.CrossEntropyLoss(label_smoothing=smoothing), logits, classes),
        "weighted": classified(torch.nn.CrossEntropyLoss(weight=torch.tensor(weights)), logits, classes),
        "both": classified(
            torch.nn.CrossEntropyLoss(weight=torch.tensor(weights), label_smoothing=smoothing), logits, classes
        ),
        "binary": classified(torch.nn.BCEWithLogitsLoss(), logits, several),
        "binary-weighted": classified(
            torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(weights)), logits, several
        ),
    },
    sys.stdout,
)
