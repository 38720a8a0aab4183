"""Makes Parquet files as on the hub from the hand-made TSV files in the layout of the GLUE site, and some in other
forms.

    pip install pyarrow==18.1.0
    python tools/golden/parquet.py packages/tasks/test/fixtures
"""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

fixtures = Path(sys.argv[1])

# hub configuration, folder of the TSV files, (hub column, TSV column) of the texts, label column, class names
ENTAILMENT = ["entailment", "not_entailment"]
PAIR = [("sentence1", "sentence1"), ("sentence2", "sentence2")]
TASKS = [
    ("cola", "CoLA", [("sentence", 3)], 1, None),
    ("sst2", "SST-2", [("sentence", "sentence")], "label", None),
    ("mrpc", "MRPC", [("sentence1", "#1 String"), ("sentence2", "#2 String")], "Quality", None),
    ("qqp", "QQP", [("question1", "question1"), ("question2", "question2")], "is_duplicate", None),
    ("stsb", "STS-B", PAIR, "score", None),
    ("mnli", "MNLI", [("premise", "sentence1"), ("hypothesis", "sentence2")], "gold_label",
     ["entailment", "neutral", "contradiction"]),
    ("qnli", "QNLI", [("question", "question"), ("sentence", "sentence")], "label", ENTAILMENT),
    ("rte", "RTE", PAIR, "label", ENTAILMENT),
    ("wnli", "WNLI", PAIR, "label", None),
]
SPLITS = {
    "train": "train",
    "dev": "validation",
    "dev_matched": "validation_matched",
    "dev_mismatched": "validation_mismatched",
}


def rows_of(path):
    lines = [line.split("\t") for line in path.read_text("utf-8-sig").split("\n") if line]
    if path.parent.name == "CoLA":
        return [dict(enumerate(cells)) for cells in lines]
    header = lines[0]
    return [dict(zip(header, cells)) for cells in lines[1:] if len(cells) == len(header)]


def label_of(text, classes, is_score):
    if is_score:
        return float(text)
    return classes.index(text) if classes else int(text)


def glue():
    for config, folder, texts, label, classes in TASKS:
        for file, split in SPLITS.items():
            path = fixtures / "glue" / folder / f"{file}.tsv"
            if not path.exists():
                continue
            rows = rows_of(path)
            is_score = label == "score"
            columns = {hub: pa.array([row[column] for row in rows], pa.string()) for hub, column in texts}
            labels = [label_of(row[label], classes, is_score) for row in rows]
            columns["label"] = pa.array(labels, pa.float32() if is_score else pa.int64())
            columns["idx"] = pa.array(range(len(rows)), pa.int32())
            write(pa.table(columns), "hub", config, f"{split}-00000-of-00001.parquet")


def trec():
    coarse = ["ABBR", "ENTY", "DESC", "HUM", "LOC", "NUM"]
    for file, split in (("train_5500.label", "train"), ("TREC_10.label", "test")):
        lines = (fixtures / "trec" / "uiuc" / file).read_bytes().replace(b"\xf0", b" ").decode().split("\n")
        split_lines = [line.split(" ", 1) for line in lines if line]
        columns = {
            "text": pa.array([text for _, text in split_lines], pa.string()),
            "coarse_label": pa.array([coarse.index(label.split(":")[0]) for label, _ in split_lines], pa.int64()),
            "fine_label": pa.array([0] * len(split_lines), pa.int64()),
        }
        write(pa.table(columns), "hub", "trec/default", split, "0000.parquet")


def forms():
    """Writes one user table in many forms, and some files that cannot be read."""
    texts = ["good", "bad", "naïve 日本 😀", "good", "bad, \"very\"\tbad", "fine"]
    table = pa.table({
        "id": pa.array(range(6), pa.int32()),
        "text": pa.array(texts, pa.string()),
        "label": pa.array([1, 0, 1, 1, 0, 1], pa.int64()),
    })
    write(table, "parquet", "snappy.parquet")
    write(table, "parquet", "plain.parquet", compression="none", use_dictionary=False)
    write(table, "parquet", "second-version.parquet", data_page_version="2.0")
    write(table, "parquet", "groups.parquet", row_group_size=2)
    write(table, "parquet", "pages.parquet", data_page_size=1, write_batch_size=1, use_dictionary=False)
    required = pa.schema([pa.field(field.name, field.type, nullable=False) for field in table.schema])
    write(pa.Table.from_arrays(table.columns, schema=required), "parquet", "required.parquet")
    write(table.set_column(1, "text", pa.array(texts, pa.large_string())), "parquet", "large-string.parquet")
    named = pa.array(["pos", "neg", "pos", "pos", "neg", "pos"]).dictionary_encode()
    write(table.set_column(2, "label", named), "parquet", "named.parquet")
    scores = pa.array([3.8, 0.1, 2.333, 5, 1e-7, 4.75], pa.float32())
    write(table.set_column(2, "label", scores), "parquet", "scores.parquet")
    write(table.set_column(2, "label", scores.cast(pa.float64())), "parquet", "doubles.parquet")
    write(table.set_column(1, "text", pa.array(["a", None, "b", "c", "d", "e"])), "parquet", "missing.parquet")
    write(table.set_column(1, "text", pa.array([[text] for text in texts])), "parquet", "list.parquet")
    write(table.append_column("extra", pa.array([{"a": 1, "b": [2]}] * 6)), "parquet", "beside-structure.parquet")
    write(table.set_column(2, "label", pa.array([0] * 6, pa.date32())), "parquet", "date.parquet")
    write(table.slice(0, 0), "parquet", "empty.parquet")
    write(table, "parquet", "zstd.parquet", compression="zstd")
    write(table, "parquet", "delta.parquet", use_dictionary=False, column_encoding={"label": "DELTA_BINARY_PACKED"})


def write(table, *path, **options):
    place = fixtures.joinpath(*path)
    place.parent.mkdir(parents=True, exist_ok=True)
    made = {"maker": "tools/golden/parquet.py", "pyarrow": pa.__version__}
    metadata = {**(table.schema.metadata or {}), b"made": json.dumps(made).encode()}
    options = {"compression": "snappy", "write_statistics": False, "store_schema": False, **options}
    pq.write_table(table.replace_schema_metadata(metadata), place, **options)


glue()
trec()
forms()
