"""Candidates per minute: the population trainer against the usual ways to train recommenders, on the same machine.

    python experiments/bench_population.py                       # all parts; needs $EVOREC_DATA for KuaiRand
    python experiments/bench_population.py --sizes small --parts rates --rounds 5
    python experiments/bench_population.py --device cuda         # the standard size, a program of 256 members

A candidate is 100 training steps and its validation metrics. `experiments/sequential.py` is the same model as evorec's
in plain PyTorch, a candidate at a time (`tests/test_experiments.py` compares them). Methods:

    a    a loop over a DataLoader, default AdamW
    b    the same loop over tensors, default AdamW
    c    joblib: as many processes as cores with 1 thread each, over b with fused AdamW; c16 with bfloat16 autocast
    d    Optuna's NSGAIISampler over b
    e    evorec, a process per core, at most `run.chunk` members in a program; e16 in bfloat16

a, b and d use a single process with 1 thread or all, whichever is faster in a short trial. All methods take turns
within every round; their order rotates from round to round. The table shows the median over the rounds and the range.
The first run of each method is not counted: it starts processes, reads data, touches memory and arranges batches; its
excess over a usual run is shown as start-up. Slow methods run fewer candidates per round; rates are per candidate. The
strongest baseline is the faster of c and c16.

Sizes: small, standard (built-in simulator, shared bottom), kuairand (the same on KuaiRand), and mixed: 64 genomes drawn
from the default space on KuaiRand with every mechanism, balancing, optimiser and width; c trains the first 16.

Further parts: memory = peak memory of a program of 64 standard members in a fresh process; floor = counted FLOPs at the
rate of a plain batched product, as a share of the training time; table = whole steps with a catalogue of 100,000 items.
Writes experiments/results/bench_population.json; figures of parts and sizes that are not run are kept.
"""

from __future__ import annotations

import importlib.util
import json
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final, final

import numpy as np
import torch
import typer
from bench_setup import (
    FULL,
    QUICK,
    SHAPES,
    Scale,
    configured,
    drawn,
    fresh,
    loop_of,
    machine,
    n_cores,
    precisions,
    threads,
)
from bench_steps import floor, memory
from joblib import Parallel, delayed, parallel_config
from results_file import write_results
from sequential import Loop, Tensors, candidate, stored_candidate

from evorec.config import RecommenderConfig
from evorec.data.readers import read
from evorec.errors import ConfigError, DataError
from evorec.models.spec import ModelSpec
from evorec.recommender.problem import RecProblem, build_problem
from evorec.search.evaluator import evaluate
from evorec.search.executors import Executor, ProcessExecutor, SerialExecutor

HERE = Path(__file__).parent
SIZES: Final = (*SHAPES, "mixed")
PARTS: Final = ("rates", "memory", "floor", "table")
MIXED_MEMBERS: Final = 64
N_MIXED: Final = 16
"""Genomes of a mixed population that c trains: each takes seconds. evorec trains all of them."""
CUDA_MEMBERS: Final = 256
N_A, N_B, N_D, N_C_PER_CORE = 2, 4, 4, 8
"""Candidates of a round of the slower methods."""
OPTUNA_POPULATION: Final = 8
IDLE_S: Final = 3600
"""Longer than a round: joblib would end its idle processes while other methods run."""
SUGGESTED: Final = {
    "learning_rate": (5e-4, 1e-2),
    "embedding_learning_rate": (5e-4, 1e-2),
    "embedding_decay": (1e-3, 1e1),
    "dense_decay": (1e-3, 1e1),
    "retrieval_weight": (1e-1, 1e1),
    "temperature": (0.05, 0.5),
    "history_weight": (0.3, 30.0),
    "popularity_smoothing": (0.3, 30.0),
}
"""Genes that Optuna varies, and their ranges in the default space."""

Metrics = Mapping[str, float]


@final
@dataclass(frozen=True)
class Method:
    """A way to train candidates.

    Attributes:
        name: name in the table.
        run: a turn; returns the metrics of every candidate, None if it failed.
        warm_ups: turns before the first round.
    """

    name: str
    run: Callable[[], Sequence[Metrics | None]]
    warm_ups: int = 1


def one_by_one(specs: Sequence[ModelSpec], data: Tensors, loop: Loop, n_threads: int) -> list[Metrics]:
    """Methods a and b."""
    with threads(n_threads):
        return [candidate(spec, data, loop) for spec in specs]


def by_joblib(specs: Sequence[ModelSpec], path: str, loop: Loop, workers: int) -> list[Metrics]:
    """Method c."""
    with parallel_config("loky", inner_max_num_threads=1, idle_worker_timeout=IDLE_S):
        jobs = (delayed(stored_candidate)(path, spec, loop) for spec in specs)
        found: list[Metrics] = Parallel(n_jobs=workers, batch_size=1, pre_dispatch="all")(jobs)
    return found


def by_evorec(problem: RecProblem, specs: Sequence[Mapping[str, Any]], executor: Executor, chunk: int) -> list[Any]:
    """Method e."""
    found: list[Any] = [None] * len(specs)
    for stack in evaluate(problem, specs, seed=problem.config.search.seed, executor=executor, chunk=chunk):
        for index, outcome in stack:
            found[index] = outcome.metrics
    if problem.data.tensors.device.type == "cuda":
        torch.cuda.synchronize()
    return found


def optuna_study(base: Mapping[str, Any], data: Tensors, loop: Loop, n_threads: int) -> Method | None:
    """Method d; None without Optuna."""
    if importlib.util.find_spec("optuna") is None:
        return None
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.NSGAIISampler(population_size=OPTUNA_POPULATION, seed=0)
    study = optuna.create_study(directions=["maximize"] * 3, sampler=sampler)
    turn: list[Metrics] = []

    def objective(trial: Any) -> tuple[float, ...]:
        genes = {name: trial.suggest_float(name, *bounds, log=True) for name, bounds in SUGGESTED.items()}
        turn.append(candidate(ModelSpec.from_genes({**base, **genes}), data, loop))
        return tuple(turn[-1].values())[-3:]

    def run() -> list[Metrics]:
        turn.clear()
        with threads(n_threads):
            study.optimize(objective, n_trials=N_D)
        return list(turn)

    return Method("d optuna", run)


def faster_threads(spec: ModelSpec, data: Tensors, loop: Loop) -> int:
    """1 or all cores, whichever trains a candidate faster."""
    taken = {}
    for n in (1, n_cores()):
        one_by_one([spec], data, replace(loop, steps=min(loop.steps, 5)), n)
        start = time.perf_counter()
        one_by_one([spec], data, loop, n)
        taken[n] = time.perf_counter() - start
    return min(taken, key=taken.__getitem__)


def baselines_of(problem: RecProblem, specs: Sequence[Mapping[str, Any]], folder: str, workers: int) -> list[Method]:
    """Methods a to d; for a mixed population only c, on the first `N_MIXED` genomes."""
    name = problem.config
    data, models = Tensors.of(problem.data.dataset, problem.data.users), [ModelSpec.from_genes(spec) for spec in specs]
    path = Path(folder) / "tensors.pickle"
    path.write_bytes(pickle.dumps(data))
    is_mixed = len({model.group_key for model in models}) > 1
    some = models[:N_MIXED] if is_mixed else models[: min(len(models), N_C_PER_CORE * workers)]
    choices = [("c joblib fused", {}), ("c16 joblib fused autocast", {"autocast": True})][: len(precisions())]
    out = [Method(label, partial(by_joblib, some, str(path), loop_of(name, **own), workers)) for label, own in choices]
    if is_mixed:
        return out
    default = loop_of(name, fused=False)
    n = faster_threads(models[0], data, default)
    print(f"a, b and d: {n} of {n_cores()} threads, the faster", flush=True)
    loader = replace(default, loader=True)
    out = [
        Method("a DataLoader", partial(one_by_one, models[:N_A], data, loader, n)),
        Method("b tensors", partial(one_by_one, models[:N_B], data, default, n)),
        *out,
    ]
    study = optuna_study(specs[0], data, default, n)
    if study is None:
        print("d: optuna is not installed (pip install -e '.[bench]'), its row is left out", flush=True)
    return out if study is None else [*out, study]


def take_turns(methods: Sequence[Method], rounds: int) -> dict[str, dict[str, Any]]:
    """Every method's candidates per minute, round by round."""
    first: dict[str, float] = {}
    taken: dict[str, list[float]] = {method.name: [] for method in methods}
    found: dict[str, Sequence[Metrics | None]] = {}
    for method in methods:
        for _ in range(method.warm_ups):
            seconds, found[method.name] = _timed(method)
            first.setdefault(method.name, seconds)
    for number in range(rounds):
        shift = number % len(methods)
        for method in (*methods[shift:], *methods[:shift]):
            taken[method.name].append(_timed(method)[0])
            per_minute = 60 * len(found[method.name]) / taken[method.name][-1]
            print(f"  round {number + 1}  {method.name:28s} {per_minute:8.1f} per minute", flush=True)
    return {name: _summary(found[name], taken[name], first[name]) for name in taken}


def _timed(method: Method) -> tuple[float, Sequence[Metrics | None]]:
    start = time.perf_counter()
    found = method.run()
    return time.perf_counter() - start, found


def _summary(found: Sequence[Metrics | None], taken: Sequence[float], first: float) -> dict[str, Any]:
    rates = [60 * len(found) / seconds for seconds in taken]
    accuracy = [float("nan") if metrics is None else metrics["accuracy"] for metrics in found]
    failed = [not np.isfinite(value) for value in accuracy]
    return {
        "per_minute": median(rates),
        "lowest": min(rates),
        "highest": max(rates),
        "rates": rates,
        "candidates_per_round": len(found),
        "failed": sum(failed),
        "start_up_s": max(first - median(taken), 0.0),
        "accuracy": [None if bad else value for bad, value in zip(failed, accuracy, strict=True)],
    }


def rates(size: str, scale: Scale, *, rounds: int, members: Sequence[int], workers: int) -> dict[str, Any]:
    """Part `rates` of a size on the CPU."""
    config = configured(size, scale)
    tables = read(config.data)
    problem = build_problem(config, tables=tables)
    if size == "mixed":
        members = [MIXED_MEMBERS] if scale is FULL else [max(members)]
    specs = drawn(problem, max(members))
    problems = {"e evorec": problem}
    if "bfloat16" in precisions():
        problems["e16 evorec bfloat16"] = build_problem(configured(size, scale, precision="bfloat16"), tables=tables)
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        executor = ProcessExecutor(workers)
        stack.callback(executor.close)
        methods = baselines_of(problem, specs, folder, workers)
        for label, own in problems.items():
            for n in sorted(members, reverse=True):  # the largest population warms up for the others
                run = partial(by_evorec, own, specs[:n], executor, config.run.chunk)
                twice = n == max(members) and size != "mixed"  # minutes a turn
                methods.append(Method(f"{label} P={n}", run, warm_ups=2 if twice else 1))
        found = take_turns(methods, rounds)
    return {"settings": _settings(config, workers), "methods": found, "ratios": ratios(found, rounds)}


def ratios(found: Mapping[str, Mapping[str, Any]], rounds: int) -> dict[str, dict[str, float | bool]]:
    """Rate of each evorec row divided by that of every baseline, with the range over the rounds."""
    parallel = [name for name in found if name.startswith("c")]
    others = [name for name in found if name[0] in "abd"]
    out: dict[str, dict[str, float | bool]] = {}
    for name in found:
        if not name.startswith("e"):
            continue
        strongest = max(parallel or others, key=lambda label: found[label]["per_minute"])
        for against in [*others, *parallel]:
            each = [found[name]["rates"][i] / found[against]["rates"][i] for i in range(rounds)]
            ratio = found[name]["per_minute"] / found[against]["per_minute"]
            row = {"ratio": ratio, "lowest": min(each), "highest": max(each), "strongest": against == strongest}
            out[f"{name} / {against}"] = row
    return out


def cuda_rates(scale: Scale, *, rounds: int) -> dict[str, Any]:
    """The standard size on a GPU: eager sequential loops against a single program."""
    methods: list[Method] = []
    config = configured("standard", scale, device="cuda")
    tables = read(config.data)
    n = CUDA_MEMBERS if scale is FULL else 4
    for label, precision in (("e evorec", "float32"), ("e16 evorec bfloat16", "bfloat16")):
        problem = RecProblem(configured("standard", scale, device="cuda", precision=precision), tables)
        specs = drawn(problem, n)
        if not methods:
            data = Tensors.of(problem.data.dataset, problem.data.users, "cuda")
            models = [ModelSpec.from_genes(spec) for spec in specs[:N_B]]
            for name, own in (
                ("b tensors", {"fused": False}),
                ("b tensors fused", {}),
                ("b16 tensors fused autocast", {"autocast": True}),
            ):
                methods.append(Method(name, partial(_on_cuda, models, data, loop_of(config, **own))))
        methods.append(Method(f"{label} P={n}", partial(by_evorec, problem, specs, SerialExecutor(), n)))
    found = take_turns(methods, rounds)
    return {"settings": _settings(config, 1), "methods": found, "ratios": ratios(found, rounds)}


def _on_cuda(specs: Sequence[ModelSpec], data: Tensors, loop: Loop) -> list[Metrics]:
    found: list[Metrics] = [candidate(spec, data, loop) for spec in specs]
    torch.cuda.synchronize()
    return found


def _settings(config: RecommenderConfig, workers: int) -> dict[str, Any]:
    training = config.training
    return {
        "steps": training.steps, "batch": training.batch_size, "retrieval_batch": training.retrieval_batch,
        "layers": training.layers, "chunk": config.run.chunk, "workers": workers,
    }  # fmt: skip


def print_rates(size: str, figures: Mapping[str, Any]) -> None:
    """Table of a size; AUC is the mean over the tasks and over the candidates that all methods but d train."""
    settings, rows = figures["settings"], figures["methods"]
    common = min(row["candidates_per_round"] for row in rows.values())
    print(f"\n{size}: {', '.join(f'{name} {value}' for name, value in settings.items())}")
    print(f"{'method':28s} {'per minute':>10s} {'range':>17s} {'n':>4s} {'failed':>6s} {'start-up':>8s} {'AUC':>6s}")
    for name, row in rows.items():
        spread = f"{row['lowest']:.1f}..{row['highest']:.1f}"
        kept = [value for value in row["accuracy"][:common] if value is not None]
        print(
            f"{name:28s} {row['per_minute']:10.1f} {spread:>17s} {row['candidates_per_round']:4d} {row['failed']:6d} "
            f"{row['start_up_s']:7.1f}s {np.mean(kept) if kept else np.nan:6.4f}"
        )
    for name, row in figures["ratios"].items():
        if row["strongest"]:
            print(f"{name}, the strongest: {row['ratio']:.2f} ({row['lowest']:.2f}..{row['highest']:.2f})")


def print_rest(part: str, figures: Any) -> None:
    """A line per case of the other parts."""
    print(f"\n{part}")
    rows = figures if isinstance(figures, list) else [{"": key, "value": value} for key, value in figures.items()]
    for row in rows:
        print("  " + "  ".join(f"{key} {_short(value)}".strip() for key, value in row.items()))


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_short(inner)}" for key, inner in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    sizes: Annotated[str, typer.Option(help=f"some of {','.join(SIZES)}")] = ",".join(SIZES),
    parts: Annotated[str, typer.Option(help=f"some of {','.join(PARTS)}")] = ",".join(PARTS),
    rounds: Annotated[int, typer.Option(min=1, help="turns of every method that are counted")] = 5,
    members: Annotated[str, typer.Option(help="populations of evorec")] = "32,64",
    workers: Annotated[int, typer.Option(min=0, help="processes of c and e; 0 = number of cores")] = 0,
    quick: Annotated[bool, typer.Option(help="a quick trial with tiny sizes")] = False,
    out: Annotated[Path, typer.Option(help="file of the figures")] = HERE / "results" / "bench_population.json",
) -> None:
    """Run the parts, print their tables and write the figures."""
    scale = QUICK if quick else FULL
    wanted, chosen = sizes.split(","), parts.split(",")
    for given, known in ((wanted, SIZES), (chosen, PARTS)):
        if unknown := sorted(set(given) - set(known)):
            raise typer.BadParameter(f"{unknown} is not among {', '.join(known)}")
    figures = json.loads(out.read_text()) if out.exists() else {}
    figures["machine"] = machine()

    def keep(section: str, key: str | None, found: Any) -> None:
        """Write after each part: a later part may fail."""
        if key is None:
            figures[section] = found
        else:
            figures.setdefault(section, {})[key] = found
        write_results(out, figures)

    if device == "cuda":
        found = cuda_rates(scale, rounds=rounds)
        print_rates("standard on CUDA", found)
        keep("cuda", "standard", found)
        return
    for size in wanted if "rates" in chosen else []:
        try:
            found = rates(
                size, scale, rounds=rounds, members=[int(n) for n in members.split(",")], workers=workers or n_cores()
            )
        except (DataError, ConfigError) as error:
            if size not in ("kuairand", "mixed"):
                raise
            print(f"\n{size}: skipped, {error}")
            continue
        print_rates(size, found)
        keep("rates", size, found)
    rest: dict[str, Callable[[], Any]] = {
        "memory": lambda: memory(scale),
        "floor": lambda: floor(scale),
        "table": lambda: fresh("bench_steps", "large_table", quick=quick),
    }
    for part in [part for part in rest if part in chosen]:
        found = rest[part]()
        print_rest(part, found)
        keep(part, None, found)


if __name__ == "__main__":
    typer.run(main)
