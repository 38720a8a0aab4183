"""Makes the golden files of packages/safetensors with the Python library.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install safetensors==0.8.0 numpy==2.4.6 ml_dtypes==0.6.0
    /tmp/golden/bin/python tools/golden/safetensors.py && npx oxfmt packages/safetensors/test/fixtures

expected.json and the files' metadata record the versions that made the committed files.
"""

import sys
from pathlib import Path

# This script's own name would hide the library.
sys.path = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

import hashlib
import json
import struct

import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import load, load_file, save, save_file

FIXTURES = Path(__file__).resolve().parents[2] / "packages/safetensors/test/fixtures"
VERSIONS = {"safetensors": safetensors.__version__, "numpy": np.__version__, "ml_dtypes": ml_dtypes.__version__}
MADE_WITH = ", ".join(f"{name} {version}" for name, version in VERSIONS.items())

DTYPES = {
    "U64": np.uint64, "I64": np.int64, "F64": np.float64, "F32": np.float32, "U32": np.uint32, "I32": np.int32,
    "BF16": ml_dtypes.bfloat16, "F16": np.float16, "U16": np.uint16, "I16": np.int16, "I8": np.int8, "U8": np.uint8,
    "BOOL": np.bool_,
}
FLOATS = ("F64", "F32", "BF16", "F16")


def samples(name):
    """Extremes, both zeros, subnormals and a few ordinary values of a dtype."""
    if name == "BOOL":
        return [False, True, True, False]
    if name in FLOATS:
        info = ml_dtypes.finfo(DTYPES[name])
        return [0.0, -0.0, 1.5, -3.1415926, info.max, info.min, info.tiny, info.smallest_subnormal, np.inf, -np.inf, np.nan]
    info = np.iinfo(DTYPES[name])
    return [0, 1, 77, info.min, info.max]


def every_dtype():
    """Returns each dtype as a vector, a scalar and an empty matrix, and names that sort or escape in uncommon ways."""
    tensors = {}
    for name, dtype in DTYPES.items():
        values = np.array(samples(name), dtype)
        tensors[f"{name}.vector"] = values
        tensors[f"{name}.scalar"] = np.array(values[2])
        tensors[f"{name}.empty"] = np.zeros((2, 0, 3), dtype)
    odd_names = ["", "10", "9", "__proto__", 'quote " \\ \n \x01 \x7f \u2028', "é", "\uffff", "\U0001f600"]
    for i, name in enumerate(odd_names):
        tensors[name] = np.arange(i + 1, dtype=np.float32)
    return tensors


def adapter():
    """Returns a small LoRA adapter as PEFT stores it."""
    path = "base_model.model.encoder.layer.0.attention.query"
    return {
        f"{path}.lora_B.weight": np.arange(8, dtype=np.float32).reshape(4, 2) / 8,
        f"{path}.lora_A.weight": np.arange(6, dtype=np.float32).reshape(2, 3) - 2.5,
    }


def unaligned():
    """Returns a layout that the library reads but no longer writes: a float32 tensor at an odd byte offset."""
    tensors = {"bytes": np.array([1, 2, 3], np.uint8), "floats": np.array([0.5, -2.0], np.float32)}
    header = {
        "bytes": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
        "floats": {"dtype": "F32", "shape": [2], "data_offsets": [3, 11]},
    }
    text = json.dumps(header).encode()
    data = struct.pack("<Q", len(text)) + text + b"".join(tensor.tobytes() for tensor in tensors.values())
    assert all(np.array_equal(load(data)[name], tensor) for name, tensor in tensors.items())
    return tensors, data


def as_expected(tensors):
    return {name: expected_tensor(tensor) for name, tensor in tensors.items()}


def expected_tensor(tensor):
    dtype = next(name for name, each in DTYPES.items() if tensor.dtype == each)
    entry = {"dtype": dtype, "shape": list(tensor.shape), "bytes": tensor.tobytes().hex()}
    if dtype in FLOATS:
        with np.errstate(over="ignore"):
            entry["float32"] = tensor.astype(np.float32).tobytes().hex()
    return entry


def all_patterns_hash(dtype):
    """Returns the SHA-256 of the float32 values of all 65,536 bit patterns, with every NaN replaced by the quiet one.
    """
    with np.errstate(invalid="ignore"):
        values = np.arange(2**16, dtype=np.uint16).view(dtype).astype(np.float32)
    values.view(np.uint32)[np.isnan(values)] = 0x7FC00000
    return hashlib.sha256(values.tobytes()).hexdigest()


def write_sharded(tensors):
    """Writes the two matrices to separate files, with the index that transformers writes."""
    folder = FIXTURES / "sharded"
    folder.mkdir(exist_ok=True)
    weight_map = {}
    for number, (name, tensor) in enumerate(tensors.items(), 1):
        weight_map[name] = f"model-{number:05}-of-{len(tensors):05}.safetensors"
        save_file({name: tensor}, folder / weight_map[name], metadata={"format": "pt"})
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": float(total)}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def main():
    FIXTURES.mkdir(parents=True, exist_ok=True)
    unaligned_tensors, unaligned_bytes = unaligned()
    files = {
        "every-dtype": (every_dtype(), save(every_dtype(), metadata={"made with": MADE_WITH})),
        "adapter": (adapter(), save(adapter(), metadata={"format": "pt"})),
        "nothing": ({}, save({})),
        "unaligned": (unaligned_tensors, unaligned_bytes),
    }
    expected = {"versions": VERSIONS, "files": {}}
    for name, (tensors, data) in files.items():
        (FIXTURES / f"{name}.safetensors").write_bytes(data)
        expected["files"][name] = as_expected(tensors)
        assert load_file(FIXTURES / f"{name}.safetensors").keys() == tensors.keys()
    write_sharded(adapter())
    expected["float32OfAllPatterns"] = {name: all_patterns_hash(DTYPES[name]) for name in ("F16", "BF16")}
    (FIXTURES / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
