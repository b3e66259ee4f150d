"""What this machine and its PyTorch can do, as `evorec doctor` shows it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from evorec.training.memory import available_bytes, machine_bytes
from evorec.training.precision import has_bfloat16

GIB = 2**30


def machine_facts() -> dict[str, Any]:
    """Devices, memory, threads and number types, plain JSON.

    Returns:
        ``devices``: name, free and whole memory in GiB (of the CPU: what is available) and whether it computes in
        bfloat16; ``cores`` that this process may use; ``threads`` of PyTorch per operation; ``cpu_capability``;
        ``mkl``: whether PyTorch has it; ``cuda_build``: the CUDA version of its build, or None; ``nvidia``:
        whether the system has NVIDIA's driver.
    """
    cpu = torch.device("cpu")
    devices = [
        {
            "device": "cpu", "name": _processor(), "free_gib": available_bytes() / GIB,
            "memory_gib": max(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), machine_bytes(Path("/"))) / GIB,
            "bfloat16": has_bfloat16(cpu),
        }
    ]  # fmt: skip
    for index in range(torch.cuda.device_count()):
        device = torch.device("cuda", index)
        free, whole = torch.cuda.mem_get_info(device)
        devices.append(
            {
                "device": str(device), "name": torch.cuda.get_device_name(device), "free_gib": free / GIB,
                "memory_gib": whole / GIB, "bfloat16": has_bfloat16(device),
            }
        )  # fmt: skip
    return {
        "devices": devices,
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "mkl": bool(torch.backends.mkl.is_available()),  # type: ignore[no-untyped-call]
        "cuda_build": torch.version.cuda,
        "nvidia": Path("/proc/driver/nvidia/version").exists(),
    }


def _processor() -> str:
    """The name that the processor has in ``/proc/cpuinfo``."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
