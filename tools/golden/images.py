"""Writes small images, and what transformers' image processors make of them, to tests/tasks/fixtures/images.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install torch==2.15.0 transformers==5.24.0 pillow==13.0.0 safetensors==0.8.0
    /tmp/golden/bin/python tools/golden/images.py && npx oxfmt tests/tasks/fixtures/images/*.json

The processors are those that use Pillow.
"""

import json
import sys
from pathlib import Path

# This folder's scripts would hide libraries of the same name.
HERE = Path(__file__).resolve().parent
sys.path = [entry for entry in sys.path if Path(entry).resolve() != HERE]

from importlib.metadata import version

import numpy as np
from PIL import Image
from safetensors.numpy import save_file
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

FOLDER = HERE.parents[1] / "tests/tasks/fixtures/images"
square = lambda side: {"height": side, "width": side}
# DINOv2 has the processor of BiT.
PROCESSORS = {
    "vit": ViTImageProcessorPil(size=square(12)),
    "deit": DeiTImageProcessorPil(size=square(14), crop_size=square(12)),
    "dinov2": BitImageProcessorPil(size={"shortest_edge": 14}, crop_size=square(12), image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]),
    "clip": CLIPImageProcessorPil(size={"shortest_edge": 12}, crop_size=square(12)),
    "siglip": SiglipImageProcessorPil(size=square(12), image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5]),
    "lanczos": ViTImageProcessorPil(size={"height": 9, "width": 13}, resample=1, do_normalize=False),
    "padded": CLIPImageProcessorPil(size={"shortest_edge": 9}, crop_size=square(12)),
}


def picture(width, height):
    """A smooth picture with sharp edges."""
    row, column = np.mgrid[0:height, 0:width]
    waves = [127 + 120 * np.sin(row / 5 + column / 7), 255 * (column + row) / (width + height), 255 * ((row // 6 + column // 9) % 2)]
    return np.stack(waves, -1).astype(np.uint8)


def main():
    FOLDER.mkdir(exist_ok=True)
    rgb = picture(37, 26)
    alpha = (np.mgrid[0:26, 0:37][1] * 6).astype(np.uint8)[..., None]
    images = {
        "rgb.png": Image.fromarray(rgb),
        "tall.png": Image.fromarray(picture(10, 31)),
        "grey.png": Image.fromarray(rgb[..., 0]),
        "alpha.png": Image.fromarray(np.concatenate([rgb, alpha], -1)),
        "palette.png": Image.fromarray(rgb).quantize(16),
        "photo.jpg": Image.fromarray(picture(64, 48)),
    }
    expected = {}
    for name, image in images.items():
        image.save(FOLDER / name, **({"quality": 90} if name.endswith("jpg") else {}))
        read = Image.open(FOLDER / name).convert("RGB")
        for kind, processor in PROCESSORS.items():
            expected[f"{kind}/{name}"] = np.ascontiguousarray(processor(read, return_tensors="np")["pixel_values"][0])
    save_file(expected, FOLDER / "expected.safetensors")
    configs = {kind: json.loads(processor.to_json_string()) for kind, processor in PROCESSORS.items()}
    versions = {name: version(name) for name in ["pillow", "transformers"]}
    (FOLDER / "processors.json").write_text(json.dumps({"maker": "tools/golden/images.py", "versions": versions, "configs": configs}))


if __name__ == "__main__":
    main()
