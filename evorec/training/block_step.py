"""One step of one block: from entity vectors to losses, and back to gradients of vectors and dense parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from evorec.models.balancing import Balancer, Coefs
from evorec.models.inputs import INPUT, RowIndex, ranker_input
from evorec.models.layers import SHARED, Drop
from evorec.models.losses import retrieval_loss, task_losses
from evorec.models.mechanism import DenseTensor
from evorec.models.population import NORM_FLOOR, Block
from evorec.training.plan import Step


@final
@dataclass(frozen=True)
class Vectors:
    """Weighted sums of the step's embedding rows for everybody, or their gradients; one ``[m, C]`` per table.

    Attributes:
        users, items, contexts: of the unique entities, items without their content.
        history: ``[Br, C]`` of the first table.
    """

    users: tuple[Tensor, ...]
    items: tuple[Tensor, ...]
    contexts: tuple[Tensor, ...]
    history: Tensor

    @classmethod
    def of(cls, step: Step, rows: Sequence[Tensor]) -> Vectors:
        """From the step's rows of each table, ``[n, C]``."""
        users, items, contexts = (
            tuple(bag.of(part) for part in rows) for bag in (step.users, step.items, step.contexts)
        )
        return cls(users, items, contexts, step.history.of(rows[0]))

    def empty_like(self) -> Vectors:
        """Room for gradients."""
        users, items, contexts = (
            tuple(torch.empty_like(t) for t in part) for part in (self.users, self.items, self.contexts)
        )
        return Vectors(users, items, contexts, torch.empty_like(self.history))

    def to_rows(self, step: Step) -> list[Tensor]:
        """Gradients of the step's rows of each table from gradients of the sums."""
        out = [step.back.of(torch.cat(parts)) for parts in zip(self.users, self.items, self.contexts, strict=True)]
        out[0] += step.history_back.of(self.history)
        return out


@final
class BlockStep:
    """Losses and gradients of a block.

    Args:
        block: its members.
        balancer: of the same members.
        compute: dense parameters that the layers read, by name; leaves of the graph.
        dtype: of the activations.
    """

    def __init__(self, block: Block, balancer: Balancer, compute: Mapping[str, Tensor], *, dtype: torch.dtype) -> None:
        self._block, self._balancer, self._dtype = block, balancer, dtype
        self._dense = {name: tensor.requires_grad_() for name, tensor in compute.items()}
        like = block.rates
        self._retrieval = torch.tensor([s.retrieval_weight for s in block.specs], dtype=like.dtype, device=like.device)
        self._history_weight = like.new_tensor([s.history_weight for s in block.specs])[:, None]
        self._temperature = like.new_tensor([s.temperature for s in block.specs])[:, None]
        self._drops = any(spec.dropout > 0 for spec in block.specs)

    def run(self, step: Step, number: int, vectors: Vectors, drop: Drop, into: Vectors, dense: Tensor) -> Tensor:
        """Gradients of 1-based step `number`.

        Args:
            vectors: of all members.
            drop: dropout draws of the step.
            into: takes the gradients of `vectors` in the block's columns.
            dense: flat buffer that takes the gradients of the block's dense parameters.
        Returns:
            Loss of each member, ``[P_b]``.
        """
        block, keep = self._block, self._balancer.needs_gradients
        leaves = [block.by_group(part).contiguous() for part in (vectors.users, vectors.items, vectors.contexts)]
        past = vectors.history[:, block.columns[0]].reshape(-1, block.size, block.dim)
        with torch.enable_grad():
            for leaf in (*leaves, past):
                leaf.requires_grad_()
            per_task, rest = self._losses(step, leaves, past, drop if self._drops else None, keep)
            sources = [*leaves, past, *self._dense.values()]
            detached = per_task.detach()
            if keep:
                by_task = [_gradients(loss.sum(), sources, retain=True) for loss in per_task.unbind(1)]
                others = _gradients(rest.sum(), sources)
                gram = self._gram(step, by_task)
                coefs = self._balancer.from_gradients(number, detached, gram, step.has_label)
                grads: Sequence[Tensor] = self._combined(by_task, others, coefs)
            else:
                coefs = self._balancer.weights(number, detached, step.has_label)
                grads = _gradients(((per_task * coefs.shared).sum(1) + rest).sum(), sources)
        self._store(grads, into, dense)
        return (detached * coefs.shared).sum(1) + rest.detach()

    def _losses(
        self, step: Step, leaves: Sequence[Tensor], past: Tensor, drop: Drop | None, keep: bool
    ) -> tuple[Tensor, Tensor]:
        """Task losses ``[P_b, T]``, and the loss of retrieval and of the mechanism itself ``[P_b]``."""
        block, b = self._block, step.batch_size
        users, contexts = leaves[0], leaves[2]
        items = block.with_content(leaves[1], step.content, self._dense)
        index = RowIndex(step.user_of[:b], step.item_of[:b], step.context_of, step.statistics)
        n_inputs = block.shape.n_inputs(block.dim)
        uniform = None if drop is None else drop(INPUT, b, n_inputs)
        x = ranker_input(users, items, contexts, index, block.rates, uniform, dtype=self._dtype, keep=keep)
        logits = block.mechanism.logits(x, self._dense, block.rates, drop, keep=keep)
        per_task = task_losses(logits, step.labels, step.labelled, step.n_labelled)
        rest = self._retrieval * self._retrieval_losses(step, users[:, :, 0], items[:, :, 0], past)
        extra = block.mechanism.extra_loss(logits)
        return per_task, rest if extra is None else rest + extra

    def _retrieval_losses(self, step: Step, users: Tensor, items: Tensor, past: Tensor) -> Tensor:
        b = step.batch_size
        asking = users.index_select(0, step.user_of[b:]) + self._history_weight * past
        uniform = items.index_select(0, step.uniform_of) if len(step.uniform_of) else None
        return retrieval_loss(
            _unit(asking),
            _unit(items.index_select(0, step.item_of[b:]), self._temperature),
            None if uniform is None else _unit(uniform, self._temperature),
            step.no_negative.matrix(),
            None if uniform is None else step.no_uniform.matrix(),
            self._block.specs,
            self._block.shape.n_items,
        )

    def _gram(self, step: Step, by_task: Sequence[Sequence[Tensor]]) -> Tensor:
        """Products of the tasks' gradients on the shared parameters, ``[P_b, T, T]``."""
        block = self._block
        rows = [step.back.of(torch.cat([g[:, :, 0].flatten(1) for g in grads[:3]])) for grads in by_task]
        parts: list[list[Sequence[Tensor]]] = [
            [list(r.view(-1, block.size, block.dim).transpose(0, 1).flatten(1)) for r in rows]
        ]
        for i, placed in enumerate(block.placed):
            if SHARED in placed.tensor.task:
                parts.append([_shared_slots(grads[4 + i].to(rows[0].dtype), placed.tensor) for grads in by_task])
        grams = []
        for member in range(block.size):
            stacked = [torch.cat([part[t][member].flatten() for part in parts]) for t in range(len(by_task))]
            matrix = torch.stack(stacked)
            grams.append(matrix @ matrix.T)
        return torch.stack(grams)

    def _combined(self, by_task: Sequence[Sequence[Tensor]], others: Sequence[Tensor], coefs: Coefs) -> list[Tensor]:
        """Gradients of all sources: tasks balanced on the shared parameters, weighted on their own."""
        groups = by_task[0][0].shape[2]
        placed = self._block.placed
        out = []
        for i, rest in enumerate(others):
            total = rest
            for t, grads in enumerate(by_task):
                shared, own = coefs.shared[:, t], coefs.specific[:, t]
                if i < 3:  # [m, P_b, G, E]: group 0 is the shared table
                    factor = torch.stack([shared, *[own] * (groups - 1)], 1)[None, :, :, None]
                elif i == 3:
                    factor = shared[None, :, None]
                else:
                    tensor = placed[i - 4].tensor
                    factor = torch.stack(
                        [
                            (shared if task == SHARED else own)[m]
                            for m, task in zip(tensor.member, tensor.task, strict=True)
                        ]
                    ).view(-1, *[1] * (rest.dim() - 1))
                total = total + grads[i] * factor
            out.append(total)
        return out

    def _store(self, grads: Sequence[Tensor], into: Vectors, dense: Tensor) -> None:
        block = self._block
        for grad, parts in zip(grads, (into.users, into.items, into.contexts), strict=False):
            for part, columns, groups in zip(parts, block.columns, (slice(0, 1), slice(1, None)), strict=False):
                part[:, columns].copy_(grad[:, :, groups].flatten(1))
        into.history[:, block.columns[0]] = grads[3].flatten(1)
        for placed, grad in zip(block.placed, grads[4:], strict=True):
            placed.view(dense).copy_(grad)


def _shared_slots(grad: Tensor, tensor: DenseTensor) -> list[Tensor]:
    """Gradient of each member's shared slots, flat."""
    members = range(max(tensor.member) + 1)
    return [
        grad[
            [s for s, (m, t) in enumerate(zip(tensor.member, tensor.task, strict=True)) if m == member and t == SHARED]
        ]
        for member in members
    ]


def _unit(rows: Tensor, divisor: Tensor | None = None) -> Tensor:
    """``[m, P, E]`` to unit length, divided by `divisor` ``[P, 1]``, as ``[P, m, E]``."""
    out = F.normalize(rows, dim=2, eps=NORM_FLOOR)
    return (out if divisor is None else out / divisor).transpose(0, 1).contiguous()


def _gradients(loss: Tensor, sources: Sequence[Tensor], *, retain: bool = False) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, sources, retain_graph=retain, allow_unused=True, materialize_grads=True)
