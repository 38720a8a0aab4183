"""Weights in 4 bits by two standards: GGUF's Q4_1, which `dtype: 'q4'` follows, and bitsandbytes' NF4.

    python3 -m venv venv && venv/bin/pip install gguf==0.19.0 bitsandbytes==0.50.2 torch==2.15.0 numpy==2.4.6
    venv/bin/python tools/golden/four_bits.py > packages/core/test/fixtures/four-bits.json
    npx oxfmt packages/core/test/fixtures/four-bits.json
"""

import sys

sys.path.pop(0)

import importlib.metadata
import json

import bitsandbytes.functional as bnb
import numpy as np
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize

rng = np.random.default_rng(0)
# Rows of two blocks: like a linear module's, one with outliers, one that is mostly negative.
rows = np.stack([rng.normal(0, 0.04, 64), rng.standard_t(3, 64), rng.normal(-0.5, 0.5, 64)]).astype(np.float32)
packed = quantize(rows, GGMLQuantizationType.Q4_1)  # a block: scale and minimum in float16, then 16 bytes
nf4, state = bnb.quantize_4bit(torch.tensor(rows), blocksize=64, quant_type="nf4")
print(
    json.dumps(
        {
            "maker": "tools/golden/four_bits.py",
            "versions": {name: importlib.metadata.version(name) for name in ["gguf", "bitsandbytes", "torch", "numpy"]},
            "shape": rows.shape,
            "rows": rows.ravel().tolist(),
            "q41": {
                "bytes": packed.reshape(-1, 20)[:, 4:].ravel().tolist(),
                "numbers": dequantize(packed, GGMLQuantizationType.Q4_1).ravel().tolist(),
            },
            "nf4": bnb.dequantize_4bit(nf4, state).ravel().tolist(),
        }
    )
)
