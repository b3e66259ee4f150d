"""Nash bargaining."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from evorec.models.balancing import BALANCINGS, Balancing, State, StepLosses, total

if TYPE_CHECKING:
    from torch import Tensor

NASH_ITERATIONS = 32
"""Gram matrices of 2 to 16 gradients, singular and badly scaled matrices among them, took at most 25."""
NASH_CONVERGED = 1e-8
"""Newton decrement below which a further full step leaves only rounding."""
NASH_RIDGE = 16
"""Rounding units of the Gram matrix added to the diagonal of the cosines: opposed gradients have no finite solution."""


@final
class Nash(Balancing):
    """The bargaining solution ``K alpha = 1 / alpha``, alpha > 0, for the Gram matrix K.

    Source: Navon et al., "Multi-task learning as a bargaining game", ICML 2022, claim 3.1.
    """

    name, order = "nash", 6
    text = "the pull of each task on the shared layers is the solution of a bargain between the tasks (Nash-MTL)"
    needs_gradients = True

    def coefficients(self, now: StepLosses, state: State) -> tuple[Tensor, Tensor]:
        power = now.gram.diagonal(dim1=1, dim2=2)
        # A member with a gradient that is not finite keeps its plain weights.
        is_finite = total(total(now.gram.abs()).squeeze(2)).isfinite()
        active = (is_finite & (power > 0)).to(power.dtype) * now.labelled
        norm = power.where(active > 0, 1.0).sqrt()
        pairs = (active.unsqueeze(2) * active.unsqueeze(1)) > 0
        # With gradients scaled to length 1 the matrix is well scaled whatever the losses are.
        cosines = (now.gram / norm.unsqueeze(2) / norm.unsqueeze(1)).where(pairs, 0.0)
        # An inactive task has a row of the identity, so it does not move the others.
        cosines.diagonal(dim1=1, dim2=2).copy_(1 + active * (NASH_RIDGE * now.rounding))
        alpha = active * _bargain(cosines) / norm
        # Mean 1 over the active tasks: the bargain decides the direction, the learning rate the size.
        alpha = alpha * (total(active) / total(alpha))
        return (out := now.weights * alpha.where((active > 0) & alpha.isfinite(), 1.0)), out


BALANCINGS.register(Nash.name, Nash())


def _bargain(matrix: Tensor) -> Tensor:
    """The positive ``x [n, T]`` with ``matrix x = 1 / x``: the minimum of ``x'Kx / 2 - sum log x``, member by member.

    Newton's method, damped while far (the function is self-concordant: Boyd and Vandenberghe, section 9.6). Each
    iteration starts from the best point of the ray through the previous iterate. The numbers of a member that has
    converged stay, so the iterations of the others do not change them.
    """
    n_tasks = matrix.shape[1]
    x = matrix.new_ones(matrix[:, 0].shape)
    rests = x[:, :1] < 0  # none yet
    for _ in range(NASH_ITERATIONS):
        product = total(matrix * x.unsqueeze(1)).squeeze(2)
        power = total(x * product)
        ray = (n_tasks / power).sqrt().where(~rests & (power > 0), 1.0)
        x, product = x * ray, product * ray
        gradient, curvature = product - 1 / x, matrix.clone()
        curvature.diagonal(dim1=1, dim2=2).add_(1 / (x * x))
        direction = _solved(curvature, gradient)
        decrement = total(gradient * direction).clamp_min(0).sqrt()
        # Below 1/4 full steps converge quadratically.
        damping = (1 / (1 + decrement)).where(decrement > 0.25, 1.0)
        x = x.where(rests, x - damping * direction)
        rests = rests | (decrement <= NASH_CONVERGED)
        if _may_wait(x) and bool(rests.all()):
            break
    return x


def _may_wait(x: Tensor) -> bool:
    """Whether reading a value costs no wait: a GPU runs all iterations instead."""
    return x.device.type == "cpu"


def _solved(matrix: Tensor, right: Tensor) -> Tensor:
    """``matrix^-1 right`` of positive definite ``[n, T, T]`` and ``[n, T]``: elimination, elementwise over members."""
    import torch

    # Gauss-Jordan without pivots, which a positive definite matrix does not need.
    rows = torch.cat([matrix, right.unsqueeze(2)], 2)
    for k in range(matrix.shape[1]):
        pivot = rows[:, k] / rows[:, k, k, None]
        rows = rows - rows[:, :, k, None] * pivot.unsqueeze(1)
        rows[:, k] = pivot
    return rows[:, :, -1]
