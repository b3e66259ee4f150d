from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feed_run import searched

from evorec.config import RecommenderConfig, load_config, recommender_config
from evorec.data.dataset import Dataset
from evorec.data.encode import Fit
from evorec.data.readers import read
from evorec.data.splits import split
from evorec.deploy.final.finalize import finalize, shipped_model
from evorec.errors import DataError
from evorec.models.baselines import Scorer, baseline_lists, item_item, popularity
from evorec.models.spec import ModelSpec
from evorec.recommender.dataset import encode_tables
from evorec.run.directory import RunDirectory
from evorec.training.evaluate import member_lists
from problems.public import SPLITS

K, USERS, ITEMS = 3, 30, 20
ROUNDING = 1e-12
PRINTED = 6e-5
"""Published with four digits, and equal scores are in another order."""


def config(dataset: str, *overrides: str) -> RecommenderConfig:
    return recommender_config(load_config(problem="public", overrides=[f"dataset={dataset}", *overrides]))


def test_a_split_sets_protocol_and_folder_below_what_a_person_writes() -> None:
    protocols = {
        name: (found.evaluation.k, found.objectives[2], found.finalize.rows, found.training.next_item)
        for name in SPLITS
        for found in [config(name)]
    }
    assert protocols == {
        "gowalla": (20, "catalogue_coverage@k", "train+validation", False),
        "beauty": (10, "catalogue_coverage@k", "train+validation", True),
        "toys": (10, "catalogue_coverage@k", "train+validation", True),
        "lastfm": (10, "catalogue_coverage@k", "train+validation", True),
        "amazon-music": (10, "long_tail_share@k", "train", False),
    }
    assert config("toys").data.path == "public-splits/toys"
    changed = config("amazon-music", "data.path=here", "evaluation.k=5", 'objectives=["recall@k", "cost"]')
    assert (changed.data.path, changed.evaluation.k, changed.objectives) == ("here", 5, ("recall@k", "cost"))
    assert changed.finalize.rows == "train", "a section that a person changes keeps the rest of the split's"


def made_up_rows(folder: Path) -> dict[str, list[tuple[int, int]]]:
    """Rows of three parts: some repeated, some of the test met in training, and an item that only the test has."""
    rng = np.random.default_rng(0)
    parts = {}
    for part, n in {"train": 8, "validation": 2, "test": 3}.items():
        rows = [(user, int(item)) for user in range(USERS) for item in rng.zipf(1.5, n) % ITEMS]
        if part == "test":
            rows.append((0, ITEMS + 7))
        parts[part] = rows
        text = "".join(f"{user}\t{item}\t{100 + number}\n" for number, (user, item) in enumerate(rows))
        (folder / f"{part}.tsv").write_text(text)
    return parts


def plain_metrics(lists: list[list[int]], relevant: list[set[int]], counts: dict[int, int]) -> dict[str, float]:
    """The metrics as they are defined, in loops over users; a user's own mean is never used."""
    total, running, tail = sum(counts.values()), 0, set(range(ITEMS + 8))
    for item in sorted(counts, key=lambda item: (-counts[item], item)):
        running += counts[item]
        if running <= 0.8 * total:
            tail.discard(item)
    recall, ndcg, long_tail = [], [], []
    for listed, wanted in zip(lists, relevant, strict=True):
        gains = [1 / np.log2(rank + 2) for rank, item in enumerate(listed) if item in wanted]
        ideal = sum(1 / np.log2(rank + 2) for rank in range(min(K, len(wanted))))
        recall.append(len(gains) / len(wanted))
        ndcg.append(sum(gains) / ideal)
        long_tail.append(sum(item in tail for item in listed) / K)
    return {"recall@3": np.mean(recall), "ndcg@3": np.mean(ndcg), "long_tail_share@3": np.mean(long_tail)}


def test_the_test_is_measured_as_published_when_validation_only_chooses(tmp_path: Path) -> None:
    parts = made_up_rows(tmp_path)
    settings = config(
        "amazon-music", f"data.path={tmp_path}", f"evaluation.k={K}", "training.steps=5", "constraints=[]",
        "search.population=4", "search.generations=1", "search.surrogate=none", "finalize.seeds=1",
        'finalize.picks=["recall@k"]', "finalize.steps=search",
    )  # fmt: skip
    problem, path = searched(tmp_path / "runs", settings)
    with RunDirectory.open(path) as run:
        report: dict[str, Any] = finalize(run, problem, problem.config.finalize)
        member = report["picks"][0]["member"]
        data, weights, fit = shipped_model(run, problem, member)
    assert (report["fit"], fit, report["settings"]["rows"]) == ("train for test", "train for test", "train")
    assert data.dataset.train.n_rows == len(set(parts["train"])), "no row of validation is trained on"

    masked = [{item for user, item in parts["train"] if user == own} for own in range(USERS)]
    relevant = [{item for user, item in parts["test"] if user == own} for own in range(USERS)]
    counts = {item: sum(item in met for met in masked) for item in set().union(*masked)}
    popular = sorted(counts, key=lambda item: (-counts[item], item))
    lists = [[item for item in popular if item not in met][:K] for met in masked]
    expected = plain_metrics(lists, relevant, counts)
    assert any(masked[user] & relevant[user] for user in range(USERS)), "a positive that is masked is a miss"
    assert {name: report["baselines"]["popularity"][name] for name in expected} == pytest.approx(expected, rel=ROUNDING)

    spec = ModelSpec.from_genes(report["picks"][0]["spec"])
    listed = member_lists(data.stack([spec], [weights]), data.dataset, data.tensors, data.users, settings.evaluation)
    own = [[data.dataset.item_ids[item] for item in one] for one in listed.final[0]]
    expected = plain_metrics(own, relevant, counts)
    assert {name: report["picks"][0]["shipped"][name] for name in expected} == pytest.approx(expected, rel=ROUNDING)


def published(dataset: str, fit: Fit) -> Dataset:
    """The real data, encoded as the problem does."""
    settings = config(dataset)
    try:
        tables = read(settings.data)
    except DataError as missing:
        pytest.skip(str(missing))
    return encode_tables(tables, split(tables, settings.split), settings, fit=fit)


def plain_figures(dataset: Dataset, scorer: Scorer, k: int) -> tuple[int, float, float]:
    """Users, recall and NDCG of a baseline on the test."""
    held_out = dataset.held_out
    relevant: list[set[int]] = [set() for _ in range(dataset.n_users)]
    for user, item in zip(held_out.users.tolist(), held_out.items.tolist(), strict=True):
        relevant[user].add(item)
    users = np.array([user for user, wanted in enumerate(relevant) if wanted])
    lists = baseline_lists(scorer, users, k, masked=dataset.seen, n_items=dataset.n_items)
    hit = np.array([[item in relevant[user] for item in own] for user, own in zip(users, lists.tolist(), strict=True)])
    n, discount = np.array([len(relevant[user]) for user in users]), 1 / np.log2(np.arange(2, k + 2))
    return len(users), (hit.sum(1) / n).mean(), (hit @ discount / np.cumsum(discount)[np.minimum(n, k) - 1]).mean()


@pytest.mark.data
def test_item_knn_has_its_figures_on_lastfm() -> None:
    dataset = published("lastfm", "train+validation")
    scorer = item_item("item_knn", dataset, {"shrinkage": 5.0, "neighbours": 0})
    assert plain_figures(dataset, scorer, 10) == (
        1090,
        pytest.approx(0.0835, abs=PRINTED),
        pytest.approx(0.0426, abs=PRINTED),
    )


@pytest.mark.data
@pytest.mark.slow
def test_popularity_has_its_figures_on_gowalla() -> None:
    dataset = published("gowalla", "train+validation")
    found = plain_figures(dataset, popularity(dataset.history, dataset.n_items), 20)
    assert found == (29_858, pytest.approx(0.0416, abs=PRINTED), pytest.approx(0.0317, abs=PRINTED))


@pytest.mark.data
@pytest.mark.slow
def test_ease_has_its_published_figures_on_amazon_music() -> None:
    dataset = published("amazon-music", "train for test")
    found = plain_figures(dataset, item_item("ease", dataset, {"item_item_l2": 50.0, "neighbours": 0}), 10)
    assert found == (14_354, pytest.approx(0.0948, abs=PRINTED), pytest.approx(0.0756, abs=PRINTED))
