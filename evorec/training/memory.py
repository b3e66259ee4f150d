"""How many members fit a program: memory per member by arithmetic, and the memory that the machine has left.

The arithmetic counts the arrays that grow with the members. It leaves out the memory that a program needs once (the
data, the scores of a member's retrieval loss, PyTorch itself): the other half of the memory is left for it, or it comes
on top of the amount that the configuration names. Kept batches get `KEPT_SHARE` of the amount, stacks the rest.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from evorec.errors import ConfigError

GIB = 2**30
SHARE = 0.5
"""Share of the available memory that programs may fill when the configuration names no amount."""
KEPT_SHARE = 0.25
"""Share of a worker's memory for batches that are kept for its next stack, which then need not be built again."""
GRADIENTS = 2
"""Values per dense parameter besides the optimiser's: the parameter and its gradient."""
STEP_COPIES = 4
"""Values per entry of the embedding rows that a step touches: rows, sums over bags, and the gradients of both."""
GRAPH_COPIES = 3
"""Further values per such entry with graph layers: a layer, the layer before, and their mean."""
ACTIVATION_COPIES = 4
"""Values per activation: before and after ReLU and dropout, and the gradients of both."""


def member_bytes(
    *,
    n_rows: int,
    columns: int,
    dense_parameters: int,
    extra_copies: float,
    rows_per_step: int,
    batch: int,
    values_per_row: int,
    further_values: float = 0,
    measured_values: int = 0,
    bytes_per_value: int = 4,
    bytes_per_activation: int | None = None,
    table_copies: float | None = None,
    step_copies: int = STEP_COPIES,
) -> int:
    """Memory that a further member takes while it trains.

    Args:
        n_rows: R, rows of the embedding tables.
        columns: embedding columns of the member, over all of its tables.
        dense_parameters: parameters outside the tables.
        extra_copies: values per parameter besides the parameter and its gradient: 2 moments of Adam, another member
            of equal size that stays in memory.
        rows_per_step: embedding rows that a step touches, at most `n_rows`.
        batch: rows of the ranker's batch.
        values_per_row: activations of a row of the batch that exist at the same time: ranker input and all layers.
        further_values: activations of a step besides, with their gradients, such as those of an encoder of the past.
        measured_values: values that exist at the same time when the trained member is measured: vectors of users and
            items, and logits. The arrays of a step are gone by then.
        bytes_per_value: of parameters, their gradients and moments, 4 or 8.
        bytes_per_activation: 2, 4 or 8; ``None`` = as the parameters.
        table_copies: `extra_copies` of the tables; ``None`` = the same.
        step_copies: values per entry of the embedding rows that a step touches.
    Returns:
        Bytes, > 0.
    Raises:
        ConfigError: a size is negative, or nothing takes memory at all.
    Example:
        >>> member_bytes(n_rows=1000, columns=8, dense_parameters=500, extra_copies=2, rows_per_step=100,
        ...              batch=64, values_per_row=50)  # 4 * (8 * (3 * 1000 + 4 * 100) + 500 * 4 + 4 * 64 * 50)
        168000
    """
    sizes = {
        "n_rows": n_rows,
        "columns": columns,
        "dense_parameters": dense_parameters,
        "extra_copies": extra_copies,
        "rows_per_step": rows_per_step,
        "batch": batch,
        "values_per_row": values_per_row,
        "further_values": further_values,
        "measured_values": measured_values,
    }
    for name, size in sizes.items():
        if not (math.isfinite(size) and size >= 0):
            raise ConfigError(f"{name} must be a number >= 0, got {size}")
    table = columns * n_rows * (1 + (extra_copies if table_copies is None else table_copies))
    dense = dense_parameters * (GRADIENTS + extra_copies)
    step = columns * min(rows_per_step, n_rows) * step_copies * bytes_per_value
    step += ACTIVATION_COPIES * batch * values_per_row * (bytes_per_activation or bytes_per_value)
    step += math.ceil(further_values) * bytes_per_value
    total = (table + dense) * bytes_per_value + max(step, measured_values * bytes_per_value)
    if total <= 0:
        raise ConfigError(f"a member that takes no memory has no stack size: {sizes}")
    return math.ceil(total)


def stack_size(budget_bytes: int, per_member_bytes: int, at_most: int) -> int:
    """Members that fit the budget, at least 1, because nothing smaller can be tried.

    Args:
        budget_bytes: memory that the program may fill; 0 or more.
        per_member_bytes: from `member_bytes`, > 0.
        at_most: largest answer, >= 1.
    Returns:
        Integer in 1..at_most.
    Raises:
        ConfigError: an argument is out of range.
    Example:
        >>> stack_size(10 * 2**20, 3 * 2**20, at_most=16), stack_size(0, 3 * 2**20, at_most=16)
        (3, 1)
    """
    if budget_bytes < 0:
        raise ConfigError(f"a memory budget must be >= 0 bytes, got {budget_bytes}")
    if per_member_bytes <= 0:
        raise ConfigError(f"a member must take > 0 bytes, got {per_member_bytes}")
    if at_most < 1:
        raise ConfigError(f"a stack must hold at least 1 member, got at most {at_most}")
    return max(1, min(at_most, budget_bytes // per_member_bytes))


def memory_budget(gib: float | None = None, *, workers: int = 1, device: str = "cpu") -> int:
    """Bytes that each of the programs that train at the same time may fill.

    Args:
        gib: for all programs together, in GiB; ``None`` or 0 = half of the memory that is available now.
        workers: programs at once.
        device: where they train: ``cpu``, ``cuda`` or ``cuda:1``.
    Raises:
        ConfigError: an argument is out of range.
    """
    if workers < 1:
        raise ConfigError(f"a memory budget is for at least 1 worker, got {workers}")
    if gib is not None and not (math.isfinite(gib) and gib >= 0):
        raise ConfigError(f"a memory budget must be >= 0 GiB, got {gib}")
    total = gib * GIB if gib else SHARE * available_bytes(device)
    return int(total / workers)


def available_bytes(device: str = "cpu") -> int:
    """Memory that new work on a device can have: on a CPU the free and reclaimable part, within every cgroup limit."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    return min([machine_bytes(Path("/")), *cgroup_bytes(Path("/"))])


def cgroup_bytes(root: Path) -> Iterator[int]:
    """Bytes that each memory limit above this process still allows; empty without limits.

    Args:
        root: where ``proc`` and ``sys`` are mounted, ``/``.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":  # version 2
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        folder = base / group.lstrip("/")
        # The tightest limit may be at any level up to the root of the controller.
        for level in (folder, *folder.parents):
            if level == base.parent:
                break
            limit, used = (_text(level / name).strip() for name in names[:2])
            # A level without a limit says `max`, or has no such file.
            if limit.isdecimal() and used.isdecimal():
                reclaimable = _field(_text(level / "memory.stat"), names[2])
                yield max(int(limit) - int(used) + reclaimable, 0)


def machine_bytes(root: Path) -> int:
    """Free and reclaimable memory; half of the installed memory where the system does not report it.

    Args:
        root: where ``proc`` is mounted, ``/``.
    """
    in_kib = _field(_text(root / "proc/meminfo"), "MemAvailable:")
    return in_kib * 1024 or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _field(text: str, name: str) -> int:
    """The number after `name` in lines of names and numbers; 0 where it is missing."""
    rows = (line.split() for line in text.splitlines())
    return next((int(row[1]) for row in rows if len(row) > 1 and row[0] == name), 0)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
