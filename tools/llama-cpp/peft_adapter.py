"""Makes a LoRA adapter with PEFT and writes the logits of transformers with it: see compare.ts.

    python peft_adapter.py FOLDER '[1, 2, 3]'

FOLDER has a model in FOLDER/model; this writes FOLDER/adapter and FOLDER/logits.f32.
"""

import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

folder, ids = Path(sys.argv[1]), json.loads(sys.argv[2])
torch.manual_seed(1)
model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32, attn_implementation="eager")
is_gpt2 = model.config.model_type == "gpt2"
query, value = ("c_attn", "c_fc") if is_gpt2 else ("q_proj", "v_proj")
config = LoraConfig(
    task_type="CAUSAL_LM",
    r=4,
    lora_alpha=8,
    target_modules="all-linear",
    rank_pattern={query: 8},
    alpha_pattern={value: 3},
    use_rslora=True,
    fan_in_fan_out=is_gpt2,
    init_lora_weights=False,
)
peft = get_peft_model(model, config).eval()
with torch.no_grad():
    logits = peft(torch.tensor([ids])).logits[0]
peft.save_pretrained(folder / "adapter")
(folder / "logits.f32").write_bytes(logits.contiguous().numpy().tobytes())
