"""Makes golden values of entity precision, recall and F1 on 1,000 random taggings, from seqeval.

    pip install seqeval==1.2.2
    python tools/golden/metrics_entities.py > packages/tasks/test/fixtures/metrics-entities.json

A fifth of the taggings is arbitrary; the others are well formed in one of the schemes. Predictions are copies with
errors. A sentence is a string with one letter per tag, which encodes its index in `tags`.
"""

import json
import random
import string
import sys
import warnings

from importlib.metadata import version
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

warnings.simplefilter("ignore")
random.seed(0)

TYPES = ["PER", "LOC", "GEO-ORG"]
UNUSUAL = ["B", "I", "E", "S", "B-", "I-", "IPER", "X-PER", "X", ".", "-", "PER", "O-LOC"]
TAGS = ["O", *(f"{tag}-{of}" for of in TYPES for tag in "BIES"), *UNUSUAL]
LETTERS = dict(zip(TAGS, string.ascii_letters))


def entity(scheme, of, length, after_same):
    tags = ["I"] * length
    if scheme in ("IOB2", "IOBES"):
        tags[0] = "B"
    if scheme == "IOB1" and after_same:
        tags[0] = "B"
    if scheme in ("IOE2", "IOBES"):
        tags[-1] = "E"
    if scheme == "IOBES" and length == 1:
        tags = ["S"]
    return [f"{tag}-{of}" for tag in tags]


def sentence(scheme):
    if scheme == "any":
        return random.choices(TAGS, k=random.randint(0, 9))
    tags, before = [], None
    for _ in range(random.randint(1, 4)):
        of = random.choice(TYPES)
        gap = random.choice([0, 0, 1, 2])
        tags += ["O"] * gap + entity(scheme, of, random.randint(1, 3), before == of and gap == 0)
        before = of
    return tags + ["O"] * random.randint(0, 1)


def with_errors(sentence, share):
    return [random.choice(TAGS) if random.random() < share else tag for tag in sentence]


def rounded(values):
    return [round(float(value), 13) for value in values]


def tagging():
    scheme = random.choice(["IOB1", "IOB2", "IOE2", "IOBES", "any"])
    actual = [sentence(scheme) for _ in range(random.randint(1, 3))]
    share = random.choice([0, 0.1, 0.3, 1])
    predicted = [with_errors(tags, share) for tags in actual]
    micro = precision_recall_fscore_support(actual, predicted, average="micro")[:3]
    precision, recall, f1, support = precision_recall_fscore_support(actual, predicted)
    encode = lambda taggings: " ".join("".join(LETTERS[tag] for tag in tags) for tags in taggings)
    return {
        "actual": encode(actual),
        "predicted": encode(predicted),
        # Precision, recall and F1 of all types together, then precision, recall, F1 and support of each type, sorted by
        # name.
        "scores": rounded(micro) + [value for of in zip(precision, recall, f1, support) for value in rounded(of)],
    }


versions = {"python": sys.version.split()[0], "seqeval": version("seqeval")}
taggings = [tagging() for _ in range(1000)]
lines = ",\n".join(f"    {json.dumps(tagging)}" for tagging in taggings)
header = json.dumps({"maker": "tools/golden/metrics_entities.py", "versions": versions, "tags": TAGS})
sys.stdout.write(f'{header[:-1]}, "taggings": [\n{lines}\n]}}\n')
