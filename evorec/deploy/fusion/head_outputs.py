"""Outputs of a trained member for each candidate of many users, computed once: retrieval score and every head.

Formulas are evolved on these arrays; the model itself is not run again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import numpy.typing as npt
import torch

from evorec.data.dataset import Csr, Dataset
from evorec.data.held_out import RankingUsers
from evorec.deploy.fusion.formula import RETRIEVAL, identifier
from evorec.errors import RunError
from evorec.metrics.lists import NO_ITEM
from evorec.models.rerank import RankerInputs, ranker_logits
from evorec.models.spec import ModelSpec
from evorec.recommender.encoding import EncodedData
from evorec.training.evaluate import member_lists

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


@final
@dataclass(frozen=True)
class HeadOutputs:
    """Retrieval scores and head outputs of a member.

    Attributes:
        items: candidates by ascending id, int64 ``(U, C)``, so that ties by column are ties by item id; `NO_ITEM` at
            the end where there are fewer.
        retrieval: retrieval scores, float32 ``(U, C)``, 0 without an item.
        logits: raw head outputs, float32 ``(T, U, C)``.
        tasks: names, ``(T,)``.
        is_binary: for each task whether its labels are 0 and 1.
    """

    items: Int64
    retrieval: Float32
    logits: Float32
    tasks: tuple[str, ...]
    is_binary: tuple[bool, ...]

    def select(self, users: Int64) -> HeadOutputs:
        """Some of the users, by their rows."""
        return replace(self, items=self.items[users], retrieval=self.retrieval[users], logits=self.logits[:, users])

    def values(self) -> dict[str, Float32]:
        """Float32 ``(U, C)`` by variable of a formula; a regression task has no probability."""
        out = {RETRIEVAL: self.retrieval}
        for task, binary, logit in zip(self.tasks, self.is_binary, self.logits, strict=True):
            name = identifier(task)
            if binary:
                with np.errstate(over="ignore"):  # exp(89) is inf in float32, and 1 / (1 + inf) is 0
                    out[f"p_{name}"] = (1 / (1 + np.exp(-logit))).astype(np.float32)
            out[f"z_{name}"] = logit
        return out


def head_outputs(
    encoded: EncodedData, spec: ModelSpec, weights: Mapping[str, npt.NDArray[np.generic]], users: RankingUsers
) -> HeadOutputs:
    """Candidates of the given users with the scores of both stages.

    Args:
        encoded: the data that the member was trained on.
        spec: of the member; whether it re-ranks makes no difference.
        weights: its arrays.
        users: U >= 2 users.
    Raises:
        RunError: a score is not finite.
    """
    dataset, data, evaluation = encoded.dataset, encoded.tensors, encoded.config.evaluation
    n_candidates = evaluation.n_candidates(dataset.n_items)
    population = encoded.stack([replace(spec, rank_blend=0.0)], [weights])  # lists in the order of retrieval
    lists = member_lists(population, dataset, data, users, evaluation.model_copy(update={"k": n_candidates}))
    order = np.argsort(np.where(lists.final[0] == NO_ITEM, dataset.n_items, lists.final[0]), axis=1, kind="stable")
    items = np.take_along_axis(lists.final[0], order, axis=1)
    scores = np.take_along_axis(lists.scores[0], order, axis=1)
    with torch.no_grad():
        block, ids = population.kernel_groups[0], torch.tensor(users.ids, device=data.device)
        catalogue = torch.arange(dataset.n_items, device=data.device)
        inputs = RankerInputs(
            block.vectors(data.users.select(ids))[0],
            block.vectors(data.items.select(catalogue))[0],
            block.vectors(data.context_bag(torch.tensor(dataset.context_mode[None, :], device=data.device)))[0, :, 0],
            data.user_statistics[ids],
            data.item_statistics[catalogue],
            data.history.select(ids),
        )
        logits = ranker_logits(block, 0, inputs, torch.tensor(np.maximum(items, 0), device=data.device)).cpu().numpy()
    out = HeadOutputs(
        items,
        np.where(items == NO_ITEM, 0.0, scores).astype(np.float32),
        logits.astype(np.float32),
        dataset.tasks,
        tuple(kind == "binary" for kind in dataset.kinds),
    )
    if not (np.isfinite(out.retrieval).all() and np.isfinite(out.logits).all()):
        raise RunError("the member gives scores that are not finite, so no formula of them is; choose another member")
    return out


def task_positives(dataset: Dataset, users: Int64) -> dict[str, Csr]:
    """Held-out positives of every ranked binary task except the target, on items of the catalogue.

    Args:
        users: ids, int64 ``(U,)``.
    Returns:
        A row of items per user, by task; only tasks with a positive among these users.
    """
    part, out = dataset.held_out, {}
    for column, (task, kind) in enumerate(zip(dataset.tasks, dataset.kinds, strict=True)):
        if kind != "binary" or task == dataset.target:
            continue
        positive = (part.labels[:, column] > 0) & (part.items < dataset.n_items)
        found = Csr.from_pairs(part.users[positive], part.items[positive], n_rows=dataset.n_users + 1).select(users)
        if len(found.indices):
            out[task] = found
    return out
