"""How tasks share: the mechanisms by name, from plain towers to gated experts.

A mechanism turns the ranker's input into one logit per task, for all members of a block in one program, and says which
parameters that takes, which of them one task's loss alone reaches, and what a row costs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor

from evorec.errors import ConfigError
from evorec.models.experts import Experts
from evorec.models.layers import SHARED, Drop, head_slots, slot_layer, slot_layers, slot_linear
from evorec.models.mechanism import (
    INFO,
    KEY,
    QUERY,
    STITCH,
    VALUE,
    DenseTensor,
    Mechanism,
    Mix,
    Pass,
    Slots,
    attention,
    attention_shares,
    heads,
    pick,
    role,
    task_slots,
)
from evorec.models.spec import FUNNEL_MECHANISMS

if TYPE_CHECKING:
    from evorec.models.inputs import InputShape
    from evorec.models.spec import ModelSpec

__all__ = [
    "MECHANISMS",
    "DenseTensor",
    "Mechanism",
    "forward_macs",
    "mechanism_for",
    "n_dense_parameters",
    "values_per_row",
]

OWN_STITCH = 0.9
"""First weight of a task's own unit in a cross-stitch; the others share the rest."""
LIKELIEST = 0.99
"""Highest first probability of a funnel step given the step before."""


@final
class Towers(Mechanism):
    """Shared layers, then one tower per task: single_task, shared_bottom and esmm, of any depths.

    esmm multiplies the probabilities along the funnel: p(purchase) = p(click) p(purchase | click).

    Source: Caruana 1997; Ma et al., SIGIR 2018 (esmm).
    """

    def __init__(self, specs: Sequence[ModelSpec], shape: InputShape) -> None:
        super().__init__(specs, shape)
        self._layers, self._tops = _trunk(self)
        self._funnels = tuple(i for i, spec in enumerate(specs) if spec.mechanism == "esmm")
        self._waves = funnel_waves(shape.parents) if self._funnels else ()
        tags = [_tag(spec, shape, task) for spec in specs for task in range(shape.n_tasks)]
        self.tensors = (*(tensor for layer in self._layers for tensor in layer.hidden()), *heads(specs, tags))

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
        own = run.logits(_climb(run, self._layers, x), self._tops)
        if not self._funnels:
            return own
        funnels = self._products(pick(own, self._funnels))
        if len(self._funnels) == len(self.specs):
            return funnels
        at = {member: len(self.specs) + i for i, member in enumerate(self._funnels)}
        return pick(torch.cat([own, funnels]), tuple(at.get(member, member) for member in range(len(self.specs))))

    def mixing_macs(self) -> int:
        return 0

    def initial_bias(self, base_logits: Sequence[float]) -> np.ndarray:
        out = super().initial_bias(base_logits)
        rates = 1 / (1 + np.exp(-out[0]))
        for task, parent in enumerate(self.shape.parents):
            if parent >= 0:
                given_parent = min(float(rates[task] / rates[parent]), LIKELIEST)
                out[list(self._funnels), task] = np.log(given_parent / (1 - given_parent))
        return out

    def _products(self, own: Tensor) -> Tensor:
        """Log-odds of the product of the probabilities up the funnel, ``[P, T, B] -> [P, T, B]``.

        With odds against, (1 - p) / p = exp(-z), a product is 1 + exp(-z) = (1 + exp(-a)) (1 + exp(-b)): no
        difference of near numbers, and never above its parent.
        """
        rows = list(own.unbind(1))
        for wave in self._waves[1:]:
            for task in wave:
                above, given = -rows[self.shape.parents[task]], -rows[task]
                rows[task] = -torch.logsumexp(torch.stack([above, given, above + given]), 0)
        return torch.stack(rows, 1)


@final
class Aitm(Mechanism):
    """Towers whose top vectors are handed down the funnel and mixed in by attention over the two.

    Source: Xi et al., KDD 2021 (adaptive information transfer multi-task).
    """

    def __init__(self, specs: Sequence[ModelSpec], shape: InputShape) -> None:
        super().__init__(specs, shape)
        self._layers, self._tops = _trunk(self)
        self._waves = funnel_waves(shape.parents)
        self._children = tuple(task for task, parent in enumerate(shape.parents) if parent >= 0)
        info, *attention = [
            self._slots(name, kind) for name, kind in (("info", INFO), ("query", QUERY), ("key", KEY), ("value", VALUE))
        ]
        self.tensors = (
            *(tensor for layer in self._layers for tensor in layer.hidden()),
            *info.hidden(),
            *(slots.weight(uses=2) for slots in attention),  # both candidates
            *heads(specs, tuple(range(shape.n_tasks)) * len(specs)),
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
        own = _climb(run, self._layers, x)
        above, source, out = own, self._own(self._waves[0]), []
        for i, wave in enumerate(self._waves):
            if i > 0:
                above = attention(self._candidates(run, wave, own, above, self._above(i)))
                source = tuple(range(above.shape[0]))
            out.append(run.logits(above, source, self._pairs(tuple(range(self.shape.n_tasks)), wave)))
        order = [task for wave in self._waves for task in wave]
        back = tuple(order.index(task) for task in range(self.shape.n_tasks))
        return pick(torch.cat(out, 1).transpose(0, 1), back).transpose(0, 1).contiguous()

    def mixes(self, x: Tensor, dense: Mapping[str, Tensor]) -> tuple[Mix, ...]:
        run, out = Pass(dense, (0.0,) * len(self.specs)), []
        above = own = _climb(run, self._layers, x)
        for i, wave in enumerate(self._waves[1:], start=1):
            candidates = self._candidates(run, wave, own, above, self._above(i))
            shares = attention_shares(candidates)
            for task, share in zip(wave, shares.view(len(self.specs), len(wave), *shares.shape[1:]).unbind(1),
                                   strict=True):  # fmt: skip
                out.append(Mix(self.shape.n_layers - 1, task, ((task, 0), (self.shape.parents[task], 0)), share))
            above = attention(candidates)
        return tuple(out)

    def extra_loss(self, logits: Tensor) -> Tensor | None:
        """Calibrator: mean probability by which a funnel step exceeds the step before, ``[P, T, B] -> [P]``."""
        weights = tuple(spec.calibrator_weight for spec in self.specs)
        if not any(weights):
            return None
        p = sigmoid(logits).unbind(1)
        excess = torch.stack([p[task] - p[self.shape.parents[task]] for task in self._children], 1)
        return excess.clamp_min(0).mean(2).sum(1) * _vector(weights, logits.dtype, logits.device)

    def mixing_macs(self) -> int:
        return 4 * self.specs[0].width * len(self._children) * len(self.specs)  # two scores and a sum of two

    def _candidates(
        self, run: Pass, wave: tuple[int, ...], own: Tensor, above: Tensor, source: tuple[int, ...]
    ) -> list[Tensor]:
        """What `attention` mixes for the wave's tasks: their own and that of the wave above, ``[P * n, B, 3 W]``."""
        slots = self._pairs(self._children, wave)
        weight, bias = (pick(run.tensor(f"info.{part}", own), slots) for part in ("weight", "bias"))
        info = slot_layer(above, source, weight, bias, None, None, keep=run.keep)
        maps = torch.cat([pick(run.tensor(f"{name}.weight", own), slots) for name in ("query", "key", "value")], 2)
        mine = slot_linear(own, self._own(wave), maps, None)
        return [mine, slot_linear(info, tuple(range(info.shape[0])), maps, None)]

    def _slots(self, name: str, kind: int) -> Slots:
        units = [(member, task) for member in range(len(self.specs)) for task in self._children]
        width, level = self.specs[0].width, self.shape.n_layers
        return Slots(
            name=name,
            size=(width, width),
            member=tuple(member for member, _ in units),
            task=tuple(_tag(self.specs[member], self.shape, task) for member, task in units),
            key=tuple(role(level, task, kind) for _, task in units),
            source=tuple(range(len(units))),
        )

    def _pairs(self, among: tuple[int, ...], wave: tuple[int, ...]) -> tuple[int, ...]:
        """Slots of the wave's tasks in a tensor with a slot per member and task of `among`."""
        return tuple(m * len(among) + among.index(task) for m in range(len(self.specs)) for task in wave)

    def _own(self, wave: tuple[int, ...]) -> tuple[int, ...]:
        """Top slots of the trunk that feed the wave's tasks."""
        return tuple(self._tops[i] for i in self._pairs(tuple(range(self.shape.n_tasks)), wave))

    def _above(self, i: int) -> tuple[int, ...]:
        """Slots of the parents of wave i among the vectors of the wave before."""
        parents = tuple(self.shape.parents[task] for task in self._waves[i])
        return self._own(parents) if i == 1 else self._pairs(self._waves[i - 1], parents)


@final
class CrossStitch(Mechanism):
    """One unit per task at every level; after each of the first d, units are linear blends of all units.

    Source: Misra et al., CVPR 2016.
    """

    def __init__(self, specs: Sequence[ModelSpec], shape: InputShape) -> None:
        super().__init__(specs, shape)
        self._depth = specs[0].sharing_depth
        levels = range(shape.n_layers)
        self._layers = [task_slots(self, level, specific=level >= self._depth) for level in levels]
        self.tensors = (
            *(tensor for layer in self._layers for tensor in layer.hidden()),
            *(self._stitch(level) for level in range(self._depth)),
            *heads(specs, tuple(range(shape.n_tasks)) * len(specs)),
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
        members, n_tasks = len(self.specs), self.shape.n_tasks
        units = x.flatten(0, 1)
        for level, layer in enumerate(self._layers):
            units = run.layer(layer, units)
            if level < self._depth:  # [T, T] @ [T, B * W] for each member
                stitch, flat = run.tensor(f"stitch{level}.weight", x), units.reshape(members, n_tasks, -1)
                units = slot_linear(stitch, tuple(range(members)), flat, None).view(units.shape)
        return run.logits(units, tuple(range(members * n_tasks)))

    def mixes(self, x: Tensor, dense: Mapping[str, Tensor]) -> tuple[Mix, ...]:
        sources = tuple((task, 0) for task in range(self.shape.n_tasks))
        out = []
        for level in range(self._depth):
            weights = dense[f"stitch{level}.weight"].abs()
            shares = weights / weights.sum(2, keepdim=True)
            out += [Mix(level, task, sources, shares[:, task, :, None]) for task, _ in sources]
        return tuple(out)

    def mixing_macs(self) -> int:
        return 0

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


MECHANISMS: Mapping[str, type[Mechanism]] = MappingProxyType(
    {
        "single_task": Towers,
        "shared_bottom": Towers,
        "esmm": Towers,
        "aitm": Aitm,
        "cross_stitch": CrossStitch,
        "mmoe": Experts,
        "cgc": Experts,
        "ple": Experts,
        "stem": Experts,
    }
)
"""The program of each mechanism."""


def mechanism_for(specs: Sequence[ModelSpec], shape: InputShape) -> Mechanism:
    """The program of one block.

    Args:
        specs: members of equal `ModelSpec.block_key`, at least one.
        shape: sizes fixed by the data.
    Raises:
        ConfigError: the members do not fit together, or a mechanism does not fit its settings or the data.
    """
    faults = [f"{spec.mechanism}: {fault}" for spec in specs for fault in _faults(spec, shape)]
    if faults:
        raise ConfigError("\n".join(dict.fromkeys(faults)))
    if len({spec.block_key for spec in specs}) != 1:
        raise ConfigError(f"a block needs members of one block_key, got {[spec.block_key for spec in specs]}")
    return MECHANISMS[specs[0].mechanism](specs, shape)


def forward_macs(spec: ModelSpec, shape: InputShape) -> int:
    """Multiply-adds of one row through one member's ranker: layers, gates, mixtures, transfers and heads."""
    alone = _alone(spec, shape)
    return sum(tensor.n_entries * tensor.uses for tensor in alone.tensors) + alone.mixing_macs()


def values_per_row(spec: ModelSpec, shape: InputShape) -> int:
    """Activations that one row of the ranker keeps for the way back: its inputs and what every slot gives."""
    mechanism = _alone(spec, shape)
    outputs = sum(t.n_slots * t.shape[-1] for t in mechanism.tensors if t.name.endswith("weight"))
    return mechanism.n_groups * shape.n_inputs(spec.embedding_dim) + outputs


def n_dense_parameters(spec: ModelSpec, shape: InputShape) -> int:
    """Dense parameters of one member's ranker, without the content projection."""
    return sum(tensor.n_entries for tensor in _alone(spec, shape).tensors)


def _alone(spec: ModelSpec, shape: InputShape) -> Mechanism:
    """The mechanism of one member, which does not depend on the blocks of its input."""
    plain = replace(shape, n_rows=0, n_content=0, blocks=())
    return _built(replace(spec, off=(), ranks=(), pretrained=False), plain)


@lru_cache(maxsize=256)
def _built(spec: ModelSpec, shape: InputShape) -> Mechanism:
    return mechanism_for([spec], shape)


def _faults(spec: ModelSpec, shape: InputShape) -> Iterator[str]:
    if spec.mechanism not in MECHANISMS:
        yield f"unknown mechanism; expected one of {', '.join(MECHANISMS)}"
        return
    experts = MECHANISMS[spec.mechanism] is Experts
    lowest = 1 if experts else 0
    highest = 0 if spec.mechanism == "single_task" else shape.n_layers
    if not lowest <= spec.sharing_depth <= highest:
        yield f"sharing_depth must be in {lowest}..{highest}, got {spec.sharing_depth}"
    if experts and spec.n_shared_experts < 1:
        yield f"n_shared_experts must be at least 1, got {spec.n_shared_experts}"
    fewest = int(spec.mechanism in ("cgc", "ple", "stem"))
    if experts and (spec.n_task_experts < fewest or (not fewest and spec.n_task_experts)):
        yield f"n_task_experts must be {'at least 1' if fewest else '0'}, got {spec.n_task_experts}"
    if spec.mechanism in ("single_task", "stem") and not spec.task_embeddings:
        yield "task_embeddings must be true: its tasks have embedding tables of their own"
    if spec.mechanism in FUNNEL_MECHANISMS and all(parent < 0 for parent in shape.parents):
        yield "needs a funnel, but no task has a parent; name the parent of a task or leave the mechanism out"


def funnel_waves(parents: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Tasks by their distance from the start of their funnel.

    Args:
        parents: parent task of each task or -1, ``(T,)``.
    Raises:
        ConfigError: a parent is no task, or the parents run in a circle.
    Example:
        >>> funnel_waves([-1, 0, 1, 0])
        ((0,), (1, 3), (2,))
    """
    waves = [tuple(task for task, parent in enumerate(parents) if parent == -1)]
    while sum(map(len, waves)) < len(parents):
        waves.append(tuple(task for task, parent in enumerate(parents) if parent in waves[-1]))
        if not waves[-1]:
            raise ConfigError(f"parents must be tasks 0..{len(parents) - 1} or -1, without a circle, got {parents}")
    return tuple(waves)


def sigmoid(x: Tensor) -> Tensor:
    """Sigmoid whose bits do not depend on where in memory a number stands, as `torch.sigmoid`'s do on a CPU."""
    out: Tensor = _Sigmoid.apply(x)  # type: ignore[no-untyped-call]
    return out


@final
class _Sigmoid(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = torch.exp(-x).add_(1).reciprocal_()
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        out: Tensor
        (out,) = ctx.saved_tensors
        return grad * out * (1 - out)


def _trunk(mechanism: Mechanism) -> tuple[list[Slots], tuple[int, ...]]:
    """Layers of members of any depths, and the slot of the last layer that feeds each member and task."""
    specs, shape = mechanism.specs, mechanism.shape
    levels = slot_layers([spec.sharing_depth for spec in specs], shape.n_tasks, shape.n_layers)
    layers = []
    for level, (layer, n_in) in enumerate(
        zip(levels, shape.layer_inputs(specs[0].embedding_dim, specs[0].width), strict=True)
    ):
        units = list(zip(layer.member, layer.task, strict=True))
        slots = Slots(
            name=f"layer{level}",
            size=(n_in, specs[0].width),
            member=layer.member,
            task=tuple(_tag(specs[member], shape, task) for member, task in units),
            key=tuple(role(level, task) for _, task in units),
            source=layer.source if level else tuple(mechanism.group(*unit) for unit in units),
            level=level,
        )
        layers.append(slots)
    return layers, head_slots(levels[-1], len(specs), shape.n_tasks)


def _climb(run: Pass, layers: Sequence[Slots], x: Tensor) -> Tensor:
    """Top vectors ``[S, B, W]`` of the layers over the ranker input ``[P, G, B, n_in]``."""
    x = x.flatten(0, 1)
    for layer in layers:
        x = run.layer(layer, x)
    return x


@lru_cache(maxsize=256)
def _vector(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The numbers on the device, copied once: every copy waits for it."""
    return torch.tensor(values, dtype=dtype, device=device)


def _tag(spec: ModelSpec, shape: InputShape, task: int) -> int:
    """The task, or `SHARED` where later funnel steps' losses reach its tower too."""
    return SHARED if spec.mechanism in FUNNEL_MECHANISMS and task in shape.parents else task
