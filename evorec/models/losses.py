"""Losses of a population, one value per member (never a mean over members), and their gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from evorec.config import QuantileKind, TaskKind
from evorec.models.devices import to_device
from evorec.models.spec import ModelSpec

COLDEST = 1 / 32
"""From this temperature on, exp of a score, of a difference of two and of sums of them are normal float32 numbers."""


@final
@dataclass(frozen=True)
class NumberTasks:
    """The Tn tasks whose labels are numbers, and their losses: with ``d = logit - label``,

    ``square * d * d + tilt * d + size * |d|``. Squared error / 2 is (1/2, 0, 0); the pinball loss of quantile q,
    ``max(q (label - logit), (1 - q) (logit - label))``, is (0, 1/2 - q, 1/2).

    Attributes:
        at: their places among the tasks, ``[Tn]``.
        square, tilt, size: ``[Tn, 1]``.
    Source: Koenker & Bassett 1978 (pinball loss).
    """

    at: Tensor
    square: Tensor
    tilt: Tensor
    size: Tensor

    @classmethod
    def of(cls, kinds: Sequence[TaskKind], device: torch.device, dtype: torch.dtype) -> NumberTasks | None:
        """Among T tasks; ``None`` where all are binary."""
        numbers = {place: kind for place, kind in enumerate(kinds) if kind != "binary"}
        if not numbers:
            return None
        constants = [
            (0.0, 0.5 - kind.quantile, 0.5) if isinstance(kind, QuantileKind) else (0.5, 0.0, 0.0)
            for kind in numbers.values()
        ]
        columns = to_device(np.array(constants).T[:, :, None], device, dtype)
        return cls(to_device(np.array(list(numbers)), device), columns[0], columns[1], columns[2])


@final
@dataclass(frozen=True)
class TaskTargets:
    """What each row of a batch counts in the mean over the labelled rows of a task; all but the last ``[T, B]``.

    Attributes:
        weight: of a label 0 or 1; 0 where there is none and for tasks whose labels are numbers.
        positive, negative: of a label 1 and of a label 0; they sum to `weight`.
        numbers: of the other tasks.
    """

    weight: Tensor
    positive: Tensor
    negative: Tensor
    numbers: NumberTargets | None = None

    @classmethod
    def of(cls, labels: Tensor, labelled: Tensor, tasks: NumberTasks | None = None) -> TaskTargets:
        """From labels ``[T, B]``, 0 where missing, and 1 where there is a label, else 0; `tasks` have numbers."""
        weight = labelled / labelled.sum(1, keepdim=True).clamp_min(1)
        numbers = None
        if tasks is not None:
            numbers = NumberTargets(tasks, labels.index_select(0, tasks.at), weight.index_select(0, tasks.at))
            weight = weight.index_fill(0, tasks.at, 0)
        positive = weight * labels
        return cls(weight, positive, weight - positive, numbers)


@final
@dataclass(frozen=True)
class NumberTargets:
    """Labels that are numbers.

    Attributes:
        tasks: which tasks they are of.
        labels: ``[Tn, B]``, 0 where missing.
        weight: of a label in the mean over the labelled rows, ``[Tn, B]``, 0 where missing.
    """

    tasks: NumberTasks
    labels: Tensor
    weight: Tensor


def task_losses(logits: Tensor, targets: TaskTargets) -> tuple[Tensor, Tensor]:
    """Loss per member and task, averaged over the labelled rows of the batch.

    Binary cross-entropy, or squared error / 2 or pinball loss where labels are numbers.

    Args:
        logits: ``[P, T, B]``.
        targets: of the B rows.
    Returns:
        ``[P, T]``, and its gradient ``[P, T, B]``; both 0 for a task without a label in the batch.
    """
    # Not binary_cross_entropy_with_logits: the kernel of its gradient rounds the last elements of a tensor differently
    # from the others, and which elements are the last ones depends on the number of members.
    log_p = F.logsigmoid(logits)
    losses = torch.mul(logits, targets.negative).addcmul_(log_p, targets.weight, value=-1).sum(2)
    to_logits = log_p.exp_().mul_(targets.weight).sub_(targets.positive)
    if targets.numbers is not None:
        at = targets.numbers.tasks.at
        loss, grad = _number_losses(logits.index_select(1, at), targets.numbers)
        losses.index_copy_(1, at, loss)
        to_logits.index_copy_(1, at, grad)
    return losses, to_logits


def _number_losses(logits: Tensor, targets: NumberTargets) -> tuple[Tensor, Tensor]:
    """`task_losses` of the tasks whose labels are numbers, ``[P, Tn, B]``; 0 is between the slopes of ``|d|``."""
    # One rounding per operation: where a product and a sum may be fused, the last elements of a tensor can differ.
    tasks, d = targets.tasks, logits - targets.labels
    half = (d * tasks.square).add_(tasks.tilt)
    loss = (half * d).add_(d.abs().mul_(tasks.size)).mul_(targets.weight).sum(2)
    slope = (d * tasks.square).add_(half).add_(d.sign_().mul_(tasks.size))
    return loss, slope.mul_(targets.weight)


@final
@dataclass(frozen=True)
class Cells:
    """True cells of a matrix ``[B, M]``, column by column: those of the first n columns stand first.

    Attributes:
        rows, columns: ``[k]``.
        before: cells before each column, ``(M + 1,)``, on the host: what a device knows has to be waited for.
        n_rows: B.
    """

    rows: Tensor
    columns: Tensor
    before: np.ndarray
    n_rows: int

    @classmethod
    def of(cls, matrix: np.ndarray, device: torch.device) -> Cells:
        """Of a bool matrix ``(B, M)``."""
        columns, rows = np.nonzero(matrix.T)
        before = np.concatenate([[0], np.cumsum(matrix.sum(0))])
        return cls(to_device(rows, device), to_device(columns, device), before, len(matrix))

    @property
    def n_columns(self) -> int:
        """M."""
        return len(self.before) - 1


@final
class FirstCells:
    """The cells of the first n columns, in the ways that losses ask for them.

    Args:
        cells: of all columns.
        n: how many count.
        like: gives the type of `left`.
    """

    def __init__(self, cells: Cells, n: int, like: Tensor) -> None:
        self._n, self._n_rows, self._like = n, cells.n_rows, like
        self._rows, self._columns = (part[: cells.before[n]] for part in (cells.rows, cells.columns))

    @cached_property
    def places(self) -> Tensor:
        """Places of the cells in ``[B n]``."""
        return torch.add(self._columns, self._rows, alpha=self._n)

    @cached_property
    def left(self) -> Tensor:
        """How many other cells each row has, ``[B]``."""
        all_of_row, one = self._like.new_full((self._n_rows,), self._n), self._like.new_ones(1)
        return all_of_row.index_add_(0, self._rows, one.expand(len(self._rows)), alpha=-1)


@final
class Blocked:
    """Which scores of a step are no negatives, found once for all members.

    Args:
        sources: `ModelSpec.negative_source` -> cells ``[B, M]`` of scores of positive b and item j of the source where
            row b's user is known to want item j (accidental hits); in the batch row b's own item among them.
    """

    def __init__(self, sources: Mapping[str, Cells]) -> None:
        self._sources = sources
        self._found: dict[tuple[str, int], FirstCells] = {}

    def n_columns(self) -> dict[str, int]:
        """Items of each source."""
        return {source: cells.n_columns for source, cells in self._sources.items()}

    def first(self, source: str, n: int, like: Tensor) -> FirstCells:
        """Among the first `n` items of a source; counts are of the type of `like`."""
        if (source, n) not in self._found:
            self._found[source, n] = FirstCells(self._sources[source], n, like)
        return self._found[source, n]


@final
@dataclass(frozen=True)
class Alike:
    """Members whose retrieval losses are one product.

    Attributes:
        kind: `ModelSpec.retrieval_loss`.
        source: `ModelSpec.negative_source`.
        n_negatives: N, columns that they use.
        bounded: whether exp of their scores is a normal number.
        at: the members: one, or a further first axis G of several.
        size: G.
        beta: power of the positive's probability in gBCE, ``[1]`` or ``[G, 1]``.
    """

    kind: str
    source: str
    n_negatives: int
    bounded: bool
    at: int | slice | Tensor
    size: int
    beta: Tensor


def alike(
    specs: Sequence[ModelSpec], columns: Mapping[str, int], n_items: int, like: Tensor, *, batched: bool
) -> list[Alike]:
    """How members run.

    Args:
        specs: ``(P,)``; a member's negatives are the first `negatives` columns of its `negative_source`.
        columns: negative source -> items that a step has of it.
        n_items: size of the catalogue.
        like: gives type and device.
        batched: all members that fit together in one product; else each alone, whose scores stay in a cache.
    """
    groups: dict[tuple[str, str, int, bool, int], list[int]] = {}
    for member, spec in enumerate(specs):
        n = min(spec.negatives, columns[spec.negative_source])
        key = spec.retrieval_loss, spec.negative_source, n, spec.temperature >= COLDEST
        groups.setdefault((*key, 0 if batched else member), []).append(member)
    out = []
    for (kind, source, n, bounded, _), members in groups.items():
        beta = like.new_tensor([_beta(specs[member], n, n_items) for member in members])
        at = _place(members, like.device) if batched else members[0]
        out.append(Alike(kind, source, n, bounded, at, len(members), beta.unsqueeze(-1) if batched else beta))
    return out


def _place(members: Sequence[int], device: torch.device) -> slice | Tensor:
    """A slice where members are neighbours."""
    first, last = members[0], members[-1]
    if last - first + 1 == len(members):
        return slice(first, last + 1)
    return torch.tensor(members, device=device)


def _beta(spec: ModelSpec, n_negatives: int, n_items: int) -> float:
    rate = min(n_negatives / max(n_items - 1, 1), 1.0)
    return spec.gbce_calibration * (rate - 1) + 1


def retrieval_loss(
    users: Tensor, items: Tensor, uniform: Tensor | None, blocked: Blocked, parts: Sequence[Alike]
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Mean retrieval loss over the batch's target positives, each against its negatives; per member.

    With s+ the score of a positive and s_j those of its n negatives:

    * ``softmax``: ``log(exp(s+) + sum exp(s_j)) - s+``;
    * ``bpr``: mean of ``softplus(s_j - s+)``;
    * ``gbce``: ``(β softplus(-s+) + sum softplus(s_j)) / (n + 1)`` with ``β = t (a - 1) + 1``, t the member's
      `gbce_calibration` and ``a = N / (n_items - 1)`` the rate at which negatives are sampled, at most 1.

    The retrieval score is ``f(u, i) = <u, i> + log p(i)`` with p the item's share of training positives. In-batch
    negatives are drawn with probability p, so the logQ correction subtracts ``log p`` and leaves the product: what is
    learned is what popularity does not tell.

    Gradients are made with the loss, where the scores are at hand: those of one part are alive at a time, in one
    buffer. A member's vectors are copied before its products: they then lie alike in memory whatever stands beside
    them, and round alike.

    Args:
        users: ``[P, B, E]``, row b is the unit vector of the user of positive b.
        items: ``[P, B, E]``, row b is the unit vector of the item of positive b, divided by the temperature.
        uniform: ``[P, M, E]``, items drawn uniformly, as `items`; may be ``None`` if no member asks for them.
        blocked: which scores are no negatives.
        parts: the P members (`alike`).
    Returns:
        ``[P]``; a row without a negative counts 0 in ``softmax`` and ``bpr``; and its gradients of users, items and
        uniform items.
    Source: Yi et al., "Sampling-bias-corrected neural modeling for large corpus item recommendations", RecSys 2019;
        Rendle et al., "BPR: Bayesian personalized ranking from implicit feedback", UAI 2009; Petrov and Macdonald,
        "gSASRec: reducing overconfidence in sequential recommendation trained with negative sampling", RecSys 2023.
    """
    vectors = {"batch": items}
    to_users, to_items, to_uniform = torch.empty_like(users), torch.empty_like(items), None
    gradients = {"batch": to_items}
    if uniform is not None:
        to_uniform = torch.zeros_like(uniform)
        vectors["uniform"], gradients["uniform"] = uniform, to_uniform
    losses = users.new_empty(len(users))
    buffers = users.new_empty(2, users.shape[1] * max(part.size * part.n_negatives for part in parts))
    for part in parts:
        at, first = part.at, slice(part.n_negatives)
        chosen = users[at], items[at], vectors[part.source][at, first]
        mine = [one.clone(memory_format=torch.contiguous_format) for one in chosen]
        found = _scored(part, mine, blocked.first(part.source, part.n_negatives, users), buffers)
        losses[at], to_users[at], to_items[at], to_negatives = found
        gradients[part.source][at, first] += to_negatives
    return losses, to_users, to_items, to_uniform


def _scored(
    part: Alike, vectors: Sequence[Tensor], blocked: FirstCells, buffers: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss and its gradients for one member or, with a further first axis G, for several.

    Args:
        vectors: users and items ``[B, E]``, negatives ``[N, E]``.
        blocked: of the part's source and number of negatives.
        buffers: ``[2, >= G B N]``, memory for scores.
    Returns:
        Losses ``[(G)]`` and the gradients of users, items and negatives.
    """
    users, items, negatives = vectors
    n_rows, n_columns = users.shape[-2], negatives.shape[-2]
    scores, spare = buffers[:, : users.shape[:-1].numel() * n_columns].view(2, *users.shape[:-1], n_columns)
    product = torch.mm if users.dim() == 2 else torch.bmm
    product(users, negatives.mT, out=scores)
    own = (users * items).sum(-1)
    if part.kind == "softmax":
        loss, by_row, by_own = _softmax(scores, own, blocked.places, part.bounded)
    elif part.kind == "bpr":
        by_row = 1 / blocked.left.clamp_min(1).expand_as(own)
        loss = _softplus(scores, own, blocked.places, spare, part.bounded).mul_(by_row)
        by_own = scores.sum(-1).mul_(by_row).neg_()
    else:
        by_row = 1 / (blocked.left + 1).expand_as(own)
        total = _softplus(scores, None, blocked.places, spare, part.bounded)
        loss, by_own = (total - part.beta * F.logsigmoid(own)) * by_row, -part.beta * torch.sigmoid(-own) * by_row
    by_row, by_own = by_row.unsqueeze(-1) / n_rows, by_own.unsqueeze(-1) / n_rows
    to_users = product(scores, negatives).mul_(by_row).add_(by_own * items)
    return loss.mean(-1), to_users, by_own * users, product(scores.mT, by_row * users)


def _softmax(scores: Tensor, own: Tensor, blocked: Tensor, bounded: bool) -> tuple[Tensor, Tensor, Tensor]:
    """``log(1 + sum_j exp(s_j - s+))`` of every row; its gradient is left in `scores`, to be scaled row by row.

    Returns:
        Losses, scales of the rows and gradient of s+, each ``[(G) B]``.
    """
    if bounded:  # one look at each score, and no maximum
        shrink = (-own).exp_()
        odds = _block(scores.exp_(), blocked, 0).sum(-1).mul_(shrink)
        total = odds + 1
        return odds.log1p(), shrink.div_(total), odds.div_(total).neg_()
    _block(scores.sub_(own.unsqueeze(-1)), blocked, float("-inf"))
    largest = scores.amax(-1).clamp_min_(0)
    odds = scores.sub_(largest.unsqueeze(-1)).exp_().sum(-1)
    total = odds + (-largest).exp_()
    return total.log() + largest, 1 / total, odds.div_(total).neg_()


def _softplus(scores: Tensor, own: Tensor | None, blocked: Tensor, spare: Tensor, bounded: bool) -> Tensor:
    """``sum_j log(1 + exp(s_j - s+))`` of every row, s+ = 0 without `own`; its gradient is left in `scores`.

    Returns:
        ``[(G) B]``.
    """
    if own is not None:
        scores.sub_(own.unsqueeze(-1))
    if bounded:
        _block(scores.exp_(), blocked, 0)
        torch.add(scores, 1, out=spare)
        scores.div_(spare)
        return spare.log_().sum(-1)
    _block(scores, blocked, float("-inf"))
    total = -F.logsigmoid(-scores).sum(-1)
    scores.sigmoid_()
    return total


def _block(scores: Tensor, places: Tensor, value: float) -> Tensor:
    """Sets the places of columns that are no negatives."""
    scores.flatten(-2).index_fill_(-1, places, value)
    return scores
