"""Section ``[run]``: where and how a run executes."""

from __future__ import annotations

import os
from typing import Literal

from pydantic import Field, JsonValue

from evorec.config.section import Section


class ExecutionConfig(Section):
    """Where and how a run executes; on a CPU it changes no result, and it is not part of the fingerprint."""

    output: str = "runs"
    """folder for run directories"""
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", examples=["auto", "cpu", "cuda", "cuda:1"])
    """device of the tensors; auto = CUDA if available, else the CPU"""
    workers: int = Field(0, ge=0, le=1024)
    """stacks trained in parallel on a CPU; 0 = the number of cores"""
    executor: Literal["auto", "processes", "threads", "serial", "ray"] = "auto"
    """how stacks are trained in parallel; auto = by the device; ray = on a cluster of Ray (extra cluster)"""
    address: str = Field("", examples=["auto", "10.0.0.1:6379"])
    """of the Ray cluster; auto = the cluster on this machine; empty = it is started here and ends with the search"""
    stall_minutes: float = Field(30.0, gt=0)
    """minutes without progress after which a worker process hangs and is ended; threads cannot be ended"""
    memory_gib: float = Field(0.0, ge=0)
    """memory for stacks, kept batches and baselines of all workers, and for similarities of evorec fuse, in GiB; data
    and libraries come on top; 0 = half of the free memory"""
    min_free_gib: float = Field(0.25, ge=0)
    """disk space that a search and finalize leave free, in GiB: they do not begin without it, and a search stops, to be
    resumed, when less is left; 0 = until the disk is full"""
    chunk: int = Field(32, ge=1, le=4096)
    """most members in a stack"""

    trackers: tuple[str, ...] = Field((), examples=['["tensorboard", "mlflow"]'])
    """observers of the run: tensorboard, mlflow, wandb, or those of plugins; they never stop it"""
    tracking: dict[str, dict[str, JsonValue]] = Field({})
    """settings of trackers by name, e.g. {mlflow = {uri = "sqlite:///mlflow.db"}}"""
    tracker_wait_s: float = Field(20.0, ge=0)
    """seconds that a command waits at its end for its trackers"""

    def n_workers(self, device: str) -> int:
        """Stacks trained in parallel on ``cpu`` or ``cuda``; a single stack fills a GPU."""
        if device != "cpu" or self.executor == "serial":
            return 1
        return self.workers or len(os.sched_getaffinity(0))
