"""Checks of a bundle against the trained member: graphs against torch, lists against the member of the archive."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evorec.data.encode import Fit, rows_of_fit
from evorec.data.held_out import RankingUsers, masked_items
from evorec.data.splits import split
from evorec.deploy.bundle.graphs import Exported, Member, catalogue_inputs, example_inputs
from evorec.deploy.bundle.mixed_graphs import MixedMember, programs_of
from evorec.errors import RunError
from evorec.models.recommend import Lists
from evorec.models.spec import ModelSpec
from evorec.recommender.encoding import EncodedData
from evorec.recommender.problem import RecProblem
from evorec.seeds import generator
from evorec.serving.graph import Graph
from evorec.serving.queries import ListOptions
from evorec.serving.recommender import NO_ITEM, Recommender
from evorec.serving.rows import RowScorer
from evorec.training.evaluate import task_logits

PARITY: Final = 1e-5
"""Largest difference of torch and onnxruntime, relative to numbers above 1."""
SAME_SCORE: Final = 1e-4
"""Allowed difference of scores: float32 adds the same numbers in another order, and scores are about 10."""
SIZES: Final = (1, 2, 7, 64)
"""Users, items or pairs of a parity check."""
CHECKED_USERS: Final = 500
REQUESTS: Final = 200


class BundleDiffersError(RunError):
    """A bundle does not answer as the trained model does, and must not be served."""


def parity(folder: Path, member: Member | MixedMember) -> dict[str, float]:
    """Largest difference between each graph in torch and in onnxruntime, over random and edge inputs.

    Args:
        folder: with the graphs.
        member: of the graphs.
    Raises:
        BundleDiffersError: a difference is above `PARITY`.
    """
    out = {}
    for name, (program, _) in programs_of(member).items():
        graph, session = program(member).eval(), Graph(folder / f"{name}.onnx")
        worst = 0.0
        for inputs in _cases(member, name):
            more = catalogue_inputs(member) if name == "recommend" else {}
            with torch.no_grad():
                expected = graph({**inputs, **more})
            found = session({key: tensor.numpy() for key, tensor in inputs.items()})
            expected = expected if isinstance(expected, tuple) else (expected,)
            for position, (own, other) in enumerate(zip(expected, found, strict=True)):
                if own.is_floating_point():  # items of equal score may be in either order
                    unit = units(member.number_scales) if (name, position) == ("ranker", 0) else 1.0
                    worst = max(worst, _difference(own.numpy() / unit, other / unit))
        if worst > PARITY:
            raise BundleDiffersError(
                f"{name}.onnx differs from the trained model by {worst:.2g}, allowed is {PARITY:g}"
            )
        out[name] = worst
    return out


def _cases(member: Exported, graph: str) -> Iterator[Mapping[str, Tensor]]:
    """Random inputs of several sizes, and edge cases: empty bags, first and last rows, only a few allowed items."""
    n_items = member.shape.n_items
    for n in SIZES:
        case = example_inputs(member, graph, n=n, n_items=n_items, seed=n)
        yield case
        yield {name: torch.zeros_like(t) if t.is_floating_point() else t for name, t in case.items()}
        last = member.shape.n_rows - 1
        yield {name: torch.full_like(t, last) if name.endswith("_rows") else t for name, t in case.items()}
        if graph == "recommend":
            allowed = torch.zeros(n_items, dtype=torch.bool)
            allowed[: min(3, n_items)] = True
            yield {**case, "allowed": allowed}
            yield {**case, "excluded": torch.full((n, 1), -1)}


def units(number_scales: Sequence[tuple[float, float] | None]) -> npt.NDArray[np.float32]:
    """Size of the predictions of each task, ``(T,)``: rounding errors of a number grow with its shift and scale."""
    sizes = [1.0 if scale is None else max(1.0, *map(abs, scale)) for scale in number_scales]
    return np.array(sizes, dtype=np.float32)


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    finite = np.isfinite(one)
    if not np.array_equal(finite, np.isfinite(other)):
        return float("inf")
    return float((np.abs(one[finite] - other[finite]) / np.maximum(1.0, np.abs(one[finite]))).max(initial=0.0))


def same_lists(
    recommender: Recommender, encoded: EncodedData, listed: Callable[[RankingUsers], Lists]
) -> dict[str, float]:
    """Compare the lists of a bundle with those of its member or ensemble, user by user.

    Args:
        recommender: the bundle.
        encoded: the data of the models.
        listed: lists of the trained models for some users, without an axis P.
    Returns:
        ``n_users`` with compared lists; ``n_equal`` of them with equal lists, while the lists of the others differ in
        items of equal score, up to rounding; ``largest_difference`` of the scores at the same rank.
    Raises:
        BundleDiffersError: scores at the same rank differ by more than rounding errors.
    """
    dataset, evaluation = encoded.dataset, encoded.config.evaluation
    ids = np.arange(dataset.n_users)
    if len(ids) > CHECKED_USERS:
        ids = np.sort(generator(encoded.config.search.seed, "export check").choice(ids, CHECKED_USERS, replace=False))
    users = RankingUsers(ids, masked_items(dataset, evaluation).select(ids), dataset.relevant.select(ids))
    own = listed(users)
    found = recommender.index_lists(dataset.user_ids[ids].tolist(), ListOptions(k=evaluation.k, mmr=0.0))
    spare = ((0, 0), (0, evaluation.k - found.items.shape[1]))  # a small catalogue gives shorter lists
    items = np.pad(found.items, spare, constant_values=NO_ITEM)
    scores = np.pad(found.scores, spare, constant_values=-np.inf)
    expected, real = own.scores.astype(np.float64), np.isfinite(own.scores)
    if not np.array_equal(real, items != NO_ITEM):
        raise BundleDiffersError("the exported graph lists another number of items than the member of the archive")
    worst = float(np.abs(np.where(real, expected, 0) - np.where(real, scores, 0)).max(initial=0.0))
    if worst > SAME_SCORE * max(1.0, float(np.abs(expected[real]).max(initial=0.0)) / 10):
        raise BundleDiffersError(
            f"the exported graph scores items by {worst:.2g} differently from the member of the archive"
        )
    n_equal = int((own.final == items).all(axis=1).sum())
    return {"n_users": len(ids), "n_equal": n_equal, "largest_difference": worst}


def same_predictions(
    scorer: RowScorer,
    problem: RecProblem,
    encoded: EncodedData,
    spec: ModelSpec,
    weights: Mapping[str, np.ndarray],
    fit: Fit,
) -> dict[str, float]:
    """Compare the predictions of a bundle for raw held-out rows with those of its member.

    Returns:
        ``n_rows`` and the ``largest_difference``, relative to numbers above 1 and to the unit of the label.
    Raises:
        BundleDiffersError: predictions differ by more than rounding errors.
    """
    parts = split(problem.tables, encoded.config.split)
    held_out = rows_of_fit(parts, fit)[1]
    some = np.arange(len(held_out))
    if len(some) > CHECKED_USERS:
        some = np.sort(generator(encoded.config.search.seed, "export check").choice(some, CHECKED_USERS, replace=False))
    raw = problem.tables.interactions[held_out[some]].select(scorer.features).to_dicts()
    found = scorer.predictions(raw)
    dataset = encoded.dataset
    logits = task_logits(encoded.stack([spec], [weights]), encoded.tensors, dataset.held_out.rows(some))[0]
    expected = np.stack([
        1 / (1 + np.exp(-own.astype(np.float64))) if kind == "binary" else shift + scale * own
        for own, kind, shift, scale in zip(
            logits, dataset.kinds, dataset.label_shift, dataset.label_scale, strict=True
        )
    ], axis=1)  # fmt: skip
    scales = zip(dataset.label_shift, dataset.label_scale, strict=True)
    unit = units([(float(shift), float(scale)) for shift, scale in scales])
    worst = _difference(expected / unit, found / unit)
    if not worst <= SAME_SCORE:
        raise BundleDiffersError(f"the bundle predicts rows by {worst:.2g} differently from the member of the archive")
    return {"n_rows": len(some), "largest_difference": worst}


def list_loss(full: Recommender, small: Recommender, users: Sequence[int | str]) -> float:
    """Share of the listed items that a smaller graph no longer lists for the same user, 0..1."""
    one, other = (side.index_lists(users, ListOptions(mmr=0.0)).items for side in (full, small))
    kept = (one[:, :, None] == other[:, None, :]).any(axis=2)
    return float(1 - kept[one != NO_ITEM].mean())


def request_seconds(recommender: Recommender, users: Sequence[int | str]) -> npt.NDArray[np.float64]:
    """Seconds of a list for each user ``(U,)``, asked one after the other; the first request is not timed."""
    recommender.recommend(users[:1])
    seconds = []
    for user in users:
        start = time.perf_counter()
        recommender.recommend([user])
        seconds.append(time.perf_counter() - start)
    return np.array(seconds)


def latency_text(recommender: Recommender, users: Sequence[int | str]) -> str:
    """Time of a list for a single user, and of lists in batches, on this machine with a single thread, in words.

    It is not part of a bundle: the same member makes the same bytes.

    Args:
        recommender: to be timed.
        users: ids.
    """
    asking = [users[i % len(users)] for i in range(REQUESTS)]
    seconds = request_seconds(recommender, asking)
    start = time.perf_counter()
    recommender.recommend(asking)
    batch = time.perf_counter() - start
    p50, p99 = np.percentile(seconds * 1000, [50, 99])
    return (
        f"a list for a single user: {p50:.2f} ms (median), {p99:.2f} ms (99 % of {REQUESTS} requests); "
        f"{REQUESTS / batch:,.0f} lists per second in batches; a single thread of this machine"
    )
