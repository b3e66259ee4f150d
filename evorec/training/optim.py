"""Adam with decoupled weight decay (AdamW) for a stack: one learning rate and one decay per member.

Embedding rows are updated lazily: only rows of the batch move, with Adam's own epsilon convention (after the bias
correction). The decay a row missed while it was not in a batch, ``(1 - lr * decay) ** skipped``, is applied when it
is next touched, and to all rows at the end (`LazyRowAdam.flush`). Lazy Adam is not dense Adam: a row's moments stand
still while it is not in a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


def _adam_direction(m: Tensor, v: Tensor, grad: Tensor, step: int) -> Tensor:
    """Updates both moments in place and returns the bias-corrected direction."""
    m.lerp_(grad, 1 - BETA1)
    v.mul_(BETA2).addcmul_(grad, grad, value=1 - BETA2)
    denominator = v.sqrt().div_((1 - BETA2**step) ** 0.5).add_(EPSILON)
    return m.div(denominator).div_(1 - BETA1**step)


@final
class LazyRowAdam:
    """Adam on the rows of one table ``[R, P, E]`` that a batch touches.

    Args:
        table: ``[R, P, E]``, changed in place.
        learning_rate: ``[P]``.
        decay: ``[P]``, decoupled weight decay per unit of learning rate.
        steps: steps of the whole training; bounds the number of steps a row can miss.
    """

    def __init__(self, table: Tensor, learning_rate: Tensor, decay: Tensor, *, steps: int) -> None:
        self._table = table
        self._m = torch.zeros_like(table)
        self._v = torch.zeros_like(table)
        self._learning_rate = learning_rate[:, None]
        self._last = torch.zeros(table.shape[0], dtype=torch.long, device=table.device)
        shrink = (1 - learning_rate * decay).expand(steps + 1, -1).clone()
        shrink[0] = 1.0
        self._shrink = torch.cumprod(shrink, 0)  # [steps + 1, P]: factor after k missed steps, never a pow()

    def read(self, rows: Tensor, step: int) -> Tensor:
        """Rows ``[n, P, E]`` as they stand before 1-based `step`, with the decay of all earlier steps applied."""
        missed = step - 1 - self._last.index_select(0, rows)
        return self._table.index_select(0, rows) * self._shrink.index_select(0, missed)[:, :, None]

    def write(self, rows: Tensor, values: Tensor, grad: Tensor, step: int) -> None:
        """One AdamW step on `values`, the rows that `read` returned, with gradient `grad`, both ``[n, P, E]``."""
        m, v = self._m.index_select(0, rows), self._v.index_select(0, rows)
        direction = _adam_direction(m, v, grad, step)
        decayed = values * self._shrink[1][:, None]
        self._table.index_copy_(0, rows, decayed - direction * self._learning_rate)
        self._m.index_copy_(0, rows, m)
        self._v.index_copy_(0, rows, v)
        self._last.index_fill_(0, rows, step)

    def flush(self, step: int) -> None:
        """Applies every missed decay up to and including `step`; a row that no batch touched becomes 0.

        An untouched row was never fitted to anything: its initial noise must not tell two cold items apart.
        """
        missed = step - self._last
        self._table.mul_(self._shrink.index_select(0, missed)[:, :, None])
        self._table[self._last == 0] = 0.0
        self._last.fill_(step)


@final
class DenseAdam:
    """Adam on dense tensors whose first axis is a slot.

    Args:
        tensors: name -> ``[S, ...]``, changed in place.
        member: name -> owner of each slot, ``(S,)``.
        learning_rate: ``[P]``.
        decay: ``[P]``, decoupled; biases are not decayed.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        member: Mapping[str, Sequence[int]],
        learning_rate: Tensor,
        decay: Tensor,
    ) -> None:
        self._tensors = dict(tensors)
        self._moments = {name: (torch.zeros_like(t), torch.zeros_like(t)) for name, t in tensors.items()}
        self._rate, self._shrink = {}, {}
        for name, tensor in tensors.items():
            owner = torch.tensor(list(member[name]), device=tensor.device)
            shape = (-1, *([1] * (tensor.dim() - 1)))
            self._rate[name] = learning_rate.index_select(0, owner).view(shape)
            kept = 1 - self._rate[name] * decay.index_select(0, owner).view(shape)
            self._shrink[name] = torch.ones_like(kept) if name.endswith("bias") else kept

    def step(self, grads: Mapping[str, Tensor], step: int) -> None:
        """One AdamW step (1-based `step`) with gradients by name."""
        for name, tensor in self._tensors.items():
            m, v = self._moments[name]
            direction = _adam_direction(m, v, grads[name], step)
            tensor.mul_(self._shrink[name]).sub_(direction.mul_(self._rate[name]))
