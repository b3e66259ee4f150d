"""The executor that a configuration names."""

from __future__ import annotations

import os
import sys

from evorec.config import ExecutionConfig
from evorec.search.cluster import RayExecutor
from evorec.search.executors import AdaptiveExecutor, Executor, ProcessExecutor, SerialExecutor, ThreadExecutor


def executor_for(config: ExecutionConfig, *, device: str, picklable: bool = True) -> Executor:
    """The executor that ``run.executor`` names; ``auto`` is `AdaptiveExecutor` on several cores of a CPU.

    Args:
        config: `ExecutionConfig.executor` and `ExecutionConfig.workers`, 0 = as many as cores, or GPUs.
        device: type of the device, ``cpu`` or ``cuda``. A single program fills a GPU: there are as many workers as
            GPUs, each a process that sees its own, unless ``run.device`` names one of them.
        picklable: whether the tasks can be sent to another process; otherwise threads are used instead of processes.
    """
    workers, kind, stall_s = config.n_workers(device), config.executor, config.stall_minutes * 60
    if kind == "ray" and picklable:
        return RayExecutor(config.workers, address=config.address, gpus=float(device != "cpu"), stall_s=stall_s)
    if device != "cpu":
        gpus = _visible_gpus() if picklable and kind in ("auto", "processes") and ":" not in config.device else []
        gpus = gpus[: config.workers or len(gpus)]
        if len(gpus) > 1:
            environments = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus]
            return ProcessExecutor(len(gpus), stall_s=stall_s, environments=environments)
        return SerialExecutor(stall_s=stall_s)
    if workers == 1 and kind not in ("processes", "ray"):
        return SerialExecutor(stall_s=stall_s)
    if kind == "threads" or not picklable:
        return ThreadExecutor(workers, stall_s=stall_s)
    return (ProcessExecutor if kind == "processes" else AdaptiveExecutor)(workers, stall_s=stall_s)


def _visible_gpus() -> list[str]:
    """The GPUs that this process sees, by the names that ``CUDA_VISIBLE_DEVICES`` knows them by."""
    torch = sys.modules.get("torch")  # a problem on a GPU has imported it
    n_gpus = torch.cuda.device_count() if torch is not None else 0
    names = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return (names or [str(number) for number in range(n_gpus)])[:n_gpus]
