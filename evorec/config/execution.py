"""Section ``[run]``: where and how a run executes."""

from __future__ import annotations

import os
from typing import Literal

from pydantic import Field

from evorec.config.section import Section


class ExecutionConfig(Section):
    """Where and how the run executes; changes no result on a CPU and is not part of the fingerprint."""

    output: str = Field("runs", description="folder for run directories")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        examples=["auto", "cpu", "cuda", "cuda:1"],
        description="where the tensors live; auto = CUDA where there is one",
    )
    workers: int = Field(0, ge=0, le=1024, description="groups trained at once on a CPU; 0 = one per core")
    executor: Literal["auto", "processes", "threads", "serial"] = Field(
        "auto", description="how groups train at once; auto = what suits the device"
    )
    memory_gib: float = Field(
        0.0, ge=0, description="memory that programs trained at once may fill, in GiB; 0 = half of what is available"
    )
    chunk: int = Field(32, ge=1, le=4096, description="most members in one program")

    def n_workers(self, device: str) -> int:
        """Groups trained at once on ``cpu`` or ``cuda``: one fills a GPU."""
        if device != "cpu" or self.executor == "serial":
            return 1
        return self.workers or len(os.sched_getaffinity(0))
