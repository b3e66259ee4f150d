"""Row-wise Adagrad: the embedding tables keep a single number for each row, the dense parameters have AdamW."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from evorec.metrics.cost import ADAM_FLOPS, ROWWISE_ADAGRAD_FLOPS
from evorec.models.optimizer import OPTIMIZERS, FactoredOptimizer

if TYPE_CHECKING:
    from torch import Tensor

EPSILON = 1e-8
"""Added to the root of the sum, as FBGEMM does."""
RATE = 10.0
"""Factor of the learning rate: steps shrink with the root of the number of updates, and the default learning rate of
``torch.optim.Adagrad`` is 10 times that of Adam. A gene's range then suits all optimisers."""


@final
class RowwiseAdagrad(FactoredOptimizer):
    """Adagrad whose sum of squares is that of the mean over a row; decay is decoupled.

    A row of E parameters has a single number of state, where AdamW has 2 E. A vector, which has no rows, has Adagrad.

    Source: ``EXACT_ROWWISE_ADAGRAD`` of FBGEMM and TorchRec; Naumov et al., "Deep learning recommendation model for
    personalization and recommendation systems", 2019, train such tables. Adagrad: Duchi et al., JMLR 2011.
    """

    name, text, order = "rowwise_adagrad", "Adagrad with one number of state per embedding row; dense parts by AdamW", 2
    optional = True
    flops_per_update, flops_per_row_update = ADAM_FLOPS, ROWWISE_ADAGRAD_FLOPS
    of_dense = "adamw"
    # Only tables are updated here, and padding changes dense parameters alone.
    pads_exactly = True

    def table_states(self, dim: int) -> float:
        return 1 / dim

    def variance(
        self, grad: Tensor, row_var: Tensor | None, col_var: Tensor, out: Tensor, more: Tensor | None, step: int
    ) -> None:
        import torch

        torch.mul(grad, grad, out=out)
        if row_var is None:
            out.copy_(col_var.add_(out))
            return
        out.copy_(row_var.add_(out.mean(-1, keepdim=True)))

    def apply(
        self,
        own: Tensor,
        grad: Tensor,
        update: Tensor,
        rate: Tensor,
        keep: Tensor | None,
        step: int,
        more: Tensor | None,
    ) -> None:
        import torch

        size = torch.sqrt(update[..., :1] if own.shape[1] > 1 else update).add_(EPSILON).reciprocal_().mul_(rate * RATE)
        if keep is not None:
            own.mul_(keep)
        own.addcmul_(grad, size, value=-1)


OPTIMIZERS.register(RowwiseAdagrad.name, RowwiseAdagrad())
