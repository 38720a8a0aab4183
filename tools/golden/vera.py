"""The shared matrices of VeRA as Hugging Face PEFT draws them, and its outputs with trained vectors.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2
    venv/bin/python tools/golden/vera.py > packages/vera/test/fixtures/peft.json
    npx oxfmt packages/vera/test/fixtures/peft.json

Two modules of different shapes share A and B, which are as wide as the wider one. The file records the versions.
"""

import sys

sys.path.append(sys.path.pop(0))  # safetensors.py next to this script would hide the library

import json

import peft
import torch

R, KEY, ROWS = 3, 7, 4


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.up = torch.nn.Linear(4, 6, bias=False)
        self.down = torch.nn.Linear(5, 2, bias=False)

    def forward(self, x, z):
        return self.up(x), self.down(z)


def main():
    generator = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.randn(shape, generator=generator)
    config = peft.VeraConfig(r=R, target_modules=["up", "down"], projection_prng_key=KEY)
    model = peft.get_peft_model(Network(), config).eval()
    modules = {"up": model.base_model.model.up, "down": model.base_model.model.down}
    golden = {
        "maker": "tools/golden/vera.py",
        "versions": {"torch": torch.__version__.split("+")[0], "peft": peft.__version__},
        "r": R,
        "key": KEY,
        "veraA": model.base_model.vera_A["default"].tolist(),
        "veraB": model.base_model.vera_B["default"].tolist(),
        "modules": {},
    }
    with torch.no_grad():
        for name, module in modules.items():
            d, b = module.vera_lambda_d["default"], module.vera_lambda_b["default"]
            assert torch.all(d == 0.1) and torch.all(b == 0)
            d.copy_(draw(*d.shape))
            b.copy_(draw(*b.shape))
            weight, x = module.base_layer.weight, draw(ROWS, module.in_features)
            golden["modules"][name] = {
                "weight": weight.tolist(),
                "d": d.tolist(),
                "b": b.tolist(),
                "x": x.tolist(),
                "y": module(x).tolist(),
                "delta": module.get_delta_weight("default").tolist(),
            }
    print(json.dumps(golden))


if __name__ == "__main__":
    main()
