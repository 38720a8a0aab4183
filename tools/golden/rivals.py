"""Values of the released code of four rank-adaptive methods, on small modules.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 numpy==2.4.6
    venv/bin/python tools/golden/rivals.py RELEASES
    npx oxfmt 'packages/*/test/fixtures/released.json'

RELEASES is a folder of clones, at these commits:

    DoRA            github.com/MIkumikumi0116/DoRA       235e21f
    bayeslora       github.com/mercury0100/bayeslora     c9c9ee7
    MyTransformers  github.com/hhnqqq/MyTransformers     4037d4d
    ElaLoRA         github.com/HuandongChang/ElaLoRA     3865a37

Only the functions named below are run, taken from their files: the rest needs GPUs, models and data. Files hold inputs
and results; no code of the releases is copied.
"""

import ast
import json
import math
import os
import sys
import tempfile
import types
from collections import OrderedDict
from pathlib import Path
from typing import Callable

import torch
from torch import nn

releases = Path(sys.argv[1])
packages = Path(__file__).parents[2] / "packages"
torch.manual_seed(2405)


def taken(path, names, scope):
    """Runs definitions of a file, `Class.method` for a method, and returns them by name. They see `scope` and each other."""
    tree = ast.parse((releases / path).read_text())
    definitions = {node.name: node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    for owner in [node for node in tree.body if isinstance(node, ast.ClassDef)]:
        definitions |= {f"{owner.name}.{each.name}": each for each in owner.body if isinstance(each, ast.FunctionDef)}
    for name in names:
        exec(compile(ast.Module([definitions[name]], []), path, "exec"), scope)
    return {name.split(".")[-1]: scope[name.split(".")[-1]] for name in names}


def rounded(values):
    """Nested lists of a tensor's numbers, to the nine digits that determine a float32."""
    if isinstance(values, torch.Tensor):
        values = values.detach().float().tolist()
    return [rounded(each) for each in values] if isinstance(values, list) else float(f"{values:.9g}")


def written(package, content):
    path = packages / package / "test" / "fixtures" / "released.json"
    path.parent.mkdir(exist_ok=True)
    content = {"versions": {"torch": torch.__version__.split("+")[0]}, **content}
    path.write_text(json.dumps(content))


def dynamic_dora():
    """Scores of five steps, and the components with c = 0 after each pruning of a run."""
    names = ("update_importance_score", "get_prune_step", "prune_lora_scaler", "regularization_loss")
    code = taken(
        "DoRA/Src/Finetune_And_Benchmark/Finetune_Utils.py",
        [f"Adaptive_Lora_Model_Wrapper.{name}" for name in names],
        {"torch": torch, "Adaptive_Lora_Linear": types.SimpleNamespace},
    )
    sizes = {"a": (5, 7), "b": (4, 6), "c": (6, 3)}  # in, out
    r, target = 4, 2

    def module(name):
        inputs, outputs = sizes[name]
        return types.SimpleNamespace(
            lora_a_linear=types.SimpleNamespace(weight=torch.randn(r, inputs)),
            lora_b_linear=types.SimpleNamespace(weight=torch.randn(outputs, r)),
            lora_scaler=torch.randn(r),
        )

    def wrapper(modules, total_steps, interval):
        self = types.SimpleNamespace(
            config=types.SimpleNamespace(
                adaptive_lora_eps=1e-8,
                adaptive_lora_sensitivity_beta=0.9,
                adaptive_lora_start_rank=r,
                adaptive_lora_end_avg_rank=target,
                adaptive_lora_start_prune_step_ratio=0.15,
                adaptive_lora_end_prune_step_ratio=0.5,
                adaptive_lora_prune_interval_step=interval,
            ),
            max_step=total_steps,
            sensitivity_score_dict={},
            finally_mask_dict={},
            model=types.SimpleNamespace(named_modules=lambda: modules.items(), modules=lambda: modules.values()),
            parameters=lambda: iter([torch.zeros(1)]),
        )
        self.get_prune_step = lambda step: code["get_prune_step"](self, step)
        return self

    modules = {name: module(name) for name in sizes}
    scored = wrapper(modules, 1000, 100)
    steps = []
    for _ in range(5):
        for each in modules.values():
            each.lora_a_linear.weight = torch.randn_like(each.lora_a_linear.weight)
            each.lora_scaler = torch.randn(r)
        code["update_importance_score"](scored)
        steps.append(
            {
                name: {
                    "A": rounded(each.lora_a_linear.weight),
                    "B": rounded(each.lora_b_linear.weight),
                    "c": rounded(each.lora_scaler),
                    "scores": rounded(scored.sensitivity_score_dict[name]),
                }
                for name, each in modules.items()
            }
        )
    term = code["regularization_loss"](scored, 1).item()

    run = wrapper(modules, 200, 20)
    run.update_importance_score = lambda: None
    events = []
    for step in range(1, 101):
        scores = {name: torch.rand(r) for name in sizes}
        run.sensitivity_score_dict = scores
        for each in modules.values():
            each.lora_scaler = torch.ones(r)
        code["prune_lora_scaler"](run, step)
        zeros = {name: (each.lora_scaler == 0).nonzero().flatten().tolist() for name, each in modules.items()}
        if any(zeros.values()):
            events.append(
                {"step": step, "scores": {name: rounded(each) for name, each in scores.items()}, "zeros": zeros}
            )
    written(
        "dynamic-dora",
        {
            "sizes": sizes,
            "steps": steps,
            "regularization": term,
            "totalSteps": 200,
            "interval": 20,
            "r": r,
            "targetR": target,
            "events": events,
        },
    )


def bayes_lora():
    """The divergence of single entries, log alpha of ranks, and the ranks that two thresholds keep."""
    code = taken(
        "bayeslora/bayeslora/hf.py",
        ["_kl_from_mu_logs2", "VariationalLoRAWrapper.rank_log_alpha"],
        {"torch": torch, "_K1": 0.63576, "_K2": 1.87320, "_K3": 1.48695, "_EPS": 1e-8},
    )
    mu = torch.tensor([0.0, 1e-3, -0.05, 0.3, -2.0]).repeat_interleave(4)
    log_sigma2 = torch.tensor([-12.0, -8.0, -3.0, 1.5]).repeat(5)
    kl = code["_kl_from_mu_logs2"](mu, log_sigma2)
    modules = []
    for inputs, outputs, r in [(5, 7, 4), (6, 4, 3), (8, 9, 6)]:
        A, B, levels = torch.randn(r, inputs), torch.randn(outputs, r) * 0.1, torch.randn(r) * 3
        self = types.SimpleNamespace(
            r=r,
            A_mu=A,
            B_mu=B,
            _log_sigma2_A=lambda levels=levels, A=A, r=r: levels.view(r, 1).expand_as(A),
            _log_sigma2_B=lambda levels=levels, B=B, r=r: levels.view(1, r).expand_as(B),
        )
        scores = code["rank_log_alpha"](self)
        modules.append({"A": rounded(A), "B": rounded(B), "logSigma2": rounded(levels), "logAlpha": rounded(scores)})
    written(
        "bayes-lora",
        {"divergence": {"mu": rounded(mu), "logSigma2": rounded(log_sigma2), "kl": rounded(kl)}, "modules": modules},
    )


def gora():
    """Importance, ranks with and without the root of the paper, and B along the gradient."""

    class Layer(nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            self.in_features, self.out_features = inputs, outputs
            self.weight = nn.Parameter(torch.randn(outputs, inputs))
            self.weight.grad_stored, self.weight.iters = torch.randn(outputs, inputs) * torch.rand(1) * 4, 1

    code = taken(
        "MyTransformers/common/lora_modules/gora.py",
        ["compute_importance", "get_normalized_importances", "get_allocated_rank", "LinearWithGoRA.grad_compress_init"],
        {
            "torch": torch,
            "math": math,
            "nn": nn,
            "OrderedDict": OrderedDict,
            "Callable": Callable,
            "LinearWithGoRA": Layer,
            "print_rank_0": print,
        },
    )
    model = nn.ModuleDict({"a": Layer(6, 6), "b": Layer(6, 20), "c": Layer(20, 6)})
    arguments = types.SimpleNamespace(
        gora_allocate_stretagy="moderate",
        gora_features_func=None,
        gora_scale_importance=False,
        gora_softmax_importance=False,
        gora_importance_type="union_mean",
        gora_max_rank=None,
        gora_min_rank=None,
        lora_rank=8,
        global_rank=0,
        world_size=1,
        device="cpu",
    )
    importance = code["get_allocated_rank"](model, arguments)[3]
    arguments.gora_features_func = "sqrt"
    ranks = code["get_allocated_rank"](model, arguments)[2]

    modules = {}
    for name, layer in model.items():
        r, alpha, gamma = 3, 16, 0.05
        layer.lora_rank, layer.scaling_alpha, layer.scale_rank, layer.weight_a_init_method = r, alpha, r**0.5, "kaiming"
        layer._init_weight = lambda of, layer=layer: nn.init.kaiming_uniform_(getattr(layer, of), a=5**0.5)
        layer._compute_lora_weight = lambda layer=layer: layer.weight_b @ layer.weight_a
        with torch.no_grad():
            code["grad_compress_init"](layer, lr=gamma, scaling_by_lr=True)
        modules[name] = {
            "weight": rounded(layer.weight),
            "gradient": rounded(layer.weight.grad_stored),
            "importance": importance[name],
            "rank": ranks[name],
            "A": rounded(layer.weight_a),
            "B": rounded(layer.weight_b),
        }
    written("gora", {"r": 8, "alpha": 16, "gamma": 0.05, "modules": modules})


def ela_lora():
    """Moves of ranks between modules, and b over the run of RTE."""

    class Triplet(nn.Module):
        def __init__(self, inputs, outputs, r):
            super().__init__()
            self.lora_A = nn.Parameter(torch.randn(r, inputs))
            self.lora_E = nn.Parameter(torch.randn(r, 1))
            self.lora_B = nn.Parameter(torch.randn(outputs, r))

    names = ("calculate_score", "_combine_ipt", "mask_to_target_rank", "_b_scheduler")
    scope = {"torch": torch, "os": os, "json": json, "plot_rank": lambda *_: None}
    code = taken(
        "ElaLoRA/loralib/loralib/elalora.py", [f"RankAllocator.{name}" for name in names] + ["compute_orth_regu"], scope
    )
    Allocator = type("Allocator", (), {name: code[name] for name in names})
    sizes = {"a": (10, 12, 3), "b": (9, 14, 2), "c": (12, 11, 4), "d": (8, 9, 5)}  # in, out, ranks

    moves = []
    for b, k in [(1, 2), (2, 2), (3, 2), (4, 2), (3, 1)]:
        model = nn.ModuleDict({name: Triplet(*of) for name, of in sizes.items()})
        allocator = Allocator()
        allocator.k, allocator.b, allocator.global_step, allocator.lora_init_rank = k, b, 1, 4
        allocator.ipt, allocator.rank_pattern = {}, {}
        allocator.exp_avg_ipt = {name: torch.rand_like(p) for name, p in model.named_parameters()}
        allocator.exp_avg_unc = {name: torch.rand_like(p) for name, p in model.named_parameters()}
        before = {name: module.lora_E.detach().flatten().tolist() for name, module in model.items()}
        with tempfile.TemporaryDirectory() as folder:
            allocator.output_dir = folder
            allocator.mask_to_target_rank(model, 0)
            scores = json.loads((Path(folder) / "ipt_scores" / "step_1.json").read_text())
        after = {name: module.lora_E.detach().flatten().tolist() for name, module in model.items()}
        moves.append(
            {
                "movedRanks": b,
                "candidateRanks": k,
                "scores": {name: rounded(each) for name, each in zip(sizes, scores)},
                "kept": {name: [index for index, e in enumerate(before[name]) if e in after[name]] for name in sizes},
                "ranks": {name: len(after[name]) for name in sizes},
            }
        )
    scheduler = Allocator()
    scheduler.initial_b, scheduler.total_step, scheduler.final_warmup, scheduler.initial_warmup = 4, 1950, 500, 300
    schedule = []
    for step in range(350, 1450, 50):
        scheduler._b_scheduler(step)
        if scheduler.b > 0:
            schedule.append([step, scheduler.b])
    model = nn.ModuleDict({name: Triplet(*of) for name, of in list(sizes.items())[:2]})
    factors = {name: {"A": rounded(module.lora_A), "B": rounded(module.lora_B)} for name, module in model.items()}
    term = code["compute_orth_regu"](model, regu_weight=0.1).item()
    written(
        "ela-lora", {"sizes": sizes, "moves": moves, "schedule": schedule, "factors": factors, "orthogonality": term}
    )


for each in (dynamic_dora, bayes_lora, gora, ela_lora):
    each()
