"""Adaptive information transfer: top vectors are passed down the funnel and mixed in by attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

from evorec.models.choice import MECHANISMS, log_gene
from evorec.models.input_shape import InputShape
from evorec.models.mechanism import Mechanism, Network
from evorec.models.mechanism_genes import TASK_EMBEDDINGS, sharing_depth
from evorec.models.mechanisms.shared_bottom import trunk_levels, trunk_text
from evorec.models.slots import INFO, KEY, QUERY, SHARED, VALUE, DenseTensor, Level, Mix, Slots, funnel_waves, role
from evorec.models.spec import ModelSpec
from evorec.space.genes import Gene

if TYPE_CHECKING:
    from torch import Tensor

    from evorec.models.forward import ForwardPass


@final
class Aitm(Mechanism):
    """A shared bottom whose towers pass vectors down the funnel; a calibrator penalizes a rising funnel.

    Source: Xi et al., "Modeling the sequential dependence among audience multi-step conversions with multi-task
    learning in targeted display advertising", KDD 2021.
    """

    name, order = "aitm", 8
    is_ragged = True
    needs_funnel = True
    trunk_reads_input = True
    pads_exactly = False  # its attention is scaled by the width

    def genes(self, n_layers: int) -> Sequence[Gene]:
        text = "penalty where a later step of the funnel is likelier"
        return sharing_depth(n_layers), TASK_EMBEDDINGS, log_gene("calibrator_weight", 0.03, 3.0, 0.6, text)

    def levels(self, spec: ModelSpec, shape: InputShape) -> Sequence[Level]:
        return trunk_levels(spec, shape, dict.fromkeys(shape.parents, SHARED))

    def network(self, specs: Sequence[ModelSpec], shape: InputShape) -> Network:
        return AitmNetwork(specs, shape)

    def extra_loss(self, logits: Tensor, specs: Sequence[ModelSpec], shape: InputShape) -> Tensor | None:
        """Calibrator: mean probability by which a funnel step exceeds the step before, ``[P, T, B] -> [P]``."""
        import torch

        from evorec.models.forward import sigmoid, vector

        weights = tuple(float(spec.setting("calibrator_weight")) for spec in specs)
        if not any(weights):
            return None
        p = sigmoid(logits).unbind(1)
        children = [(task, parent) for task, parent in enumerate(shape.parents) if parent >= 0]
        excess = torch.stack([p[task] - p[parent] for task, parent in children], 1)
        return excess.clamp_min(0).mean(2).sum(1) * vector(weights, logits.dtype, logits.device)

    def describe(self, spec: ModelSpec) -> str:
        weight = spec.setting("calibrator_weight")
        penalty = f" A penalty of weight {weight:.3g} keeps it from being the likelier one." if weight else ""
        return (
            f"{trunk_text(spec)}. Each later step of the funnel is handed what the step before it has found, and weighs"
            f" it against its own row by row (AITM).{penalty}"
        )


@final
class AitmNetwork(Network):
    """Towers with a transfer: each task attends to its own top vector and to the information of its parent's."""

    def further_tensors(self) -> Sequence[DenseTensor]:
        self._waves = funnel_waves(self.shape.parents)
        self._children = tuple(task for task, parent in enumerate(self.shape.parents) if parent >= 0)
        info, *attention = [
            self._slots(name, kind) for name, kind in (("info", INFO), ("query", QUERY), ("key", KEY), ("value", VALUE))
        ]
        return *info.hidden(), *(slots.weight(uses=2) for slots in attention)  # both candidates

    def top_logits(self, run: ForwardPass, vectors: Tensor, mixes: list[Mix] | None = None) -> Tensor:
        import torch

        from evorec.models.forward import attention, attention_shares

        above, source, out = vectors, self._own(self._waves[0]), []
        for i, wave in enumerate(self._waves):
            if i > 0:
                candidates = self._candidates(run, wave, vectors, above, self._above(i))
                if mixes is not None:
                    shares = attention_shares(candidates)
                    shares = shares.view(len(self.specs), len(wave), *shares.shape[1:])
                    for task, share in zip(wave, shares.unbind(1), strict=True):
                        sources = ((task, 0), (self.shape.parents[task], 0))
                        mixes.append(Mix(self.shape.n_layers - 1, task, sources, share))
                above = attention(candidates)
                source = tuple(range(above.shape[0]))
            out.append(run.heads(above, source, self._pairs(tuple(range(self.shape.n_tasks)), wave)))
        # Heads come out wave by wave; the index puts the tasks back in order.
        order = [task for wave in self._waves for task in wave]
        back = tuple(order.index(task) for task in range(self.shape.n_tasks))
        return run.pick(torch.cat(out, 1).transpose(0, 1), back).transpose(0, 1).contiguous()

    def mixing_macs(self) -> int:
        return 4 * self.specs[0].width * len(self._children) * len(self.specs)  # two scores and a sum of two

    def _candidates(
        self, run: ForwardPass, wave: tuple[int, ...], own: Tensor, above: Tensor, source: tuple[int, ...]
    ) -> list[Tensor]:
        """Candidates of `attention` for the wave's tasks: their own vector and the parent's, ``[P * n, B, 3 W]``."""
        import torch

        from evorec.models.layers import slot_layer, slot_linear

        slots = self._pairs(self._children, wave)
        weight, bias = (run.pick(run.tensor(f"info.{part}", own), slots) for part in ("weight", "bias"))
        info = slot_layer(above, source, weight, bias, None, None, keep=run.keep)
        # A single product for query, key and value, which read the same vector.
        maps = torch.cat([run.pick(run.tensor(f"{name}.weight", own), slots) for name in ("query", "key", "value")], 2)
        mine = slot_linear(own, self._own(wave), maps, None)
        return [mine, slot_linear(info, tuple(range(info.shape[0])), maps, None)]

    def _slots(self, name: str, kind: int) -> Slots:
        units = [(member, task) for member in range(len(self.specs)) for task in self._children]
        width, level, parents = self.specs[0].width, self.shape.n_layers, self.shape.parents
        return Slots(
            name=name,
            size=(width, width),
            member=tuple(member for member, _ in units),
            # The losses of later steps reach the transfers of all steps before them.
            task=tuple(SHARED if task in parents else task for _, task in units),
            key=tuple(role(level, task, kind) for _, task in units),
            source=tuple(range(len(units))),
        )

    def _pairs(self, among: tuple[int, ...], wave: tuple[int, ...]) -> tuple[int, ...]:
        """Slots of the wave's tasks in a tensor with a slot per member and task of `among`."""
        return tuple(m * len(among) + among.index(task) for m in range(len(self.specs)) for task in wave)

    def _own(self, wave: tuple[int, ...]) -> tuple[int, ...]:
        """Top slots of the trunk that feed the wave's tasks."""
        return tuple(self.tops[i] for i in self._pairs(tuple(range(self.shape.n_tasks)), wave))

    def _above(self, i: int) -> tuple[int, ...]:
        """Slots of the parents of wave i among the vectors of the wave before."""
        parents = tuple(self.shape.parents[task] for task in self._waves[i])
        return self._own(parents) if i == 1 else self._pairs(self._waves[i - 1], parents)


MECHANISMS.register(Aitm.name, Aitm())
