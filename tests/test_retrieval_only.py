"""Logs of positives: searched by retrieval alone, or ranked against negatives that are drawn at random."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from feed_run import searched

from evorec import load_bundle
from evorec.config import RecommenderConfig, load_config
from evorec.data.encode import encode
from evorec.data.readers import read
from evorec.data.splits import split
from evorec.deploy.bundle.export import export_bundle
from evorec.deploy.explanation.explain import explain
from evorec.deploy.final.finalize import finalize
from evorec.errors import ConfigError, DataError
from evorec.objectives import check_metrics
from evorec.recommender.problem import build_problem
from evorec.report.record import read_record
from evorec.report.run_page import page
from evorec.run.directory import RunDirectory
from evorec.serving.bundle import RANKER
from evorec.serving.http import build_app
from evorec.serving.slot import Slot

N_USERS, N_ITEMS, PER_USER = 40, 30, 8
SETTINGS = """
problem = "feed"
constraints = []
[data]
reader = "table"
path = "."
statistics = ["user", "item"]
[data.log]
files = ["log.csv"]
user = "user"
item = "item"
{log}
[split]
kind = "random"
[training]
steps = 6
retrieval_batch = 16
batch_size = 32
[evaluation]
k = 5
candidates = 12
[search]
population = 4
generations = 1
surrogate = "none"
[finalize]
seeds = 1
bootstrap = 100
picks = ["best:recall@k"]
[run]
workers = 1
device = "cpu"
"""


def settings(folder: Path, *overrides: str, log: str = "") -> RecommenderConfig:
    """Each user has met 8 different items of 30; the log has no times, and no labels unless `log` names some."""
    rng = np.random.default_rng(0)
    rows = [(user, item) for user in range(N_USERS) for item in rng.permutation(N_ITEMS)[:PER_USER]]
    (folder / "log.csv").write_text("user,item,click\n" + "".join(f"{user},{item},1\n" for user, item in rows))
    (folder / "my.toml").write_text(SETTINGS.format(log=log))
    config = load_config(folder / "my.toml", overrides=list(overrides))
    assert isinstance(config, RecommenderConfig)
    return config


def test_a_log_of_positives_is_searched_finalized_exported_and_served_without_a_ranker(tmp_path: Path) -> None:
    config = settings(tmp_path)
    assert (config.tasks.ranked, config.tasks.target) == ((), "interaction")
    assert config.objectives == ("recall@k", "catalogue_coverage@k", "cost")
    problem, path = searched(tmp_path, config)
    genes = set(problem.space.names)
    assert not genes & {"task_weights", "mechanism", "balancing", "width", "dropout", "rerank", "popularity_half_life"}
    left_out = "data.statistics: category (default of problem feed) left out"
    assert [text.partition(":")[0] for text in problem.remarks if left_out not in text][1:] == ["Retrieval only"]
    with RunDirectory.open(path) as run:
        report = finalize(run, problem, config.finalize)
        (pick,) = report["picks"]
        assert 0 <= pick["test"]["recall@5"]["mean"] <= 1
        assert not any("/" in name or name == "accuracy" for name in pick["test"])
        bundle = export_bundle(run, problem, pick["member"], tmp_path / "bundle")
        explained = explain(run, problem, pick["member"], repeats=1, seed=0)
    assert "recall@5" in explained.values
    assert "Retrieval only" in page(read_record(path)) or "retrieval only" in page(read_record(path))
    assert not (bundle / RANKER).exists()
    card = (bundle / "README.md").read_text()
    assert problem.tables.sha256() in card
    assert report["data_sha256"] == problem.tables.sha256()
    assert report["rows"]["items"] == problem.size.n_items == N_ITEMS
    assert f"{N_USERS} users, {N_ITEMS} items" in card
    assert "Retrieval model; lists are made for interaction" in card
    assert "The log has no times" in card
    served = load_bundle(bundle)
    (listed,) = served.recommend([3], k=4)
    scores = served.score(3, [item for item, _ in listed])
    assert [entry["score"] for entry in scores] == pytest.approx([score for _, score in listed], abs=1e-4)
    assert [set(entry) for entry in scores] == [{"score"}] * 4
    slot = Slot(bundle, load_bundle)
    slot.open()
    client = TestClient(build_app(slot))
    (over_http,) = client.post("/recommend", json={"users": [{"id": 3}], "k": 4}).json()["lists"]
    assert [entry["item"] for entry in over_http["items"]] == [item for item, _ in listed]
    (scored,) = client.post("/score", json={"user": {"id": 3}, "items": [listed[0][0]]}).json()["items"]
    assert scored["predictions"] == {}
    assert client.get("/info").json()["tasks"] == []


def test_a_label_that_is_always_1_is_refused_with_the_keys_to_set(tmp_path: Path) -> None:
    labelled = 'tasks = { click = "click" }'
    ranked = ("tasks.ranked=['click']", "tasks.target=click")
    with pytest.raises(
        DataError, match=r'tasks\.ranked = \[\], tasks\.target = "click" and objectives without accuracy'
    ):
        build_problem(settings(tmp_path, *ranked, log=labelled))
    config = settings(tmp_path, "tasks.ranked=[]", "tasks.target=click", log=labelled)
    assert "accuracy" not in config.objectives  # those of the problem; its own settings are kept
    assert build_problem(config).data.dataset.tasks == ()
    for key in ("objectives", "finalize.picks"):
        names = ["accuracy", "recall@k"] if key == "objectives" else ["best:accuracy"]
        with pytest.raises(ConfigError, match=rf"{key}: accuracy needs a ranked task.*tasks\.sampled_negatives"):
            check_metrics(settings(tmp_path, f"{key}={json.dumps(names)}"))
    with pytest.raises(ConfigError, match=r"auc/click needs a ranked task"):
        check_metrics(settings(tmp_path, 'objectives=["auc/click", "cost"]'))


def test_sampled_negatives_are_rows_of_the_ranker_alone_that_no_user_has_met(tmp_path: Path) -> None:
    ranked = ("tasks.ranked=['interaction']", 'objectives=["accuracy", "recall@k"]')
    config = settings(tmp_path, *ranked, "tasks.sampled_negatives=3")
    tables = read(config.data)
    rows = split(tables, config.split)

    def encoded(**options: Any) -> Any:
        return encode(tables, rows, tasks=["interaction"], target="interaction", fit="train", **options)

    found, again, other = (encoded(negatives=3, seed=seed) for seed in (0, 0, 1))
    plain = encode(tables, rows, tasks=[], target="interaction", fit="train")
    n, n_held = plain.train.n_rows, plain.held_out.n_rows
    assert (found.train.n_rows, found.held_out.n_rows) == (4 * n, 4 * n_held)
    np.testing.assert_array_equal(found.train.items, again.train.items)
    assert found.sha256 == again.sha256 != other.sha256
    assert not np.array_equal(found.train.items, other.train.items)
    for part, first in ((found.train, n), (found.held_out, n_held)):
        np.testing.assert_array_equal(part.labels[:first], 1)
        np.testing.assert_array_equal(part.labels[first:], 0)
        assert not (part.target[first:] > 0).any()
        assert not found.seen.contains(part.users[first:], part.items[first:]).any()
    met = {*zip(plain.held_out.users, plain.held_out.items, strict=True)}
    assert not met & {*zip(found.held_out.users[n_held:], found.held_out.items[n_held:], strict=True)}
    for name in ("item_counts", "target_counts", "history_rows"):
        np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))
    np.testing.assert_array_equal(found.relevant.indices, plain.relevant.indices)
    assert found.notes["n_sampled_negatives"] == 3 * n_held
    problem = build_problem(config)
    assert [text for text in problem.remarks if "sampled negatives, 3 items per positive" in text]
    (outcome,) = problem.evaluate([problem.space.decode(problem.space.default())], seed=0)
    assert outcome.metrics is not None
    assert 0 < outcome.metrics["auc/interaction"] < 1
    with pytest.raises(ConfigError, match="sampled_negatives are for binary tasks, and ranked has none"):
        settings(tmp_path, "tasks.sampled_negatives=3")
