"""The coefficients of the task losses of a kernel group, step by step; its members may have different rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from evorec.models.balancing import BALANCINGS, StepLosses
from evorec.models.spec import ModelSpec


@final
@dataclass(frozen=True)
class Coefs:
    """Factors of the losses.

    Attributes:
        shared: of the task losses, for parameters that serve several tasks, ``[P, T]``.
        specific: for the others, ``[P, T]``.
        retrieval: of the retrieval loss, ``[P, 1]``; ``None`` = 1 for every member.
    """

    shared: Tensor
    specific: Tensor
    retrieval: Tensor | None = None


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
        self.needs_gradients = any(BALANCINGS[spec.balancing].needs_gradients for spec in specs)
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
        # All members have the same rule: slices are views, index tensors gather and scatter.
        if len(self._members) == 1:
            self._members = dict.fromkeys(self._members, slice(None))
        # Of every rule, also of those that no member has: checkpoints have the same names in every stack.
        self._state = {
            name: torch.full_like(self._weights, first)
            for rule in BALANCINGS.values()
            for name, first in rule.state.items()
        }

    def state(self) -> dict[str, Tensor]:
        """State of the members for the next step: name -> float64 ``[P, T]``, the same names for every rule."""
        return {name: tensor.clone() for name, tensor in self._state.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continues from the `state` of the same members, in this order."""
        self._state = {name: state[name].to(own).clone() for name, own in self._state.items()}

    @torch.no_grad()
    def coefficients(
        self,
        step: int,
        losses: Tensor,
        labelled: Tensor,
        gram: Tensor | None = None,
        *,
        retrieval: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> Coefs:
        """Coefficients of a step.

        Args:
            step: 1-based number of the step.
            losses: plain task losses ``[P, T]``, detached.
            labelled: bool ``[T]``, whether the batch has a label of the task.
            gram: inner products ``[P, T, T]`` of their gradients with respect to the shared parameters; ``None`` where
                no rule needs them (`needs_gradients`).
            retrieval: retrieval losses times their weight, ``[P]``, detached; ``None`` = there are none.
            condition: of the step (`evorec.training.plan.Step`), or ``None``.
        """
        if gram is None and self.needs_gradients:
            kinds = sorted(kind for kind in self._members if BALANCINGS[kind].needs_gradients)
            raise ValueError(f"balancing by {kinds} needs the Gram matrix of the gradients")
        plain, weights = losses.to(torch.float64), self._weights
        weighted = self._no_gram
        if gram is not None:
            # <w_i g_i, w_j g_j> = w_i w_j <g_i, g_j>: those of the weighted losses, without a backward pass.
            weighted = gram.to(torch.float64) * weights.unsqueeze(2) * weights.unsqueeze(1)
        present = labelled.to(torch.float64).expand_as(weights)
        column = None if retrieval is None else retrieval.to(torch.float64).view(-1, 1)
        shared, specific = torch.empty_like(weights), torch.empty_like(weights)
        factors: Tensor | None = None
        for kind, at in self._members.items():
            now = StepLosses(
                step, self._seed, weights[at], plain[at], present[at], self._rate[at], weighted[at],
                # The rounding of the type in which the products were summed; float64 from here on does not undo it.
                torch.finfo(losses.dtype if gram is None else gram.dtype).eps,
                None if column is None else column[at], condition,
            )  # fmt: skip
            # Copies, because a slice is a view: a rule that writes in place would change the state it reads.
            rows = {name: self._state[name][at].clone() for name in BALANCINGS[kind].state}
            rule = BALANCINGS[kind]
            shared[at], specific[at] = rule.coefficients(now, rows)
            if (factor := rule.retrieval_factor(now)) is not None:
                factors = torch.ones_like(weights[:, :1]) if factors is None else factors
                factors[at] = factor
            for name, changed in rows.items():
                self._state[name][at] = changed
        of_retrieval = None if factors is None else factors.to(self._dtype)
        return Coefs(shared.to(self._dtype), specific.to(self._dtype), of_retrieval)
