"""The layers of many members as slots of a few tensors, and how a mechanism declares the layers of a single member.

A *slot* is a layer, expert, gate or head of a member. The slots of all members of a kernel group are stacked on the
first axis of a tensor, members in order, so a level of the whole group is a single batched product. Nothing mixes
members: a slot's result is independent of the other members of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, final

import numpy as np

from evorec.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

SHARED = -1
"""The task of a slot that serves all tasks."""

# The numbers enter the keys of initial draws: a new purpose goes to the end, or all initial draws change.
GATE, SHARED_GATE, STITCH, INFO, QUERY, KEY, VALUE, EXPERT, HEAD = range(9)
"""Purpose of a parameter, the third part of the key of its initial draw; a layer of a trunk or tower has none."""

Drop = Callable[[int, int, int], "Tensor"]
"""``(level, batch, width) -> int16 [batch, width]`` draws for dropout, the same for every member."""


@final
@dataclass(frozen=True)
class DenseTensor:
    """A parameter tensor of a kernel group, ``[S, *shape]``.

    Attributes:
        name: unique in the group.
        member: owner of each slot, index in the group, ``(S,)``, ascending.
        task: the only task whose loss reaches the slot, or `SHARED`, ``(S,)``.
        key: stream key of each slot's initial draw, ``(S,)``; equal for equal roles in all members.
        shape: of a slot.
        scale: standard deviation of the initial draw; 0 = zeros.
        decayed: whether weight decay applies.
        uses: multiply-adds per entry and row of the ranker.
        fixed: initial value of every slot instead of a draw.
        signs: whether the initial values are the signs of a draw, times `scale`.
    """

    name: str
    member: tuple[int, ...]
    task: tuple[int, ...]
    key: tuple[tuple[int, ...], ...]
    shape: tuple[int, ...]
    scale: float
    decayed: bool
    uses: int = 1
    fixed: np.ndarray | None = field(default=None, compare=False)
    signs: bool = False

    @property
    def n_slots(self) -> int:
        """Number of slots S."""
        return len(self.member)

    @property
    def n_entries(self) -> int:
        """Number of parameters of all slots."""
        return self.n_slots * prod(self.shape)


@final
@dataclass(frozen=True)
class Slots:
    """Linear maps of equal size that run as a batched product.

    Attributes:
        name: prefix of the tensors.
        size: inputs and outputs of a slot.
        member, task, key: see `DenseTensor`.
        source: index of the vector that each slot reads, ``(S,)``.
        level: layer whose dropout draw applies.
    """

    name: str
    size: tuple[int, int]
    member: tuple[int, ...]
    task: tuple[int, ...]
    key: tuple[tuple[int, ...], ...]
    source: tuple[int, ...]
    level: int = 0

    def weight(self, *, gain: float = 1.0, uses: int = 1) -> DenseTensor:
        """The matrices; a draw of variance ``gain / n_in``."""
        return self._tensor("weight", self.size, (gain / self.size[0]) ** 0.5, decayed=True, uses=uses)

    def bias(self) -> DenseTensor:
        """The biases, initially 0 and not decayed."""
        return self._tensor("bias", (1, self.size[1]), 0.0, decayed=False, uses=0)

    def hidden(self) -> tuple[DenseTensor, DenseTensor]:
        """Parameters of a layer with ReLU; gain 2 keeps the variance (He et al. 2015)."""
        return self.weight(gain=2.0), self.bias()

    def _tensor(self, part: str, shape: tuple[int, ...], scale: float, *, decayed: bool, uses: int) -> DenseTensor:
        return DenseTensor(f"{self.name}.{part}", self.member, self.task, self.key, shape, scale, decayed, uses)


@final
@dataclass(frozen=True)
class Unit:
    """A hidden layer of a member at a level.

    Attributes:
        task: its owner, or `SHARED`.
        source: index of the vector it reads: an embedding group (0 shared, t + 1 of task t) at level 0, else an output
            of the level below.
        loss: the only task whose loss reaches it, or `SHARED`.
        purpose: end of the key of its initial draw, e.g. ``(EXPERT, 1)``.
    """

    task: int
    source: int
    loss: int
    purpose: tuple[int, ...] = ()

    @property
    def number(self) -> int:
        """Number of an expert among those of its owner, from 0."""
        return self.purpose[1] if len(self.purpose) > 1 else 0


@final
@dataclass(frozen=True)
class Gate:
    """A mixture of units with shares that a linear map and a softmax compute for each row.

    Attributes:
        task: the task that reads the mixture, or `SHARED` = the shared units of the next level.
        source: index of the vector from which the shares are computed, among the inputs of the lowest level above the
            last mixture.
        reads: units that are mixed, in the order of the gate's outputs.
        learns: units among them that get a gradient from the mixture.
        loss: the only task whose loss reaches the gate, or `SHARED`.
    """

    task: int
    source: int
    reads: tuple[int, ...]
    learns: tuple[int, ...]
    loss: int


@final
@dataclass(frozen=True)
class Level:
    """The layers of a member at a level, and how their outputs are mixed: by gates, by a stitch, or not at all.

    Attributes:
        units: the layers.
        gates: each gives an output of the level, first those of the tasks, then of `SHARED`; empty = the units are
            the outputs.
        is_stitched: whether the outputs are learned linear blends of all units (Misra et al., CVPR 2016).
    """

    units: tuple[Unit, ...]
    gates: tuple[Gate, ...] = ()
    is_stitched: bool = False

    @property
    def n_outputs(self) -> int:
        """Vectors that the next level can read."""
        return len(self.gates or self.units)


@final
@dataclass(frozen=True)
class Mix:
    """A mixture of a mechanism and its shares for some rows.

    Attributes:
        level: the layer whose outputs are mixed, from 0.
        reader: the task that reads the mixture; `SHARED` = the shared experts of the next level.
        sources: owner (a task or `SHARED`) and number, from 0, of each of the K vectors that are mixed.
        shares: ``[P, K, B]``, the K of a row sum to 1; B is 1 where all rows have the same shares.
    """

    level: int
    reader: int
    sources: tuple[tuple[int, int], ...]
    shares: Tensor


def role(level: int, task: int, *purpose: int) -> tuple[int, ...]:
    """Stream key of an initial draw: level, task or `SHARED`, and purpose."""
    # `evorec.models.rerank` reads the task back from the second part.
    return (level, task - SHARED, *purpose)


def funnel_waves(parents: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Tasks by their distance from the start of their funnel.

    Args:
        parents: parent task of each task or -1, ``(T,)``.
    Raises:
        ConfigError: a parent is not a task, or the parents form a cycle.
    Example:
        >>> funnel_waves([-1, 0, 1, 0])
        ((0,), (1, 3), (2,))
    """
    waves = [tuple(task for task, parent in enumerate(parents) if parent == -1)]
    while sum(map(len, waves)) < len(parents):
        waves.append(tuple(task for task, parent in enumerate(parents) if parent in waves[-1]))
        # The tasks that are left wait for each other, or for a task that does not exist.
        if not waves[-1]:
            raise ConfigError(f"parents must be tasks 0..{len(parents) - 1} or -1, without a cycle, got {parents}")
    return tuple(waves)
