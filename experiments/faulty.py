"""A problem of whose candidates half go wrong, each in its own way; for `threats.py`.

Its landscape is that of `problems.analytic`. The variable EVOREC_FAULTS says what happens to the faulty half:
``plain``: an error is raised; ``all``: each of `KINDS` in turn, chosen by the spec; ``none``: nothing; or a kind.
If EVOREC_STARTS names a file, it gets a line for each evaluation that begins: key, kind, process and clock; and another
when its stack ends. With EVOREC_STAYS the problem cannot be sent to a worker process.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import signal
import threading
import time
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from evorec import Outcome, Problem
from evorec.heartbeat import beat
from evorec.problem import Spec
from problems import analytic
from problems.analytic import AnalyticConfig

CONFIG = AnalyticConfig
DEFAULTS = {**analytic.DEFAULTS, "search": {"population": 16, "generations": 3, "surrogate": "none", "memory": "none"}}
KINDS = ("raises", "diverges", "nan", "allocates", "is killed", "exits", "crashes", "sleeps", "computes")
DIES, HANGS = KINDS[4:7], KINDS[7:]
SECONDS = float(os.environ.get("EVOREC_SECONDS", "0"))
"""Of an evaluation without a fault."""


def kind_of(spec: Spec) -> str:
    """What goes wrong with a spec; empty for the healthy half."""
    wanted = os.environ.get("EVOREC_FAULTS", "none")
    digest = hashlib.sha256(key_of(spec).encode()).digest()
    if wanted == "none" or digest[0] % 2:
        return ""
    kind = KINDS[digest[1] % len(KINDS)]
    if wanted in ("all", "plain"):
        return kind if wanted == "all" else KINDS[0]
    return kind if kind == wanted else ""


def key_of(spec: Spec) -> str:
    """A spec as text."""
    return json.dumps(dict(spec), sort_keys=True)


def note(line: str) -> None:
    """A line of the log, written at once."""
    if name := os.environ.get("EVOREC_STARTS"):
        with open(name, "ab", 0) as file:
            file.write(f"{line}\n".encode())


class Faulty(Problem):
    """See the module."""

    name = "faulty"
    data_sha256 = "faulty 1"

    def __init__(self, config: AnalyticConfig) -> None:
        base = analytic.build(config)
        self.space, self.objectives, self.constraints, self.seed = base.space, base.objectives, (), base.seed
        if "EVOREC_STAYS" in os.environ:
            self.lock = threading.Lock()  # has no pickle

    def shape_key(self, spec: Spec) -> Hashable:
        return ()

    def evaluate(self, specs: Sequence[Spec], *, seed: int, **_: Any) -> list[Outcome]:
        names = [hashlib.sha256(key_of(spec).encode()).hexdigest()[:12] for spec in specs]
        outcomes = []
        for name, spec in zip(names, specs, strict=True):
            note(f"begin\t{name}\t{kind_of(spec)}\t{os.getpid()}\t{time.time()}")
            outcomes.append(self._outcome(spec))
        for name in names:
            note(f"end\t{name}\t\t{os.getpid()}\t{time.time()}")
        return outcomes

    def _outcome(self, spec: Spec) -> Outcome:
        kind = kind_of(spec)
        beat()
        if kind == "raises":
            raise ValueError("this candidate always raises")
        if kind == "diverges":
            return Outcome(None, failure="the loss is not finite")
        if kind == "allocates":
            np.ones(1 << 46)
        if kind == "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "exits":
            os._exit(3)
        if kind == "crashes":
            ctypes.string_at(0)
        if kind == "sleeps":
            time.sleep(1e6)
        if kind == "computes":
            re.match("(a+)+$", "a" * 60 + "b")  # for years, with the GIL
        time.sleep(SECONDS)
        metrics = analytic.measured(spec)
        if kind == "nan":
            metrics["quality"] = float("nan")
        return Outcome(metrics, weights={"w": np.full(64, metrics["cost"], dtype=np.float32)})

    def baselines(self) -> Mapping[str, Mapping[str, float]]:
        return {"trivial": {"quality": 0.0, "cost": 1.0}}


def build(config: AnalyticConfig) -> Faulty:
    """The problem."""
    return Faulty(config)
