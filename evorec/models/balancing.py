"""How the task losses of each member are balanced: the coefficients of one step.

All kinds work on small tensors ``[P, T]`` and, where they look at gradients, on the Gram matrix ``[P, T, T]`` of the
task losses' gradients with respect to the shared parameters. Everything is computed in float64, elementwise over
members: a sum over tasks is written out task by task, so that a member's coefficients do not depend on its company.

A task without a label in the batch has loss and gradient 0: it keeps its plain weight and moves no state of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import final

import torch
from torch import Tensor

from evorec.models.devices import runs_ahead, to_device
from evorec.models.spec import GRADIENT_BALANCINGS, ModelSpec
from evorec.seeds import generator

DWA_WINDOW = 10
"""Steps over which dynamic weight averaging averages a loss."""
DWA_TEMPERATURE = 2.0

ADAM_BETAS, ADAM_FLOOR = (0.9, 0.999), 1e-8

GRADNORM_RATE = 0.025
GRADNORM_LEAST = 1e-3
"""A task's scale stays at least this: one that reached 0 would never return."""

NASH_ITERATIONS = 32
"""Gram matrices of 2 to 16 gradients, singular and badly scaled ones among them, took at most 25."""
NASH_CONVERGED = 1e-8
"""Newton decrement below which one more full step leaves only rounding."""
NASH_RIDGE = 16
"""Rounding units of the Gram matrix added to the diagonal of the cosines: opposed gradients have no finite solution."""


@final
@dataclass(frozen=True)
class Coefs:
    """Factors of the task losses, each ``[P, T]``.

    Attributes:
        shared: for parameters that serve more than one task.
        specific: for the others.
    """

    shared: Tensor
    specific: Tensor


@final
@dataclass(frozen=True)
class _Seen:
    """What a rule sees of one step, for its n members, in float64.

    Attributes:
        step: 1-based.
        seed: run seed.
        weights, losses: ``[n, T]``.
        labelled: ``[n, T]``, 1 or 0.
        rate: learning rates, ``[n, 1]``.
        gram: ``[n, T, T]`` of the gradients of the weighted losses; 0 where not asked for.
        rounding: relative rounding unit of the Gram matrix as it came.
    """

    step: int
    seed: int
    weights: Tensor
    losses: Tensor
    labelled: Tensor
    rate: Tensor
    gram: Tensor
    rounding: float


State = dict[str, Tensor]
"""Name -> ``[n, T]``; a rule replaces what it changes."""

STATE: Mapping[str, Mapping[str, float]] = {
    "uncertainty": {"log_variance": 0.0, "first_moment": 0.0, "second_moment": 0.0},
    "dwa": {"window_sum": 0.0, "window_count": 0.0, "last_mean": 0.0, "earlier_mean": 0.0},
    "gradnorm": {"first_loss": 0.0, "scale": 1.0},
}
"""Kind -> what it carries from step to step, and the value before the first one."""


@final
class Balancer:
    """Coefficients of the task losses, step by step.

    Args:
        specs: the members, ``(P,)``; their kinds may be mixed.
        n_tasks: T.
        seed: run seed; draws are keyed by step, the same for all members.
        device, dtype: of the coefficients.
    """

    def __init__(
        self, specs: Sequence[ModelSpec], *, n_tasks: int, seed: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.needs_gradients = any(spec.balancing in GRADIENT_BALANCINGS for spec in specs)
        self._seed, self._dtype = seed, dtype

        def column(values: Sequence[object]) -> Tensor:
            return torch.tensor(values, dtype=torch.float64, device=device)

        self._weights = column([spec.task_weights for spec in specs]).view(len(specs), n_tasks)
        self._no_gram = self._weights.new_zeros(len(specs), n_tasks, n_tasks)
        self._rate = column([[spec.learning_rate] for spec in specs])
        kinds = [spec.balancing for spec in specs]
        self._members: dict[str, Tensor | slice] = {
            kind: torch.tensor([at for at, its in enumerate(kinds) if its == kind], device=device)
            for kind in sorted(set(kinds))
        }
        if len(self._members) == 1:
            self._members = dict.fromkeys(self._members, slice(None))
        self._state = {
            name: torch.full_like(self._weights, first) for names in STATE.values() for name, first in names.items()
        }

    def weights(self, step: int, losses: Tensor, labelled: Tensor) -> Coefs:
        """Coefficients of members that look at no gradient.

        Args:
            step: 1-based number of the step.
            losses: plain task losses ``[P, T]``, detached.
            labelled: bool ``[T]``, whether the batch has a label of the task.
        """
        if self.needs_gradients:
            raise ValueError(f"balancing by {sorted(GRADIENT_BALANCINGS & self._members.keys())} needs from_gradients")
        return self._coefficients(step, losses, None, labelled)

    def from_gradients(self, step: int, losses: Tensor, gram: Tensor, labelled: Tensor) -> Coefs:
        """Coefficients of members of any kind.

        Args:
            step: 1-based number of the step.
            losses: plain task losses ``[P, T]``, detached.
            gram: inner products ``[P, T, T]`` of their gradients with respect to the shared parameters.
            labelled: bool ``[T]``, whether the batch has a label of the task.
        """
        return self._coefficients(step, losses, gram, labelled)

    def state(self) -> dict[str, Tensor]:
        """What the members carry to the next step: name -> float64 ``[P, T]``, the same names for every kind."""
        return {name: tensor.clone() for name, tensor in self._state.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from `state` of the same members, in any company and order."""
        self._state = {name: state[name].to(own).clone() for name, own in self._state.items()}

    @torch.no_grad()
    def _coefficients(self, step: int, losses: Tensor, gram: Tensor | None, labelled: Tensor) -> Coefs:
        plain, weights = losses.to(torch.float64), self._weights
        weighted = self._no_gram
        if gram is not None:
            weighted = gram.to(torch.float64) * weights.unsqueeze(2) * weights.unsqueeze(1)
        present = labelled.to(torch.float64).expand_as(weights)
        shared, specific = torch.empty_like(weights), torch.empty_like(weights)
        for kind, at in self._members.items():
            seen = _Seen(
                step, self._seed, weights[at], plain[at], present[at], self._rate[at], weighted[at],
                torch.finfo(losses.dtype if gram is None else gram.dtype).eps,
            )  # fmt: skip
            rows = {name: self._state[name][at].clone() for name in STATE.get(kind, ())}
            shared[at], specific[at] = RULES[kind](seen, rows)
            for name, changed in rows.items():
                self._state[name][at] = changed
        return Coefs(shared.to(self._dtype), specific.to(self._dtype))


def extra_passes(balancing: str, n_tasks: int) -> int:
    """Backward passes beside the one that trains: one per task for kinds that look at the tasks' gradients."""
    return n_tasks if balancing in GRADIENT_BALANCINGS else 0


def _fixed(seen: _Seen, state: State) -> tuple[Tensor, Tensor]:
    return seen.weights, seen.weights


def _uncertainty(seen: _Seen, state: State) -> tuple[Tensor, Tensor]:
    """Kendall et al., "Multi-task learning using uncertainty to weigh losses for scene geometry and semantics", 2018.

    The log variances are trained by Adam on ``sum_t w_t (exp(-z_t) L_t + z_t / 2)`` over the labelled tasks.
    """
    z, precision = state["log_variance"], (-state["log_variance"]).exp()
    grad = seen.weights * (0.5 - precision * seen.losses) * seen.labelled
    first, second = ADAM_BETAS
    state["first_moment"] = state["first_moment"] * first + grad * (1 - first)
    state["second_moment"] = state["second_moment"] * second + grad * grad * (1 - second)
    mean = state["first_moment"] / (1 - first**seen.step)
    spread = (state["second_moment"] / (1 - second**seen.step)).sqrt()
    state["log_variance"] = z - seen.rate * mean / (spread + ADAM_FLOOR)
    return (out := seen.weights * precision), out


def _dwa(seen: _Seen, state: State) -> tuple[Tensor, Tensor]:
    """Liu et al., "End-to-end multi-task learning with attention", CVPR 2019: dynamic weight averaging.

    A task without a label in one of the two windows counts as one whose loss did not change.
    """
    last, earlier = state["last_mean"], state["earlier_mean"]
    out = seen.weights
    if seen.step > 2 * DWA_WINDOW:
        ratio = torch.where((last > 0) & (earlier > 0), last / earlier, 1.0)
        out = out * _softmax(ratio / DWA_TEMPERATURE)
    state["window_sum"] = state["window_sum"] + seen.losses * seen.labelled
    state["window_count"] = state["window_count"] + seen.labelled
    if seen.step % DWA_WINDOW == 0:
        state["earlier_mean"] = last
        state["last_mean"] = state["window_sum"] / state["window_count"].clamp_min(1)
        state["window_sum"], state["window_count"] = torch.zeros_like(last), torch.zeros_like(last)
    return out, out


def _random(seen: _Seen, state: State) -> tuple[Tensor, Tensor]:
    """Lin et al., "Reasonable effectiveness of random weighting: a litmus test for multi-task learning", TMLR 2022."""
    draw = generator(seen.seed, "random weighting", seen.step).standard_normal(seen.weights.shape[1])
    return (out := seen.weights * _softmax(to_device(draw, seen.weights.device)[None])), out


def _gradnorm(seen: _Seen, state: State) -> tuple[Tensor, Tensor]:
    """Chen et al., "GradNorm: gradient normalization for adaptive loss balancing", ICML 2018."""
    scale, norm = state["scale"], torch.diagonal(seen.gram, dim1=1, dim2=2).clamp_min(0).sqrt()
    state["first_loss"] = torch.where(state["first_loss"] > 0, state["first_loss"], seen.losses * seen.labelled)
    counted = seen.labelled * (state["first_loss"] > 0)
    n_counted = _total(counted).clamp_min(1)
    progress = counted * seen.losses / torch.where(counted > 0, state["first_loss"], 1.0)
    mean_progress = _total(progress) / n_counted
    progress = torch.where(mean_progress > 0, progress / mean_progress, 1.0)
    target = _total(counted * scale * norm) / n_counted * progress * progress.sqrt()  # r ** 1.5
    moved = (scale - GRADNORM_RATE * counted * torch.sign(scale * norm - target) * norm).clamp_min(GRADNORM_LEAST)
    moved = moved * (scale.shape[1] / _total(moved))
    state["scale"] = torch.where(torch.isfinite(_total(moved)), moved, scale)
    return (out := seen.weights * scale), out


def _pcgrad(seen: _Seen, state: State) -> tuple[Tensor, Tensor]:
    """Yu et al., "Gradient surgery for multi-task learning", NeurIPS 2020, in terms of the Gram matrix.

    Each projected gradient is a combination of the tasks' gradients: its coefficients and its inner products with them
    are all that is needed.
    """
    gram, n_tasks = seen.gram, seen.gram.shape[1]
    total = torch.zeros_like(seen.weights)
    for i in range(n_tasks):
        mine, inner = torch.zeros_like(total), gram[:, i]
        mine[:, i].fill_(1)
        for j in generator(seen.seed, "pcgrad", seen.step, i).permutation(n_tasks).tolist():
            if j == i:
                continue
            clash = (inner[:, j] < 0) & (gram[:, j, j] > 0)
            away = torch.where(clash, inner[:, j] / gram[:, j, j], 0.0)
            mine[:, j] -= away
            inner = inner - away.unsqueeze(1) * gram[:, j]
        total = total + mine
    return seen.weights * total, seen.weights


def _nash(seen: _Seen, state: State) -> tuple[Tensor, Tensor]:
    """Navon et al., "Multi-task learning as a bargaining game", ICML 2022: ``K alpha = 1 / alpha``, alpha > 0."""
    power = torch.diagonal(seen.gram, dim1=1, dim2=2)
    sound = torch.isfinite(_total(_total(seen.gram.abs()).squeeze(2)))
    active = (sound & (power > 0)).to(power.dtype) * seen.labelled
    norm = torch.where(active > 0, power, 1.0).sqrt()
    pairs = (active.unsqueeze(2) * active.unsqueeze(1)) > 0
    cosines = torch.where(pairs, seen.gram / norm.unsqueeze(2) / norm.unsqueeze(1), 0.0)
    torch.diagonal(cosines, dim1=1, dim2=2).copy_(1 + active * (NASH_RIDGE * seen.rounding))
    alpha = active * _bargain(cosines) / norm
    alpha = alpha * (_total(active) / _total(alpha))
    return (out := seen.weights * torch.where((active > 0) & torch.isfinite(alpha), alpha, 1.0)), out


RULES: Mapping[str, Callable[[_Seen, State], tuple[Tensor, Tensor]]] = {
    "fixed": _fixed,
    "uncertainty": _uncertainty,
    "dwa": _dwa,
    "random": _random,
    "gradnorm": _gradnorm,
    "pcgrad": _pcgrad,
    "nash": _nash,
}
"""Name -> (what is seen, state rows) -> coefficients of shared and of specific parameters."""


def _bargain(matrix: Tensor) -> Tensor:
    """The positive ``x [n, T]`` with ``matrix x = 1 / x``: the minimum of ``x'Kx / 2 - sum log x``, member by member.

    Newton's method, damped while far (the function is self-concordant), each time from the best point of the ray
    through the last one. A member that has converged rests, so the others' iterations do not touch it.
    """
    n_tasks = matrix.shape[1]
    x = torch.ones_like(matrix[:, 0])
    rests = torch.zeros_like(x[:, :1], dtype=torch.bool)
    for _ in range(NASH_ITERATIONS):
        product = _total(matrix * x.unsqueeze(1)).squeeze(2)
        power = _total(x * product)
        ray = torch.where(~rests & (power > 0), (n_tasks / power).sqrt(), 1.0)
        x, product = x * ray, product * ray
        gradient, curvature = product - 1 / x, matrix.clone()
        torch.diagonal(curvature, dim1=1, dim2=2).add_(1 / (x * x))
        direction = _solved(curvature, gradient)
        decrement = _total(gradient * direction).clamp_min(0).sqrt()
        damping = torch.where(decrement > 0.25, 1 / (1 + decrement), 1.0)
        x = torch.where(rests, x, x - damping * direction)
        rests = rests | (decrement <= NASH_CONVERGED)
        if not runs_ahead(x.device) and bool(rests.all()):
            break
    return x


def _solved(matrix: Tensor, right: Tensor) -> Tensor:
    """``matrix^-1 right`` of positive definite ``[n, T, T]`` and ``[n, T]``: elimination, elementwise over members."""
    rows = torch.cat([matrix, right.unsqueeze(2)], 2)
    for k in range(matrix.shape[1]):
        pivot = rows[:, k] / rows[:, k, k, None]
        rows = rows - rows[:, :, k, None] * pivot.unsqueeze(1)
        rows[:, k] = pivot
    return rows[:, :, -1]


def _total(x: Tensor) -> Tensor:
    """Sum over the last axis, kept, term by term."""
    return reduce(torch.add, x.unbind(-1)).unsqueeze(-1)


def _softmax(x: Tensor) -> Tensor:
    """Softmax over tasks ``[n, T]``, times T."""
    raised = (x - x.amax(1, keepdim=True)).exp()
    return x.shape[1] * raised / _total(raised)
