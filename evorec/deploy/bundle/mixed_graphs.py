"""An ensemble as ONNX graphs: those of its members side by side, with the same inputs and outputs as of one member.

The keys of all members that have a part in the lists are rows of one array, and each member's popularity prior is a
further row of it, which meets a 1 in the user's vector: the mixture needs the scores of each member apart. So the prior
of the catalogue itself is 0, and everything around the graphs is as for one member.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Final, final

import numpy as np
import torch
from torch import Tensor

from evorec.deploy.bundle.graphs import (
    CATALOGUE,
    GRAPHS,
    PARAMETERS,
    Inputs,
    ItemVectors,
    Member,
    Program,
    Ranker,
    Recommend,
    UserVectors,
    best_of_scores,
    predictions,
)
from evorec.models.input_shape import InputShape


@final
@dataclass(frozen=True)
class MixedPart:
    """A member of an ensemble.

    Attributes:
        member: with its own arrays.
        tasks: its share of the task outputs.
        lists: its share of the lists.
        prior: log-popularity of a new item.
    """

    member: Member
    tasks: float
    lists: float
    prior: float


@final
@dataclass(frozen=True)
class MixedMember:
    """An ensemble and its data, for the graphs; `Member` describes the attributes that both have.

    Attributes:
        parts: of the ensemble.
        arrays: those of the bundle.
    """

    parts: tuple[MixedPart, ...]
    arrays: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, parts: Sequence[MixedPart]) -> MixedMember:
        """An ensemble of members that were encoded by the same data, at most one of them with item-item scores."""
        shared = {
            name: array
            for part in parts
            for name, array in part.member.arrays.items()
            if not name.startswith(PARAMETERS) and name not in CATALOGUE
        }
        own = {
            f"{PARAMETERS}{number}.{name.removeprefix(PARAMETERS)}": array
            for number, part in enumerate(parts)
            for name, array in part.member.arrays.items()
            if name.startswith(PARAMETERS)
        }
        arrays = [part.member.arrays for part in parts]
        flat = [each["catalogue.vectors"].transpose(1, 0, 2) for each in arrays]
        vectors = np.concatenate([each.reshape(len(each), -1) for each in flat], axis=1)[None]
        listed = [part.member.arrays for part in parts if part.lists]
        keys = [row for each in listed for row in (each["catalogue.keys"], np.asarray(each["catalogue.prior"])[None])]
        catalogue = {
            "catalogue.vectors": np.ascontiguousarray(vectors),
            "catalogue.keys": np.ascontiguousarray(np.concatenate(keys)),
            "catalogue.prior": np.zeros_like(arrays[0]["catalogue.prior"]),
            "catalogue.statistics": arrays[0]["catalogue.statistics"],
        }
        return cls(tuple(parts), shared | own | catalogue)

    @property
    def shape(self) -> InputShape:
        """Sizes fixed by the data."""
        return self.parts[0].member.shape

    @property
    def number_scales(self) -> Sequence[tuple[float, float] | None]:
        """As of a member."""
        return self.parts[0].member.number_scales

    @property
    def n_user_statistics(self) -> int:
        """As of a member."""
        return self.parts[0].member.n_user_statistics

    @property
    def n_item_statistics(self) -> int:
        """As of a member."""
        return self.parts[0].member.n_item_statistics

    @property
    def n_context(self) -> int:
        """As of a member."""
        return self.parts[0].member.n_context

    @property
    def tasks(self) -> Sequence[str]:
        """Names of the ranked tasks."""
        return self.parts[0].member.tasks

    @property
    def ranks(self) -> bool:
        """Whether a list score needs a ranker."""
        return any(part.member.ranks for part in self.parts if part.lists)

    @property
    def reads_order(self) -> bool:
        """Whether a member reads the past as a sequence."""
        return any(part.member.reads_order for part in self.parts)

    @property
    def attends(self) -> bool:
        """Whether a ranker reads the past."""
        return any(part.member.attends for part in self.parts)

    @property
    def uses_item_item(self) -> bool:
        """Whether lists need item-item scores."""
        return any(part.member.uses_item_item for part in self.parts if part.lists)

    @cached_property
    def key_rows(self) -> list[slice]:
        """Rows of the keys of each part, its prior last; empty for a part without lists."""
        return _spans([part.member.spec.embedding_dim + 1 if part.lists else 0 for part in self.parts])

    @cached_property
    def vector_columns(self) -> list[slice]:
        """Columns of the item vectors of each part."""
        return _spans([len(vectors) * vectors.shape[2] for vectors in self._vectors])

    @property
    def prior_rows(self) -> list[int]:
        """Rows of the keys that hold priors."""
        return [rows.stop - 1 for rows, part in zip(self.key_rows, self.parts, strict=True) if part.lists]

    @property
    def _vectors(self) -> list[np.ndarray]:
        return [part.member.arrays["catalogue.vectors"] for part in self.parts]

    def part_vectors(self, part: int, wide: Tensor) -> Tensor:
        """Vectors ``[G, n, E]`` of a part, of item vectors ``[n, W]``."""
        groups, _, dim = self._vectors[part].shape
        return wide[:, self.vector_columns[part]].view(wide.shape[0], groups, dim).transpose(0, 1)


def _spans(sizes: Sequence[int]) -> list[slice]:
    ends = np.cumsum(sizes).tolist()
    return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]


@final
class MixedUserVectors(torch.nn.Module):
    """Retrieval vectors of users, those of all members with lists; each with a 1 for the prior."""

    def __init__(self, member: MixedMember) -> None:
        super().__init__()
        self.member = member
        self.parts = torch.nn.ModuleList([UserVectors(part.member) for part in member.parts if part.lists])

    def forward(self, given: dict[str, Tensor]) -> Tensor:
        """``[m, sum of E + 1]``."""
        queries = [part(given) for part in self.parts]
        return torch.cat([side for query in queries for side in (query, torch.ones_like(query[:, :1]))], 1)


@final
class MixedItemVectors(torch.nn.Module):
    """Vectors of items for the rankers, and their keys of retrieval with the priors of a new item."""

    def __init__(self, member: MixedMember) -> None:
        super().__init__()
        self.member = member
        self.parts = torch.nn.ModuleList([ItemVectors(part.member) for part in member.parts])

    def forward(self, given: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """``[1, m, W]`` and ``[m, sum of E + 1]``."""
        flat, keys = [], []
        for own, part in zip(self.parts, self.member.parts, strict=True):
            vectors, key = own(given)
            flat.append(vectors.transpose(0, 1).flatten(1))
            if part.lists:
                keys += [key, torch.full_like(key[:, :1], part.prior)]
        return torch.cat(flat, 1)[None], torch.cat(keys, 1)


@final
class MixedRanker(torch.nn.Module):
    """Predictions of every task for pairs of user and item: of the mean of the members' outputs."""

    def __init__(self, member: MixedMember) -> None:
        super().__init__()
        self.member = member
        self.shares = [part.tasks for part in member.parts if part.tasks]
        self.parts = torch.nn.ModuleList([Ranker(part.member) for part in member.parts if part.tasks])

    def forward(self, given: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Predictions and raw outputs, both ``[m, T]``."""
        outputs = [share * part(given)[1] for share, part in zip(self.shares, self.parts, strict=True)]
        total = torch.stack(outputs).sum(0)
        return predictions(total.T, self.member.number_scales), total


class _Part(Recommend):
    """The lists of a member whose item vectors were looked up for it."""

    def _listed(self, given: Inputs, items: Tensor) -> Tensor:
        return given["listed"]


@final
class MixedRecommend(torch.nn.Module):
    """From users to their best items by the mixed preferences of the members and the mean of their rankers."""

    def __init__(self, member: MixedMember) -> None:
        super().__init__()
        self.member = member
        self.numbers = [number for number, part in enumerate(member.parts) if part.lists]
        self.parts = torch.nn.ModuleList([_Part(member.parts[number].member) for number in self.numbers])

    def forward(self, given: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Indices of items, int64 ``[U, k]``, -1 for no item, and their list scores."""
        users = [part.users(given) for part in self.parts]  # type: ignore[operator]
        log_shares = []
        for number, part, user in zip(self.numbers, self.parts, users, strict=True):
            rows = given["catalogue.keys"][self.member.key_rows[number]]
            own = {**given, "catalogue.keys": rows[:-1], "catalogue.prior": rows[-1]}
            scores = part.retrieval(own, user)  # type: ignore[operator]
            if len(self.parts) > 1:
                scores = torch.log_softmax(scores, 1) + math.log(self.member.parts[number].lists)
            log_shares.append(scores)
        scores = torch.logsumexp(torch.stack(log_shares), 0) if len(log_shares) > 1 else log_shares[0]
        return best_of_scores(given, scores, partial(self._final, given, users) if self.member.ranks else None)

    def _final(self, given: Inputs, users: Sequence[Tensor], items: Tensor, retrieved: Tensor) -> Tensor:
        """List scores ``[U, C]`` of the candidates."""
        wide, total = given["catalogue.vectors"][0][items.flatten()], torch.where(retrieved.isneginf(), 0.0, retrieved)
        for number, part, user in zip(self.numbers, self.parts, users, strict=True):
            own = self.member.parts[number]
            if own.member.ranks:
                listed = {**given, "listed": self.member.part_vectors(number, wide)}
                # The formula of a member is its retrieval score plus the outputs of its ranker, so 0 leaves these.
                added = part.final(listed, user, items, torch.zeros_like(retrieved))  # type: ignore[operator]
                total = total + own.lists * added
        return total


MIXED_SCORE: Final = "log(sum of share * softmax(retrieval)) + sum of share * ranker"
"""The list score of an ensemble, for people."""
MIXED_GRAPHS: Final[Mapping[str, type[Program]]] = {
    "user_vectors": MixedUserVectors,
    "item_vectors": MixedItemVectors,
    "ranker": MixedRanker,
    "recommend": MixedRecommend,
}


def programs_of(member: Member | MixedMember) -> dict[str, tuple[type[Program], tuple[str, ...]]]:
    """The graphs of a member or an ensemble with the names of their outputs.

    Without ranked tasks there is no ranker, and without items the ranker alone.
    """
    if isinstance(member, Member) and not member.shape.has_items:
        return {"ranker": GRAPHS["ranker"]}
    names = {name: found for name, found in GRAPHS.items() if member.tasks or name != "ranker"}
    if isinstance(member, Member):
        return dict(names)
    return {name: (MIXED_GRAPHS[name], outputs) for name, (_, outputs) in names.items()}
