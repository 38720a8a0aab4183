"""Makes the golden files of packages/gguf with the Python package.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install gguf==0.19.0 numpy==2.4.6
    /tmp/golden/bin/python tools/golden/gguf.py && npx oxfmt packages/gguf/test/fixtures

blocks.gguf has random blocks of every type, and expected.json their values' bits and the versions that made them.
"""

import sys
from pathlib import Path

# This script's own name would hide the library.
sys.path = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

import hashlib
import json
from importlib.metadata import version

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType as Value

FIXTURES = Path(__file__).resolve().parents[2] / "packages/gguf/test/fixtures"
ROWS, COLUMNS = 3, 512
#: The bytes of a block at which its halves are; they must be finite.
HALVES = {
    Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0],
    Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208], Type.F16: [0], Type.BF16: [0],
}
ENCODED = [Type.F16, Type.Q8_0]


def blocks(kind, rng):
    """Returns random bytes of which only the halves are chosen, among all finite ones."""
    values, size = gguf.GGML_QUANT_SIZES[kind]
    data = rng.integers(0, 256, (ROWS * COLUMNS // values, size), dtype=np.uint8)
    for at in HALVES[kind]:
        top = 0x7F7F if kind == Type.BF16 else 0x7BFF
        sign = rng.integers(0, 2, len(data), dtype=np.uint16) << 15
        bits = rng.integers(0, top + 1, len(data), dtype=np.uint16) | sign
        data[:, at : at + 2] = bits.view(np.uint8).reshape(-1, 2)
    return data.reshape(ROWS, -1)


def sha(values):
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def main():
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(FIXTURES / "blocks.gguf", "llama")
    for name, value in {"UINT8": 255, "INT8": -128, "UINT16": 65535, "INT16": -32768, "UINT32": 2**32 - 1,
                        "INT32": -(2**31), "FLOAT32": 1.5, "UINT64": 2**64 - 1, "INT64": -(2**63), "FLOAT64": 0.1,
                        "BOOL": True, "STRING": "Grüße, 世界"}.items():
        writer.add_key_value(f"one.{name.lower()}", value, Value[name])
    for name, value in {"INT32": [1, -2], "FLOAT32": [0.5, -0.25], "BOOL": [True, False], "STRING": ["a", ""]}.items():
        writer.add_key_value(f"many.{name.lower()}", value, Value.ARRAY, sub_type=Value[name])
    expected = {"versions": {"gguf": version("gguf"), "numpy": np.__version__}, "decoded": {}, "encoded": {}}
    for kind in HALVES:
        data = blocks(kind, rng)
        expected["decoded"][kind.name] = sha(gguf.dequantize(data, kind).astype(np.float32))
        if kind == Type.F16:
            writer.add_tensor(kind.name, data.view(np.float16))
        else:
            writer.add_tensor(kind.name, data, raw_dtype=kind)
    exponents = rng.uniform(-40, 20, (ROWS, COLUMNS)) * np.repeat(rng.integers(0, 2, (ROWS, COLUMNS // 32)), 32, axis=1)
    values = (rng.standard_normal((ROWS, COLUMNS)) * 2.0**exponents).astype(np.float32)
    values[0, :32] = 0
    writer.add_tensor("F32", values)
    expected["decoded"]["F32"] = sha(values)
    for kind in ENCODED:
        with np.errstate(over="ignore"):
            expected["encoded"][kind.name] = sha(gguf.quantize(values, kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (FIXTURES / "expected.json").write_text(json.dumps(expected))


if __name__ == "__main__":
    main()
