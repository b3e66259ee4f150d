"""Energy of a piece of work: measured where the machine has meters, else estimated from CPU time.

Linux shows the meters of a processor (RAPL) in ``/sys/class/powercap``, mostly to root only, and NVIDIA's driver (NVML)
has one per GPU, which the package ``nvidia-ml-py`` reads. The meter of a processor counts all processes: a process gets
the share of the energy that its CPU time has in that of the machine. The meter of a GPU is taken as a whole.

Sources of a figure, which may add up: ``rapl``, ``nvml`` and ``estimate``. Reading the meters takes less than a
millisecond.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, final

WATTS_PER_CORE: Final = 10.0
"""Assumed of a busy core where the processor does not meter itself."""
JOULES_PER_KWH: Final = 3.6e6
RAPL, NVML, ESTIMATE = "rapl", "nvml", "estimate"
SOURCES: Final[Mapping[str, str]] = {
    RAPL: "CPU measured (RAPL)",
    NVML: "GPU measured (NVML)",
    ESTIMATE: f"estimated: CPU time at {WATTS_PER_CORE:g} W per busy core",
}
"""Each source in words."""


def kwh(joules: Mapping[str, float]) -> float:
    """The sum of all sources in kWh."""
    return sum(joules.values()) / JOULES_PER_KWH


def total(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Joules by source of several pieces of work.

    Example:
        >>> total([{"estimate": 1.0}, {"estimate": 2.0, "nvml": 5.0}])
        {'estimate': 3.0, 'nvml': 5.0}
    """
    found: dict[str, float] = {}
    for joules in parts:
        for source, value in joules.items():
            found[source] = found.get(source, 0.0) + value
    return found


def sources_text(joules: Mapping[str, float]) -> str:
    """Where figures come from, in words.

    Example:
        >>> sources_text({"estimate": 3.0})
        'estimated: CPU time at 10 W per busy core'
    """
    return "; ".join(text for source, text in SOURCES.items() if source in joules)


@final
class EnergyMeter:
    """The energy of work in this process. Pieces of work that run at the same time share it evenly.

    Args:
        powercap: folder of the meters of processors.
        stat: file with the CPU time of the machine.
        cpu_s: CPU seconds of this process, of all its threads.
        gpu_joules: meters of the GPUs that this process uses, by name.
    """

    def __init__(
        self,
        *,
        powercap: Path = Path("/sys/class/powercap"),
        stat: Path = Path("/proc/stat"),
        cpu_s: Callable[[], float] = time.process_time,
        gpu_joules: Callable[[], Mapping[str, float]] | None = None,
    ) -> None:
        self._stat, self._cpu_s = stat, cpu_s
        self._gpu_joules = gpu_joules or _NvmlMeters().joules
        self._packages = [folder for folder in sorted(powercap.glob("intel-rapl:*")) if folder.name.count(":") == 1]
        self._lock = threading.Lock()
        self._active: list[dict[str, float]] = []
        self._last = self._read()

    @contextmanager
    def measure(self) -> Iterator[dict[str, float]]:
        """Measure a block of code.

        Yields:
            Joules by source; complete when the block has ended.
        """
        joules: dict[str, float] = {}
        with self._lock:
            self._share()
            self._active.append(joules)
        try:
            yield joules
        finally:
            with self._lock:
                self._share()
                self._active = [other for other in self._active if other is not joules]

    def _share(self) -> None:
        """Divide what was used since the last call among the pieces of work that ran meanwhile."""
        before, self._last = self._last, self._read()
        if not self._active:
            return
        for source, value in _used(before, self._last).items():
            for joules in self._active:
                joules[source] = joules.get(source, 0.0) + value / len(self._active)

    def _read(self) -> dict[str, Any]:
        return {
            "cpu_s": self._cpu_s(),
            "busy_s": self._busy_s(),
            "packages": {folder.name: found for folder in self._packages if (found := _package(folder)) is not None},
            "gpus": dict(self._gpu_joules()),
        }

    def _busy_s(self) -> float:
        """CPU seconds of all processes of the machine since it started; 0.0 where it does not say."""
        try:
            user, nice, system, _, _, irq, softirq = map(int, self._stat.read_text().split("\n", 1)[0].split()[1:8])
        except (OSError, ValueError):
            return 0.0
        return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _used(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, float]:
    """Joules by source between two readings."""
    cpu_s = max(now["cpu_s"] - before["cpu_s"], 0.0)
    found: dict[str, float] = {}
    packages = [name for name in now["packages"] if name in before["packages"]]
    if packages:
        share = cpu_s / max(now["busy_s"] - before["busy_s"], cpu_s, 1e-9)
        for name in packages:
            (old, _), (new, limit) = before["packages"][name], now["packages"][name]
            grown = new - old if new >= old else new + limit - old  # the counter starts again at its limit
            found[RAPL] = found.get(RAPL, 0.0) + grown * share
    else:
        found[ESTIMATE] = cpu_s * WATTS_PER_CORE
    for name in now["gpus"].keys() & before["gpus"].keys():
        found[NVML] = found.get(NVML, 0.0) + max(now["gpus"][name] - before["gpus"][name], 0.0)
    return found


def _package(folder: Path) -> tuple[float, float] | None:
    """Joules that a processor has counted, and the limit of its counter; None where it cannot be read."""
    try:
        counted, limit = (int((folder / name).read_text()) for name in ("energy_uj", "max_energy_range_uj"))
    except (OSError, ValueError):
        return None
    return counted / 1e6, limit / 1e6


@final
class _NvmlMeters:
    """Meters of the CUDA devices that this process uses; none without PyTorch on CUDA or without ``nvidia-ml-py``."""

    def __init__(self) -> None:
        self._handles: dict[str, Any] | None = None

    def joules(self) -> dict[str, float]:
        """Joules since the driver was loaded, by the identifier of the device."""
        torch = sys.modules.get("torch")  # whoever does not use it must not wait for its import
        if torch is None or not torch.cuda.is_initialized():
            return {}
        try:
            import pynvml
        except ImportError:
            return {}
        try:
            if self._handles is None:
                self._handles = {}
                pynvml.nvmlInit()
                ids = [f"GPU-{torch.cuda.get_device_properties(i).uuid}" for i in range(torch.cuda.device_count())]
                self._handles = {name: pynvml.nvmlDeviceGetHandleByUUID(name) for name in ids}
            found = self._handles.items()
            return {name: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3 for name, handle in found}
        except (pynvml.NVMLError, AttributeError):  # no meter, or a version of PyTorch that does not name devices
            return {}


@functools.cache
def process_meter() -> EnergyMeter:
    """The meter of this process."""
    return EnergyMeter()
