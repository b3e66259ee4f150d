"""Mechanisms that share through experts: each task mixes the experts it may see, with a gate of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from torch import Tensor

from evorec.models.layers import SHARED, Drop
from evorec.models.mechanism import (
    EXPERT,
    GATE,
    SHARED_GATE,
    DenseTensor,
    Mechanism,
    Mix,
    Pass,
    Reads,
    Slots,
    heads,
    mixture,
    role,
    task_slots,
)

if TYPE_CHECKING:
    from evorec.models.inputs import InputShape
    from evorec.models.spec import ModelSpec


@final
@dataclass(frozen=True)
class _Stage:
    """Experts of one or more layers, then the mixtures that end them.

    Attributes:
        layers: the experts' layers from the bottom up.
        gates: gates of the tasks, then that of the shared stream if there is one.
        reads: experts that each mixture reads, in the order of its gate.
        learns: experts among them that learn from the mixture.
    """

    layers: tuple[Slots, ...]
    gates: tuple[Slots, ...]
    reads: Reads
    learns: Reads

    @property
    def top(self) -> int:
        """The last layer."""
        return self.layers[-1].level


@final
class Experts(Mechanism):
    """Experts under the towers: mmoe, cgc, ple and stem.

    mmoe: K experts for all, every gate sees them all. cgc: experts of each task and shared ones; a task's gate sees
    its own and the shared. ple: cgc once per level; every level but the last also mixes all experts into the stream
    that the next level's shared experts read. stem: task embeddings, gates see all experts, but a task's experts
    learn only through their own task's gate.

    Source: Ma et al., KDD 2018 (mmoe); Tang et al., RecSys 2020 (cgc, ple); Su et al., AAAI 2024 (stem).
    """

    def __init__(self, specs: Sequence[ModelSpec], shape: InputShape) -> None:
        super().__init__(specs, shape)
        spec = specs[0]
        depth, n_tasks = spec.sharing_depth, shape.n_tasks
        each = [(task, e) for task in range(n_tasks) for e in range(spec.n_task_experts)]
        self._experts = [*each, *((SHARED, e) for e in range(spec.n_shared_experts))]
        by_level = spec.mechanism == "ple"
        levels = [range(level, level + 1) for level in range(depth)] if by_level else [range(depth)]
        self._stages = [self._stage(level) for level in levels]
        self._towers = [task_slots(self, level) for level in range(depth, shape.n_layers)]
        layers = [layer for stage in self._stages for layer in stage.layers] + self._towers
        self.tensors: tuple[DenseTensor, ...] = (
            *(tensor for layer in layers for tensor in layer.hidden()),
            *(gate.weight() for stage in self._stages for gate in stage.gates),
            *heads(specs, tuple(range(n_tasks)) * len(specs)),
        )

    def logits(
        self,
        x: Tensor,
        dense: Mapping[str, Tensor],
        rates: Sequence[float],
        uniforms: Drop | None,
        *,
        keep: bool = False,
    ) -> Tensor:
        run = Pass(dense, rates, uniforms, keep)
        streams = x.flatten(0, 1)
        for stage in self._stages:
            experts, gates = self._run(run, stage, streams)
            streams = mixture(experts, gates, stage.reads, stage.learns).flatten(0, 1)
        for tower in self._towers:
            streams = run.layer(tower, streams)
        return run.logits(streams, tuple(range(streams.shape[0])))

    def mixes(self, x: Tensor, dense: Mapping[str, Tensor]) -> tuple[Mix, ...]:
        run, streams, out = Pass(dense, (0.0,) * len(self.specs)), x.flatten(0, 1), []
        readers = (*range(self.shape.n_tasks), SHARED)
        for stage in self._stages:
            experts, gates = self._run(run, stage, streams)
            shares = [column for gate in gates for column in gate.unbind(1)]
            for reader, read, share in zip(readers, stage.reads, shares, strict=False):  # the last has no SHARED
                out.append(Mix(stage.top, reader, tuple(self._experts[i] for i in read), share))
            streams = mixture(experts, gates, stage.reads, stage.learns).flatten(0, 1)
        return tuple(out)

    def _run(self, run: Pass, stage: _Stage, streams: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Experts ``[P, K, B, W]`` of a stage and the shares of its gates (`mixture`)."""
        experts = streams
        for layer in stage.layers:
            experts = run.layer(layer, experts)
        gates = [run.gate(gate, streams) for gate in stage.gates]
        return experts.view(len(self.specs), -1, *experts.shape[1:]), gates

    def mixing_macs(self) -> int:
        terms = sum(len(read) for stage in self._stages for read in stage.reads)
        return len(self.specs) * terms * self.specs[0].width

    def _stage(self, levels: range) -> _Stage:
        depth = self.specs[0].sharing_depth
        to_last = depth - levels.stop  # 0 in the last stage
        layers = tuple(self._layer(level, first=level == levels[0], specific=to_last == 0) for level in levels)
        tasks = tuple(range(self.shape.n_tasks))
        everyone = tuple(range(len(self._experts)))
        seen = tuple(self._of(task) for task in tasks)
        wide = self.specs[0].mechanism == "stem"
        reads = (everyone,) * len(tasks) if wide else seen
        # a stream that the next shared gate does not see reaches its own task's loss alone
        gates = (self._gate("gate", GATE, levels, tasks, len(reads[0]), specific=to_last <= 1),)
        if to_last:
            shared = self._gate("shared_gate", SHARED_GATE, levels, (SHARED,), len(everyone), specific=False)
            return _Stage(layers, (*gates, shared), (*reads, everyone), (*seen, everyone))
        return _Stage(layers, gates, reads, seen)

    def _of(self, task: int) -> tuple[int, ...]:
        """The task's own experts and the shared ones."""
        return tuple(i for i, (owner, _) in enumerate(self._experts) if owner in (task, SHARED))

    def _stream(self, member: int, task: int, level: int) -> int:
        """Position of the vector that a task's experts and gate read at the bottom of a stage."""
        if level == 0:
            return self.group(member, task)
        return member * (self.shape.n_tasks + 1) + (self.shape.n_tasks if task == SHARED else task)

    def _layer(self, level: int, *, first: bool, specific: bool) -> Slots:
        units = [(member, *expert) for member in range(len(self.specs)) for expert in self._experts]
        source = [self._stream(member, task, level) for member, task, _ in units] if first else range(len(units))
        return Slots(
            name=f"layer{level}",
            size=(self._width(level), self.specs[0].width),
            member=tuple(member for member, _, _ in units),
            task=tuple(task if specific else SHARED for _, task, _ in units),
            key=tuple(role(level, task, EXPERT, e) for _, task, e in units),
            source=tuple(source),
            level=level,
        )

    def _gate(
        self, name: str, purpose: int, levels: range, tasks: tuple[int, ...], n_experts: int, *, specific: bool
    ) -> Slots:
        units = [(member, task) for member in range(len(self.specs)) for task in tasks]
        top = levels[-1]
        return Slots(
            name=f"{name}{top}",
            size=(self._width(levels[0]), n_experts),
            member=tuple(member for member, _ in units),
            task=tuple(task if specific else SHARED for _, task in units),
            key=tuple(role(top, task, purpose) for _, task in units),
            source=tuple(self._stream(member, task, levels[0]) for member, task in units),
        )

    def _width(self, level: int) -> int:
        """Inputs of a layer."""
        return self.shape.layer_inputs(self.specs[0].embedding_dim, self.specs[0].width)[level]
