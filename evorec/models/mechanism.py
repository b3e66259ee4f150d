"""Sharing mechanisms: how the layers of the tasks of a ranker are connected.

A `Mechanism` declares the layers of a member as data (`evorec.models.slots.Level`); a `Network` stacks the layers of
all members of a kernel group and runs them. The forward pass, the parameters, the losses that reach them and the
counted cost all follow from this declaration.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from evorec.errors import ConfigError
from evorec.models.choice import MECHANISMS, SharingChoice
from evorec.models.input_shape import InputShape
from evorec.models.slots import GATE, HEAD, SHARED, SHARED_GATE, STITCH, DenseTensor, Level, Mix, Slots, Unit, role
from evorec.models.spec import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor

    from evorec.models.forward import ForwardPass

HEAD_SCALE = "ensemble.scale"
"""The tensor with the numbers by which each head scales the inputs of the ranker."""
OWN_STITCH = 0.9
"""Initial weight of a task's own unit in a cross-stitch; the others share the rest."""


class Mechanism(SharingChoice):
    """A sharing mechanism: its genes, checks, layers and description.

    An extension implements `levels` and `describe`, and `genes` if it has any. Where layers, gates and stitches are
    not enough, `network` returns a subclass of `Network` with a `top_logits` of its own.

    Attributes:
        combines: whether the logits of the tasks are not those of the heads (`combine`).
        shared_layers: participle for the layers before the towers, as in "the first 2 layers are stitched together".
    """

    combines: bool = False
    shared_layers: str = "shared"

    @abc.abstractmethod
    def levels(self, spec: ModelSpec, shape: InputShape) -> Sequence[Level]:
        """The L hidden levels of a member from the bottom up; the last has T outputs, or 1 for all tasks."""

    @abc.abstractmethod
    def describe(self, spec: ModelSpec) -> str:
        """The mechanism of a member in a sentence or two, for readers who do not know it."""

    def network(self, specs: Sequence[ModelSpec], shape: InputShape) -> Network:
        """The layers of members of equal `ModelSpec.group_key`."""
        return Network(specs, shape)

    def head_loss(self, shape: InputShape, task: int) -> int:
        """The only task whose loss reaches the head of a task, or `SHARED`."""
        return task

    def combine(self, logits: Tensor, specs: Sequence[ModelSpec], shape: InputShape) -> Tensor:
        """Logits of the tasks from those of the heads, ``[P, T, B]``, of the members with this mechanism."""
        return logits

    def extra_loss(self, logits: Tensor, specs: Sequence[ModelSpec], shape: InputShape) -> Tensor | None:
        """Loss of each member besides its task losses, ``[P, T, B] -> [P]``; ``None`` = there is none."""
        return None

    def initial_bias(self, base_logits: Sequence[float], shape: InputShape) -> np.ndarray:
        """First bias of each head, ``(T,)``, with which a fresh model predicts the base rates.

        Args:
            base_logits: log-odds of each task in training, or the best constant of numbers, ``(T,)``.
            shape: sizes fixed by the data.
        """
        return np.array(base_logits, dtype=np.float64)


class Network:
    """The layers between ranker input and logits for the members of a kernel group.

    Args:
        specs: members of equal `ModelSpec.group_key`.
        shape: sizes fixed by the data.

    Attributes:
        layers: slots of each level.
        tensors: all dense parameters of these layers.
        n_groups: G, embedding groups: the shared group, then with task embeddings a group per task.
        tops: output of the last level that each head reads, ``(P * T,)``.
        n_heads: K, heads of each task (`evorec.models.ensemble`).
    """

    def __init__(self, specs: Sequence[ModelSpec], shape: InputShape) -> None:
        self.specs, self.shape, self.n_groups = tuple(specs), shape, n_groups(specs[0], shape)
        self.mechanisms = [mechanism_of(spec) for spec in specs]
        self.n_heads = specs[0].ensemble_heads if shape.n_tasks else 1
        declared = [
            own.levels(spec, shape) if shape.n_tasks else () for own, spec in zip(self.mechanisms, specs, strict=True)
        ]
        levels: list[tuple[Level, ...]] = list(zip(*declared, strict=True))
        self._first = [level[0] for level in levels]  # levels with gates or a stitch are the same for all members
        sizes = shape.layer_inputs(specs[0].embedding_dim, specs[0].width, attends=specs[0].attends)
        self.layers: list[Slots] = []
        self._gates: list[list[Slots]] = []
        # `bottom`: the lowest level above the last mixture, whose inputs the gates read.
        counts, bottom = [self.n_groups] * len(specs), 0
        below = bottom_counts = counts
        for number, level in enumerate(levels):
            rows = [[(unit.task, unit.loss, unit.purpose, unit.source) for unit in own.units] for own in level]
            size = (sizes[number], specs[0].width)
            self.layers.append(_slots(f"layer{number}", size, number, rows, below))
            gates = []
            for name, purpose, is_shared in (("gate", GATE, False), ("shared_gate", SHARED_GATE, True)):
                rows = [
                    [(gate.task, gate.loss, (purpose,), gate.source) for gate in own.gates
                     if (gate.task == SHARED) == is_shared]
                    for own in level
                ]  # fmt: skip
                if rows[0]:
                    # Gates of a kind read equally many units, so they fit one tensor.
                    n_read = next(len(gate.reads) for gate in level[0].gates if (gate.task == SHARED) == is_shared)
                    gates.append(_slots(f"{name}{number}", (sizes[bottom], n_read), number, rows, bottom_counts))
            self._gates.append(gates)
            below = [own.n_outputs for own in level]
            if level[0].gates or level[0].is_stitched:
                bottom, bottom_counts = number + 1, below
        # A last level with a single output per member serves all of its heads.
        starts = accumulate(below, initial=0)
        tasks = range(shape.n_tasks)
        self.tops = tuple(
            start + (task if count > 1 else 0) for start, count in zip(starts, below, strict=False) for task in tasks
        )
        # The first head begins as it does alone.
        purposes = [(HEAD, *([number] if number else [])) for number in range(self.n_heads)]
        heads = [
            [(task, own.head_loss(shape, task), purpose, task) for task in tasks for purpose in purposes]
            for own in self.mechanisms
        ]
        head = _slots("head", (specs[0].width, 1), 0, heads, [len(tasks)] * len(specs))
        # The order of the tensors is that of the products of gradients: another one rounds differently.
        self.tensors: tuple[DenseTensor, ...] = (
            *(tensor for layer in self.layers for tensor in layer.hidden()),
            *(gate.weight() for gates in self._gates for gate in gates),
            *(self._stitch(number) for number, level in enumerate(self._first) if level.is_stitched),
            *self.further_tensors(),
            *((head.weight(), head.bias()) if shape.n_tasks else ()),
            *([self._head_scale(sizes[0])] if self.n_heads > 1 else []),
        )

    def further_tensors(self) -> Sequence[DenseTensor]:
        """Parameters besides those of layers, gates, stitches and heads."""
        return ()

    def logits(self, run: ForwardPass, x: Tensor) -> Tensor:
        """Task logits of B rows, ``[P, T, K * B]``, of the type of `x`, float32 for bfloat16.

        Args:
            run: parameters and dropout.
            x: ``[P, G, B, n_in]``, ranker input of each embedding group, after the input dropout.
        """
        run = replace(run, n_heads=self.n_heads)
        out = self.top_logits(run, self.top_vectors(run, x))
        for mechanism in dict.fromkeys(self.mechanisms):
            if mechanism.combines:
                members = tuple(member for member, its in enumerate(self.mechanisms) if its is mechanism)
                own = mechanism.combine(run.pick(out, members), [self.specs[m] for m in members], self.shape)
                out = run.replace(out, members, own)
        return out

    def predict(self, run: ForwardPass, x: Tensor) -> Tensor:
        """Task logits ``[P, T, B]`` of B rows; those of several heads as their mean prediction. See `logits`."""
        from evorec.models.ensemble import mean_prediction

        return mean_prediction(self.logits(run, x), self.n_heads, self.shape.numbers)

    def top_vectors(self, run: ForwardPass, x: Tensor, mixes: list[Mix] | None = None) -> Tensor:
        """Outputs ``[S, K * B, W]`` of the last level; appends each mixture on the way to `mixes`."""
        if self.n_heads > 1:
            from evorec.models.ensemble import head_inputs

            x = head_inputs(x, run.tensor(HEAD_SCALE, x))
        # [P * G, B, n_in]: a slot reads the input of its member and embedding group.
        bottom = vectors = x.flatten(0, 1)
        for number, level in enumerate(self._first):
            vectors = run.layer(self.layers[number], vectors)
            if level.gates:
                shares = [run.gate(gate, bottom) for gate in self._gates[number]]
                reads, learns = (tuple(getattr(gate, part) for gate in level.gates) for part in ("reads", "learns"))
                # Members with gates have equally many units.
                experts = vectors.view(len(self.specs), -1, *vectors.shape[1:])
                bottom = vectors = run.mixture(experts, shares, reads, learns)
                if mixes is not None:
                    columns = [column for share in shares for column in share.unbind(1)]
                    for gate, column in zip(level.gates, columns, strict=True):
                        owners = tuple((level.units[unit].task, level.units[unit].number) for unit in gate.reads)
                        mixes.append(Mix(number, gate.task, owners, column))
            elif level.is_stitched:
                name = f"stitch{number}.weight"
                bottom = vectors = run.stitch(name, vectors)
                if mixes is not None:
                    # Blends may be negative: a share is that of the sum of the absolute weights.
                    weights, sources = run.dense[name].abs(), tuple((unit.task, 0) for unit in level.units)
                    by_row = weights / weights.sum(2, keepdim=True)
                    mixes += [Mix(number, task, sources, by_row[:, task, :, None]) for task, _ in sources]
        return vectors

    def top_logits(self, run: ForwardPass, vectors: Tensor, mixes: list[Mix] | None = None) -> Tensor:
        """Logits of the heads ``[P, T, K * B]`` from the outputs of the last level; appends mixtures to `mixes`."""
        return run.heads(vectors, self.tops)

    def mixes(self, run: ForwardPass, x: Tensor) -> tuple[Mix, ...]:
        """The mixtures of `logits` without dropout, from the bottom up; empty where nothing is mixed."""
        run, out = replace(run, n_heads=self.n_heads), list[Mix]()
        self.top_logits(run, self.top_vectors(run, x, out), out)
        return tuple(out)

    def extra_loss(self, logits: Tensor) -> Tensor | None:
        """Loss of each member besides its task losses, ``[P, T, B] -> [P]``; ``None`` = there is none."""
        # All members have the same mechanism: those with a loss of their own must not join a family.
        return self.mechanisms[0].extra_loss(logits, self.specs, self.shape)

    def initial_bias(self, base_logits: Sequence[float]) -> np.ndarray:
        """First bias of each head, ``(P, T * K)`` (`Mechanism.initial_bias`)."""
        of_tasks = np.stack([own.initial_bias(base_logits, self.shape) for own in self.mechanisms])
        return np.repeat(of_tasks, self.n_heads, axis=1)

    def mixing_macs(self) -> int:
        """Multiply-adds per row of a head, all members, that no parameter tensor counts."""
        terms = sum(len(gate.reads) for level in self._first for gate in level.gates)
        return len(self.specs) * terms * self.specs[0].width

    def group(self, member: int, task: int) -> int:
        """Index of the ranker input, among the P * G, that the layers of a task or of all (`SHARED`) read."""
        return member * self.n_groups + (task + 1 if self.n_groups > 1 and task != SHARED else 0)

    def _head_scale(self, n_in: int) -> DenseTensor:
        members, groups = range(len(self.specs)), range(self.n_groups)
        return DenseTensor(
            name=HEAD_SCALE,
            member=tuple(member for member in members for _ in groups),
            task=tuple(group - 1 if group else SHARED for _ in members for group in groups),
            key=tuple((group,) for _ in members for group in groups),
            shape=(self.n_heads, n_in),
            scale=1.0,
            decayed=False,
            signs=True,
        )

    def _stitch(self, level: int) -> DenseTensor:
        members, n_tasks = len(self.specs), self.shape.n_tasks
        others = (1 - OWN_STITCH) / max(n_tasks - 1, 1)
        first = np.where(np.eye(n_tasks, dtype=bool), OWN_STITCH, others) if n_tasks > 1 else np.ones((1, 1))
        return DenseTensor(
            name=f"stitch{level}.weight",
            member=tuple(range(members)),
            task=(SHARED,) * members,
            key=(role(level, SHARED, STITCH),) * members,
            shape=(n_tasks, n_tasks),
            scale=0.0,
            decayed=False,
            uses=self.specs[0].width,
            fixed=first,
        )


def _slots(
    name: str,
    size: tuple[int, int],
    level: int,
    rows: Sequence[Sequence[tuple[int, int, tuple[int, ...], int]]],
    below: Sequence[int],
) -> Slots:
    """Slots of all members.

    Args:
        name, size, level: see `Slots`.
        rows: of each member task, loss, purpose and source of its slots.
        below: vectors of each member that its slots may read.
    """
    starts = accumulate(below, initial=0)
    flat = [(m, start, *row) for m, (start, own) in enumerate(zip(starts, rows, strict=False)) for row in own]
    return Slots(
        name=name,
        size=size,
        member=tuple(member for member, *_ in flat),
        task=tuple(loss for _, _, _, loss, _, _ in flat),
        key=tuple(role(level, task, *purpose) for _, _, task, _, purpose, _ in flat),
        source=tuple(start + source for _, start, _, _, _, source in flat),
        level=level,
    )


def n_groups(spec: ModelSpec, shape: InputShape) -> int:
    """Embedding groups of a member: the shared table, and a table per task with task embeddings."""
    return 1 + shape.n_tasks * spec.task_embeddings


def input_of(spec: ModelSpec, task: int) -> int:
    """Embedding group that the lowest layers of a task read (`Unit.source`)."""
    return task + 1 if spec.task_embeddings and task != SHARED else 0


def towers(
    spec: ModelSpec, shape: InputShape, first: int, *, loss: Mapping[int, int] = MappingProxyType({})
) -> list[Level]:
    """A layer for each task at every level from `first` on, each on its own input.

    Args:
        spec: of the member.
        shape: sizes fixed by the data.
        first: lowest level, at which each task reads its embedding group (0) or the output of its index.
        loss: task -> the only task whose loss reaches its layers, or `SHARED`; itself where it is missing.
    """
    tasks = range(shape.n_tasks)
    return [
        Level(tuple(Unit(t, t if level else input_of(spec, t), loss.get(t, t)) for t in tasks))
        for level in range(first, shape.n_layers)
    ]


def mechanism_of(spec: ModelSpec) -> Mechanism:
    """The mechanism of a member.

    Raises:
        ConfigError: no mechanism has this name.
    """
    mechanism = MECHANISMS[spec.mechanism]
    assert isinstance(mechanism, Mechanism)
    return mechanism


def build_network(specs: Sequence[ModelSpec], shape: InputShape) -> Network:
    """The network of a kernel group.

    Args:
        specs: members of equal `ModelSpec.group_key`, not empty.
        shape: sizes fixed by the data.
    Raises:
        ConfigError: the members do not fit together, or a mechanism does not fit its settings or the data.
    """
    faults = [f"{spec.mechanism}: {fault}" for spec in specs for fault in _faults(spec, shape)]
    if faults:
        raise ConfigError("\n".join(dict.fromkeys(faults)))
    if len({spec.group_key for spec in specs}) != 1:
        keys = [spec.group_key for spec in specs]
        raise ConfigError(f"members of a kernel group must have the same group_key, got {keys}")
    return mechanism_of(specs[0]).network(specs, shape)


def _faults(spec: ModelSpec, shape: InputShape) -> Iterator[str]:
    """Misfits of a member: counts outside the limits of their genes, missing tables, a missing funnel."""
    mechanism, values = mechanism_of(spec), dict[str, Any](spec.settings)
    genes = {gene.name: gene for gene in mechanism.genes(shape.n_layers)}
    depth = next((name for name in ("sharing_depth", "expert_depth") if name in genes), None)
    if depth is None and spec.sharing_depth:
        yield f"sharing_depth must be 0, got {spec.sharing_depth}"
    values |= {"task_embeddings": spec.task_embeddings} | ({depth: spec.sharing_depth} if depth else {})
    for name, gene in genes.items():
        limits: tuple[Any, Any] = getattr(gene, "limits", (gene.default, gene.default))
        if name not in values:
            yield f"needs the setting {name}"
        elif type(gene.default) is int and not limits[0] <= values[name] <= limits[1]:
            yield f"{name} must be in {limits[0]}..{limits[1]}, got {values[name]}"
    if mechanism.has_task_tables and not spec.task_embeddings:
        yield "task_embeddings must be true: its tasks have embedding tables of their own"
    if mechanism.needs_funnel and all(parent < 0 for parent in shape.parents):
        yield "needs a funnel, but no task has a parent; set tasks.funnel or leave the mechanism out"


def forward_macs(spec: ModelSpec, shape: InputShape) -> int:
    """Multiply-adds of a row of the batch through a member's ranker: layers, gates, mixtures, transfers and heads."""
    network = _single(spec, shape)
    products = {tensor.name: tensor.n_entries * tensor.uses for tensor in network.tensors}
    own = products.pop("head.weight", 0) + products.pop(HEAD_SCALE, 0)  # the others are used by every head
    return own + network.n_heads * (sum(products.values()) + network.mixing_macs())


def values_per_row(spec: ModelSpec, shape: InputShape) -> int:
    """Activations that a row of the batch keeps for the backward pass: its inputs and the outputs of every slot."""
    network = _single(spec, shape)
    outputs = sum(t.n_slots * t.shape[-1] for t in network.tensors if t.name.endswith("weight"))
    inputs, n = network.n_groups * shape.n_inputs(spec.embedding_dim, attends=spec.attends), network.n_heads
    if n == 1:
        return inputs + outputs
    heads = shape.n_tasks * n  # the count above has them once, as slots of their own
    return (1 + n) * inputs + n * (outputs - heads) + heads


def n_dense_parameters(spec: ModelSpec, shape: InputShape) -> int:
    """Dense parameters of a member's ranker, without the content projection."""
    return sum(tensor.n_entries for tensor in _single(spec, shape).tensors)


def _single(spec: ModelSpec, shape: InputShape) -> Network:
    """The network of a member, which is independent of the blocks of its input."""
    # Fields that change no layer are set to a constant, so that more specs share a cached network.
    plain = replace(shape, n_rows=0, n_content=0, blocks=())
    return _built(replace(spec, off=(), ranks=(), pretrained=False, ema=0.0), plain)


@lru_cache(maxsize=256)
def _built(spec: ModelSpec, shape: InputShape) -> Network:
    return build_network([spec], shape)


def depth_text(spec: ModelSpec) -> str:
    """``1 layer``, ``3 layers``: the sharing depth in a sentence."""
    return f"{spec.sharing_depth} layer" + ("" if spec.sharing_depth == 1 else "s")


def experts_text(n: Any) -> str:
    """``is 1 expert``, ``are 3 experts``, with the word explained, after "There"."""
    return "is one small network (expert)" if n == 1 else f"are {n} small networks (experts)"
