"""Kernel groups merged by padding: on a GPU, further launches can cost more than some wasted bytes.

A member may train with zeros at the end of every axis of its dense tensors, as a member of greater width. Its result
does not change: a padded unit gives relu(0) = 0, no gradient passes it (the derivative there is 0), AdamW leaves a zero
with zero gradient at zero, and the dropout draws of a narrow layer are the first columns of those of a wide layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import final

import numpy as np
import torch

from evorec.models.choice import MECHANISMS
from evorec.models.input_shape import InputShape
from evorec.models.mechanism import values_per_row
from evorec.models.optimizer import OPTIMIZERS
from evorec.models.population import Population
from evorec.models.spec import ModelSpec

PASSES = 11
"""Times that a step reads or writes an activation in memory when no kernels are fused; counted."""
LAUNCHES_PER_BLOCK = 90
"""Kernels that a further kernel group adds to a step of 2 layers and 3 tasks; counted: from 50 (plain towers, fixed
weights) to 100 (experts), 40 more where weights are balanced, 300 to 400 where that takes each task's gradient."""
LAUNCH_S = 5e-6
"""Seconds between two launches without a CUDA graph."""
REACHED = 0.8
"""Share of its memory bandwidth that a GPU reaches on long vectors."""
USUAL_BYTES_PER_S = 1e12
"""Memory bandwidth of a GPU that does not report it."""

Shapes = Mapping[str, tuple[int, ...]]


@final
@dataclass(frozen=True)
class MergeRule:
    """When merging two kernel groups is faster: the launches saved take longer than the padding's bytes.

    Attributes:
        launches_per_block: kernels that a step saves per kernel group that is merged away.
        launch_s: seconds of a launch.
        bytes_per_s: memory traffic that the device reaches.
    """

    launches_per_block: float
    launch_s: float
    bytes_per_s: float

    def merges(self, extra_bytes: float) -> bool:
        """Whether to merge at the price of `extra_bytes` more traffic in a step."""
        return self.launches_per_block * self.launch_s > extra_bytes / self.bytes_per_s


def merge_rule(device: torch.device) -> MergeRule | None:
    """The rule of a device; ``None`` on a CPU, where a kernel group costs next to nothing."""
    if device.type != "cuda":
        return None
    properties = torch.cuda.get_device_properties(device)
    clock_hz = 1000 * getattr(properties, "memory_clock_rate", 0)
    bus_bytes = getattr(properties, "memory_bus_width", 0) / 8
    bandwidth = 2 * clock_hz * bus_bytes or USUAL_BYTES_PER_S  # two transfers per cycle
    return MergeRule(LAUNCHES_PER_BLOCK, LAUNCH_S, REACHED * bandwidth)


def pads_exactly(spec: ModelSpec) -> bool:
    """Whether the member is the same with padding.

    Means of squares, as Adafactor's, would count the zeros; the attention of aitm is scaled by its width.
    """
    return OPTIMIZERS[spec.optimizer].pads_exactly and MECHANISMS[spec.mechanism].pads_exactly


def padded_specs(
    specs: Sequence[ModelSpec], shape: InputShape, rule: MergeRule | None, *, batch: int, bytes_per_value: int
) -> tuple[ModelSpec, ...]:
    """Each member's spec with the width at which it trains, its own or a greater width.

    Members whose `ModelSpec.group_key` differs in the width only are merged width by width into the next greater width,
    the cheapest merge first, while the rule allows it. A width with a member that cannot be padded stays.

    Args:
        specs: of each member.
        shape: sizes fixed by the data.
        rule: of the device; ``None`` = no merging.
        batch: rows of the ranker.
        bytes_per_value: of an activation.
    """
    if rule is None:
        return tuple(specs)
    kinds: dict[tuple[object, ...], dict[int, list[int]]] = {}
    for member, spec in enumerate(specs):
        kinds.setdefault(replace(spec, width=0).group_key, {}).setdefault(spec.width, []).append(member)

    def extra_bytes(members: Sequence[int], width: int, wider: int) -> int:
        values = sum(
            values_per_row(replace(specs[member], width=wider), shape)
            - values_per_row(replace(specs[member], width=width), shape)
            for member in members
        )
        return PASSES * batch * bytes_per_value * values

    out = list(specs)
    for by_width in kinds.values():
        while merges := [
            # From the width of earlier merges, not from the members' own.
            (extra_bytes(by_width[width], width, wider), width, wider)
            for width, wider in pairwise(sorted(by_width))
            if all(pads_exactly(specs[member]) for member in by_width[width])
        ]:
            price, width, wider = min(merges)
            if not rule.merges(price):
                break
            by_width[wider] += by_width.pop(width)
        for width, members in by_width.items():
            for member in members:
                out[member] = replace(specs[member], width=width)
    return tuple(out)


def padded_population(exact: Population, padded: Sequence[ModelSpec], *, block_size: int) -> Population:
    """The same members at the widths of `padded`; `exact` itself where those are its own."""
    if exact.specs == tuple(padded):
        return exact
    like = exact.flat
    population = Population(padded, exact.shape, block_size=block_size, dtype=like.dtype, device=like.device)
    copy_members(exact, population)
    return population


def copy_members(source: Population, target: Population) -> None:
    """Copies members to a population of the same members at other widths: the part that both have."""
    for member in range(source.size):
        views = target.member_views(member)
        for name, own in source.member_views(member).items():
            both = tuple(map(slice, map(min, own.shape, views[name].shape)))
            views[name][both] = own[both]


def refit(arrays: Mapping[str, np.ndarray], shapes: Shapes) -> dict[str, np.ndarray]:
    """A member's arrays, by name, in other `member_shapes`: cut, or with zeros, at the end of every axis."""
    return {name: _fitted(array, shapes[name]) for name, array in arrays.items()}


def refit_entries(entries: np.ndarray, found: Shapes, wanted: Shapes) -> np.ndarray:
    """`refit` of a number for each entry of all dense tensors, ``(k,)``, such as a moment.

    Args:
        entries: tensor after tensor, in the order of the shapes.
        found, wanted: shapes before and after, the same names in the same order.
    """
    if found == wanted:
        return entries
    # Tables have no entries in the flat buffer; their state is kept by rows.
    names = [name for name in found if name not in ("table", "task_table")]
    parts = np.split(entries, np.cumsum([prod(found[name]) for name in names])[:-1])
    fitted = [_fitted(part.reshape(found[n]), wanted[n]) for n, part in zip(names, parts, strict=True)]
    return np.concatenate([part.ravel() for part in fitted])


def _fitted(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The array cut, or with zeros, at the end of every axis; the same object where it fits."""
    if array.shape == shape:
        return array
    both = tuple(slice(min(sizes)) for sizes in zip(array.shape, shape, strict=True))
    out = np.zeros(shape, array.dtype)
    out[both] = array[both]
    return out
