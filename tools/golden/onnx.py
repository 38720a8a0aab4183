"""Exports small networks of tests/models/fixtures with both exporters of torch.onnx, to tests/models/fixtures/onnx.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install torch==2.15.0 transformers==5.24.0 onnx==1.23.2 onnxscript==0.7.2
    /tmp/golden/bin/python tools/golden/onnx.py && npx oxfmt tests/models/fixtures/onnx/versions.json

The outputs and gradients that the tests expect are those of transformers and PEFT for the same weights, made by
architectures.py and peft_bert.py. Of the notes of the newer exporter only the names of modules are kept, to make the files
small.
"""

import sys
from pathlib import Path

# This folder's scripts would hide libraries of the same name.
sys.path = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

import json
import tempfile
from importlib.metadata import version

import numpy as np
import onnx
import torch
import transformers
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

sys.path.append(str(Path(__file__).resolve().parent))
from exported_graphs import small, write

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests/models/fixtures"
FOLDER = FIXTURES / "onnx"
VERSIONS = {name: version(name) for name in ["onnx", "onnxscript", "torch", "transformers"]}
# The networks, and the class whose outputs are exported.
NETWORKS = {
    "bert": AutoModelForSequenceClassification,
    "distilbert": AutoModelForSequenceClassification,
    "roberta": AutoModelForSequenceClassification,
    "mpnet": AutoModelForSequenceClassification,
    "modernbert": AutoModelForSequenceClassification,
    "llama": AutoModelForCausalLM,
    "gpt2": AutoModelForCausalLM,
}
# The network whose hidden states are exported too: as it is, in half precision, and with its weights in another file.
FEATURES = "distilbert"


class Positional(torch.nn.Module):
    """Passes inputs by name, which the older exporter does not do for every class. Module names stay those of `model`."""

    def __init__(self, model, names):
        super().__init__()
        self.__dict__["whole"], self.names = model, names
        for name, child in model.named_children():
            self.add_module(name, child)

    def forward(self, *inputs):
        named = dict(zip(self.names, inputs))
        return self.__dict__["whole"](**named, return_dict=False)[0]


def export(network, cls, exporter, dtype=torch.float32):
    model = cls.from_pretrained(FIXTURES / f"{network}-tiny", dtype=dtype).eval()
    model.config.use_cache = False
    ids = torch.randint(3, 80, (2, 7))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    inputs["attention_mask"][1, 5:] = 0
    if network == "bert":
        inputs["token_type_ids"] = torch.zeros_like(ids)
    axes = {0: "batch", 1: "tokens"}
    output = "last_hidden_state" if cls is AutoModel else "logits"
    common = {"input_names": list(inputs), "output_names": [output]}
    wrapped = Positional(model, list(inputs)).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model.onnx"
        if exporter == "traced":
            dynamic = {name: axes for name in [*inputs, output]}
            torch.onnx.export(wrapped, tuple(inputs.values()), path, dynamo=False, opset_version=17, dynamic_axes=dynamic, **common)
        else:
            batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens")
            dynamic = {"inputs": tuple({0: batch, 1: tokens} for _ in inputs)}
            torch.onnx.export(wrapped, tuple(inputs.values()), path, dynamo=True, dynamic_shapes=dynamic, external_data=False, **common)
        return onnx.load(path)


def features():
    """Writes the graphs of hidden states."""
    for name, dtype in [("features", torch.float32), ("half", torch.float16)]:
        write(FOLDER / f"{FEATURES}-{name}.onnx", small(export(FEATURES, AutoModel, "traced", dtype)).SerializeToString())
    graph = small(export(FEATURES, AutoModel, "traced"))
    with tempfile.TemporaryDirectory() as folder:
        onnx.save_model(
            graph, f"{folder}/model.onnx", save_as_external_data=True, location="model.onnx_data", size_threshold=1024
        )
        for file in ["model.onnx", "model.onnx_data"]:
            write(FOLDER / file.replace("model", f"{FEATURES}-external"), Path(folder, file).read_bytes())


def tiny():
    """Writes a graph of a few nodes, to damage it: an embedding, positions, a norm in parts, a linear module, GELU."""
    torch.manual_seed(0)
    floats = lambda *shape: torch.randn(*shape).numpy()
    constants = {
        "words.weight": floats(8, 4),
        "positions.weight": floats(6, 4),
        "numbers": np.arange(6, dtype=np.int64)[None],
        "norm.weight": floats(4),
        "norm.bias": floats(4),
        "onnx::MatMul_1": floats(4, 4),
        "dense.bias": floats(4),
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
        "two": np.array([2], np.int64),
        "square": np.float32(2),
        "epsilon": np.float32(1e-5),
        "root": np.float32(2**0.5),
        "unit": np.float32(1),
        "half": np.float32(0.5),
    }
    node = onnx.helper.make_node
    nodes = [
        node("Gather", ["words.weight", "input_ids"], ["word"]),
        node("Shape", ["input_ids"], ["sizes"]),
        node("Slice", ["sizes", "one", "two"], ["length"]),
        node("Slice", ["numbers", "zero", "length", "one"], ["places"]),
        node("Gather", ["positions.weight", "places"], ["position"]),
        node("Add", ["word", "position"], ["sum"]),
        node("ReduceMean", ["sum"], ["mean"], axes=[-1]),
        node("Sub", ["sum", "mean"], ["centred"]),
        node("Pow", ["centred", "square"], ["squares"]),
        node("ReduceMean", ["squares"], ["variance"], axes=[-1]),
        node("Add", ["variance", "epsilon"], ["above"]),
        node("Sqrt", ["above"], ["deviation"]),
        node("Div", ["centred", "deviation"], ["normed"]),
        node("Mul", ["normed", "norm.weight"], ["scaled"]),
        node("Add", ["scaled", "norm.bias"], ["x"]),
        node("MatMul", ["x", "onnx::MatMul_1"], ["product"], name="/dense/MatMul"),
        node("Add", ["product", "dense.bias"], ["y"], name="/dense/Add"),
        node("Div", ["y", "root"], ["narrow"]),
        node("Erf", ["narrow"], ["erf"]),
        node("Add", ["erf", "unit"], ["open"]),
        node("Mul", ["y", "open"], ["gated"]),
        node("Mul", ["gated", "half"], ["last_hidden_state"]),
    ]
    port = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "tiny",
        [port("input_ids", onnx.TensorProto.INT64, ["batch", "tokens"])],
        [port("last_hidden_state", onnx.TensorProto.FLOAT, ["batch", "tokens", 4])],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    write(FOLDER / "tiny.onnx", model.SerializeToString())


def main():
    FOLDER.mkdir(exist_ok=True)
    for network, cls in NETWORKS.items():
        for exporter in ["traced", "dynamo"]:
            torch.manual_seed(0)
            write(FOLDER / f"{network}-{exporter}.onnx", small(export(network, cls, exporter)).SerializeToString())
    features()
    tiny()
    (FOLDER / "versions.json").write_text(json.dumps({"maker": "tools/golden/onnx.py", "versions": VERSIONS}))


if __name__ == "__main__":
    main()
