"""Shared setup of the benchmarks: sizes, random members, fresh processes, memory and the machine."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from sequential import Loop

from evorec.config import RecommenderConfig, load_config, merge, parse_config, recommender_config
from evorec.data.readers import read
from evorec.data.tables import Tables
from evorec.models.spec import ModelSpec, default_space
from evorec.recommender.problem import RecProblem
from evorec.recommender.trainers import StackTrainer
from evorec.seeds import generator
from evorec.training.plan import BatchPlan, Step
from evorec.training.precision import PRECISIONS, has_bfloat16
from problems import feed

HERE = Path(__file__).parent
CPU: Final = torch.device("cpu")
SHAPES: Final = {"small": (512, 32), "standard": (2048, 64), "kuairand": (1024, 64)}
"""Size -> batch and width; embeddings of 16 in all of them."""
NOT_IN_LOOPS: Final = {"ema": 0.0, "ensemble_heads": 1, "id_dropout": 0.0, "item_item": "none"}
"""Genes that the sequential loops do not have, at values without an effect."""
FIXED: Final[Mapping[str, Any]] = {
    "mechanism": "shared_bottom",
    "task_embeddings": False,
    "balancing": "fixed",
    "embedding_dim": 16,
    "dropout": 0.1,
    "optimizer": "adamw",
    "retrieval_loss": "softmax",
    "history": True,
    "rerank": False,
    **NOT_IN_LOOPS,
}
"""Genes that all members of the plain sizes share, with width and depth; rates, decays and weights vary."""


@final
@dataclass(frozen=True)
class Scale:
    """Sizes of the benchmarks.

    Attributes:
        steps: steps of a training.
        n_users, n_items, n_interactions: sizes of the simulator.
        table_users, table_items, table_interactions: sizes of the simulator in part `table`.
        table_steps: steps of a training in part `table`.
        memory_members: members of the largest program in part `memory`.
        repeats: repetitions of parts `floor` and `table`.
        gemm_s: CPU time of a measurement of plain products.
    """

    steps: int = 100
    n_users: int = 2000
    n_items: int = 4000
    n_interactions: int = 200_000
    table_users: int = 6000
    table_items: int = 100_000
    table_interactions: int = 300_000
    table_steps: int = 40
    memory_members: int = 64
    repeats: int = 5
    gemm_s: float = 0.3


FULL: Final = Scale()
QUICK: Final = Scale(
    steps=4, n_users=150, n_items=100, n_interactions=4000, table_users=100, table_items=300, table_interactions=4000,
    table_steps=3, memory_members=3, repeats=1, gemm_s=0.02,
)  # fmt: skip


def simulated(size: str, scale: Scale, *, device: str = "cpu", precision: str = "float32") -> RecommenderConfig:
    """Configuration of size small or standard: 3 tasks, 3 layers of which 2 are shared."""
    batch, width = SHAPES[size]
    world = {"n_users": scale.n_users, "n_items": scale.n_items, "n_interactions": scale.n_interactions}
    own = {
        "data": {"simulator": world},
        "training": {
            "steps": scale.steps, "batch_size": batch, "retrieval_batch": 256, "uniform_negatives": 0, "layers": 3,
            "precision": precision,
        },
        "space": {**FIXED, "width": width, "sharing_depth": 2, "negatives": 256},
        "objectives": ("accuracy", "recall@k", "catalogue_coverage@k"),
        "constraints": (),
        "run": {"device": device},
    }  # fmt: skip
    return parse_config(merge(feed.DEFAULTS, own), source="experiments/bench_population.py")


def real(size: str, scale: Scale, *, precision: str = "float32") -> RecommenderConfig:
    """Configuration of size kuairand or mixed."""
    config = recommender_config(load_config(HERE / "kuairand.toml"))
    fixed = (
        NOT_IN_LOOPS if size == "mixed" else {**FIXED, "width": SHAPES[size][1], "sharing_depth": 1, "negatives": 512}
    )
    training = {"steps": scale.steps, "precision": precision}
    if size == "kuairand":
        training["uniform_negatives"] = 0
    own = {"training": training, "constraints": (), "run": {"device": "cpu"}}
    own["objectives"] = ("accuracy", "recall@k", "catalogue_coverage@k")
    whole = config.model_dump()
    return parse_config({**merge(whole, own), "space": fixed}, source="experiments/bench_population.py")


def configured(size: str, scale: Scale, *, device: str = "cpu", precision: str = "float32") -> RecommenderConfig:
    """Configuration of any size."""
    if size in ("kuairand", "mixed"):
        return real(size, scale, precision=precision)
    return simulated(size, scale, device=device, precision=precision)


def drawn(problem: RecProblem, n: int) -> list[dict[str, Any]]:
    """Specs of n random genomes of the problem's space."""
    rows = problem.space.sample(generator(0, "bench: members"), n)
    return [problem.space.decode(row) for row in rows]


def loop_of(config: RecommenderConfig, **choices: Any) -> Loop:
    """The sequential loop with the settings of a configuration."""
    training, evaluation = config.training, config.evaluation
    assert not training.next_item
    assert isinstance(evaluation.candidates, int)
    return Loop(
        steps=training.steps,
        batch=training.batch_size,
        retrieval_batch=training.retrieval_batch,
        n_layers=training.layers,
        seed=config.search.seed,
        k=evaluation.k,
        candidates=evaluation.candidates,
        **choices,
    )


def simulate_of(scale: Scale) -> Tables:
    """Simulated tables of the sizes small and standard."""
    return read(configured("standard", scale).data)


def plain_specs(config: RecommenderConfig, n: int) -> list[ModelSpec]:
    """Random members of a configuration's space; building the problem would train baselines, slow on large data."""
    training = config.training
    space = default_space(
        config.tasks.ranked, n_layers=training.layers, days=14.0, funnel=bool(config.tasks.funnel),
        uniform_negatives=training.uniform_negatives, retrieval_batch=training.retrieval_batch,
    ).with_overrides(config.space, "space")  # fmt: skip
    rows = space.sample(generator(0, "bench: members"), n)
    return [ModelSpec.from_genes(space.decode(row)) for row in rows]


def in_precision(trainer: StackTrainer, name: str) -> StackTrainer:
    """The same data and batches with another precision of the activations."""
    return replace(trainer, data=replace(trainer.data, precision=PRECISIONS[name]))


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Set the number of threads of PyTorch's operations inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    yield
    torch.set_num_threads(before)


@final
class StepClock:
    """A batch plan that records the CPU time at the start of each step."""

    def __init__(self, plan: BatchPlan) -> None:
        self._plan = plan
        self.at: list[float] = []

    def __len__(self) -> int:
        return len(self._plan)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plan, name)

    def step(self, index: int) -> Step:
        self.at.append(time.process_time())
        return self._plan.step(index)


def clocked(trainer: StackTrainer, models: Sequence[ModelSpec]) -> TrainingTime:
    """CPU times of a training."""
    other, start = copy(trainer), time.process_time()
    clock = other.__dict__["plan"] = StepClock(trainer.plan)
    other.train(models)
    return TrainingTime.of(clock.at, time.process_time() - start)


@final
@dataclass(frozen=True)
class TrainingTime:
    """CPU seconds of a training.

    Attributes:
        step: median over the steps.
        rest: time before the first step and after the last step.
    """

    step: float
    rest: float

    @classmethod
    def of(cls, at: Sequence[float], whole: float) -> TrainingTime:
        """From the start times of the steps; the last step is counted as their median."""
        each = np.diff(at)
        return cls(float(np.median(each)), whole - float(each.sum()) - float(np.median(each)))

    @classmethod
    def median(cls, each: Sequence[TrainingTime]) -> TrainingTime:
        """Medians over several runs."""
        return cls(float(np.median([times.step for times in each])), float(np.median([times.rest for times in each])))


def precisions() -> list[str]:
    """Precisions that this processor supports in hardware."""
    return ["float32", "bfloat16"] if has_bfloat16(CPU) else ["float32"]


def fresh(module: str, function: str, *, n_threads: int | None = 1, **arguments: Any) -> Any:
    """Result of a script's function in a fresh process; ``n_threads = None`` keeps the default number of threads."""
    code = f"import json, {module} as m; print(json.dumps(m.{function}(**json.loads({json.dumps(arguments)!r}))))"
    path = os.pathsep.join([str(HERE), *(entry or os.getcwd() for entry in sys.path)])
    own = {"PYTHONPATH": path}
    if n_threads is not None:
        own |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(n_threads))
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **own}, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def settled_rss() -> int:
    """Resident bytes after returning freed memory to the system; resets the peak (Linux with glibc)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return status_bytes("VmRSS")


def status_bytes(field: str) -> int:
    """A field of ``/proc/self/status``, in bytes."""
    rows = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(rows[field].split()[0]) * 1024


def n_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def machine() -> dict[str, Any]:
    """Processor, versions and load, stored with the figures."""
    models = {
        row.split(":")[1].strip() for row in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in row
    }
    return {
        "processor": sorted(models), "cores": n_cores(), "capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(), "torch": torch.__version__, "load": os.getloadavg(),
        "at": time.strftime("%Y-%m-%d %H:%M"),
    }  # fmt: skip
