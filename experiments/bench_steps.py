"""Parts of `bench_population.py`: peak memory, share of the FLOP floor, whole steps on a large table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any, Final

import torch
from bench_setup import (
    FULL,
    QUICK,
    Scale,
    TrainingTime,
    clocked,
    configured,
    drawn,
    fresh,
    in_precision,
    loop_of,
    plain_specs,
    precisions,
    settled_rss,
    simulate_of,
    simulated,
    status_bytes,
    threads,
)
from sequential import Loop, Tensors, fit

from evorec.config import ExecutionConfig
from evorec.data.simulator import simulate
from evorec.models.spec import ModelSpec
from evorec.recommender.problem import RecProblem, build_problem
from evorec.recommender.trainers import StackTrainer

GEMM: Final = (8, 64)
"""Matrices of a batched product [8, B, 64] x [8, 64, 64]."""
Key = tuple[str, str]
CHUNK: Final = ExecutionConfig().chunk


def peak_memory(how: str, members: int, precision: str, quick: bool) -> dict[str, Any]:
    """Peak memory of training the standard size, beyond data and batches; run it in a fresh process.

    A step with few members comes first, so that the memory of the libraries is not counted.

    Args:
        how: ``population`` = a single program of all members; ``sequential`` = a model at a time.
        members: number of members.
        precision: activations of evorec.
        quick: tiny sizes.
    """
    scale = QUICK if quick else FULL
    torch.set_num_threads(1)
    problem = build_problem(configured("standard", scale, precision=precision), tables=simulate_of(scale))
    trainer, models = problem.trainer, [ModelSpec.from_genes(spec) for spec in drawn(problem, members)]
    data, loop = Tensors.of(trainer.data.dataset, trainer.data.users), loop_of(problem.config)
    for index in range(len(trainer.plan)):
        trainer.plan.step(index)
    if how == "sequential":
        fit(models[0], data, replace(loop, steps=1))
        before, n_parameters = settled_rss(), int(trainer.cost(models[0])["parameters"])
        for spec in models[:2]:
            fit(spec, data, loop)
    else:
        trainer.with_steps(1).train(models[:2])
        before = settled_rss()
        population = trainer.train(models).population
        n_parameters = sum(table.numel() for table in population.tables) + population.flat.numel()
    extra = status_bytes("VmHWM") - before
    state = n_parameters * 4 * 3  # float32 parameters and the two moments of Adam
    return {
        "how": how, "members": members, "precision": precision, "data_bytes": before, "extra_bytes": extra,
        "parameters_and_moments_bytes": state, "working_bytes": extra - state,
    }  # fmt: skip


def memory(scale: Scale) -> list[dict[str, Any]]:
    """Part `memory`."""
    n, quick = scale.memory_members, scale is QUICK
    cases = [("population", n, "float32")]
    if not quick:
        cases += [("population", n, name) for name in precisions()[1:]]
        cases += [("population", min(CHUNK, n), "float32"), ("sequential", 1, "float32")]
    return [fresh("bench_steps", "peak_memory", how=h, members=m, precision=p, quick=quick) for h, m, p in cases]


def gemm_rate(batch: int, dtype: torch.dtype, *, seconds: float) -> float:
    """FLOPs per CPU second of a single thread for a batched product into an existing array."""
    n, width = GEMM
    rng = torch.Generator().manual_seed(0)
    a, w = (torch.randn(*s, generator=rng).to(dtype) for s in ((n, batch, width), (n, width, width)))
    out = torch.empty_like(a)
    torch.bmm(a, w, out=out)
    count, start = 0, time.process_time()
    while (taken := time.process_time() - start) < seconds:
        for _ in range(10):
            torch.bmm(a, w, out=out)
        count += 10
    return 2 * n * batch * width * width * count / taken


def floor(scale: Scale) -> dict[str, Any]:
    """Part `floor`: counted FLOPs of training, divided by the FLOPs of plain products in the same CPU time."""
    tables, out = simulate_of(scale), {}
    for size in ("small", "standard"):
        problem = build_problem(configured(size, scale), tables=tables)
        with threads(1):
            out |= {f"{size} {name}": row for name, row in _shares(problem, scale).items()}
    return out


def _shares(problem: RecProblem, scale: Scale) -> dict[str, dict[str, float]]:
    trainer, config = problem.trainer, problem.config
    assert isinstance(trainer, StackTrainer)
    models = [ModelSpec.from_genes(spec) for spec in drawn(problem, config.run.chunk)]
    data = Tensors.of(trainer.data.dataset, trainer.data.users)
    runs: dict[Key, Callable[[], object]] = {}
    for name in precisions():
        loop = loop_of(config, autocast=name == "bfloat16")
        runs["evorec", name] = partial(in_precision(trainer, name).train, models)
        runs["sequential", name] = partial(fit, models[0], data, loop)
    taken = cpu_seconds(runs, scale.repeats)
    out = {}
    for name in precisions():
        rates = [
            gemm_rate(config.training.batch_size, getattr(torch, name), seconds=scale.gemm_s)
            for _ in range(scale.repeats)
        ]
        for who, trained in (("evorec", models), ("sequential", models[:1])):
            flops, seconds = sum(trainer.cost(spec)["training_flops"] for spec in trained), taken[who, name]
            member_steps = len(trained) * scale.steps
            out[f"{who} {name}"] = {
                "share": flops / (median(rates) * seconds),
                "ms_per_member_step": 1e3 * seconds / member_steps,
                "mflops_per_member_step": flops / member_steps / 1e6,
                "gemm_gflops_per_s": median(rates) / 1e9,
            }
    return out


def cpu_seconds(runs: Mapping[Key, Callable[[], object]], repeats: int) -> dict[Key, float]:
    """Median CPU seconds of each run; the runs take turns, and the first turn is not counted."""
    taken: dict[Key, list[float]] = {name: [] for name in runs}
    for number in range(repeats + 1):
        for name, run in runs.items():
            start = time.process_time()
            run()
            if number:
                taken[name].append(time.process_time() - start)
    return {name: median(values) for name, values in taken.items()}


def large_table(quick: bool) -> dict[str, Any]:
    """Part `table`: CPU milliseconds of a whole step per member with a single thread; run it in a fresh process."""
    scale = QUICK if quick else FULL
    torch.set_num_threads(1)
    trainer = _large(scale, batch=64 if quick else 1024).with_steps(scale.table_steps)
    models = plain_specs(trainer.data.config, CHUNK)
    data = Tensors.of(trainer.data.dataset, trainer.data.users)
    choices = {
        "sequential AdamW": {"fused": False},
        "sequential AdamW fused": {},
        "sequential SparseAdam": {"sparse": True},
    }
    runs: dict[str, Callable[[], TrainingTime]] = {}
    for name in precisions():
        runs[f"evorec {name}"] = partial(clocked, in_precision(trainer, name), models)
    for label, choice in choices.items():
        runs[label] = partial(_clocked_fit, models[0], data, loop_of(trainer.data.config, **choice))
    for run in runs.values():
        run()
    turns = [{label: run() for label, run in runs.items()} for _ in range(scale.repeats)]
    taken = {label: TrainingTime.median([turn[label] for turn in turns]) for label in runs}
    members = {label: len(models) if label.startswith("evorec") else 1 for label in runs}
    step = {label: 1e3 * times.step / members[label] for label, times in taken.items()}
    return {
        "members": len(models),
        "n_items": scale.table_items,
        "n_rows": trainer.data.dataset.n_rows,
        "ms_per_member_step": step,
        "start_and_end_s_per_member": {label: times.rest / members[label] for label, times in taken.items()},
        "ratio_to_evorec_float32": {label: value / step["evorec float32"] for label, value in step.items()},
    }


def _clocked_fit(spec: ModelSpec, data: Tensors, loop: Loop) -> TrainingTime:
    at: list[float] = []
    start = time.process_time()
    fit(spec, data, loop, at_step=lambda: at.append(time.process_time()))
    return TrainingTime.of(at, time.process_time() - start)


def _large(scale: Scale, *, batch: int) -> StackTrainer:
    """Trainer with the data of part `table`."""
    big = replace(scale, n_users=scale.table_users, n_items=scale.table_items, n_interactions=scale.table_interactions)
    config = simulated("standard", big)
    config = config.model_copy(update={"training": config.training.model_copy(update={"batch_size": batch})})
    return StackTrainer.of(simulate(config.data.simulator), config, fit="train", seed=0, at_most=100)
