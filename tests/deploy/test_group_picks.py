"""Metrics and picks for groups of users, against a plain computation from the log."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from feed_run import K, config, positives, recommended, searched

from evorec.archive.decide import choose
from evorec.cli import main
from evorec.data.splits import split
from evorec.data.tables import Columns
from evorec.deploy.final import groups
from evorec.deploy.final.groups import measure_groups
from evorec.errors import ConfigError, DataError
from evorec.models.spec import ModelSpec
from evorec.recommender.problem import RecProblem
from evorec.run.directory import RunDirectory

RECALL = f"recall@{K}"
ROUNDING = 1e-12  # a mean over users, added up in another order


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[RecProblem, Path]:
    return searched(tmp_path_factory.mktemp("groups"), config())


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "FEWEST_USERS", 4)


def recall_of_users(problem: RecProblem, opened: RunDirectory, key: str) -> dict[int | str, float]:
    """Recall of each user with a click in validation, from the lists of the stored member."""
    spec = next(ModelSpec.from_genes(member.spec) for member in opened.members() if member.key == key)
    data = problem.data.with_all_users()
    lists = recommended(data, data.stack([spec], [opened.read_weights(key)]))
    relevant = positives(problem, "validation")
    return {
        user: sum(item in relevant[user] for item, _ in items[:K]) / len(relevant[user])
        for user, items in lists.items()
        if user in relevant
    }


def test_a_group_has_the_mean_of_its_users(run: tuple[RecProblem, Path]) -> None:
    problem, path = run
    assert problem.tables.users is not None
    segment = dict(problem.tables.users.select(Columns.USER, "segment").iter_rows())
    with RunDirectory.open(path, read_only=True) as opened:
        everyone, *found = measure_groups(opened, problem, "segment")
        for key in everyone.members:
            recall = recall_of_users(problem, opened, key)
            assert everyone.members[key][RECALL] == pytest.approx(np.mean(list(recall.values())), abs=ROUNDING)
            sizes = Counter(segment[user] for user in recall)
            assert [group.group for group in found] == [f"segment {s}" for s in sorted(sizes) if sizes[s] >= 4]
            for group in found:
                own = [value for user, value in recall.items() if f"segment {segment[user]}" == group.group]
                assert group.n_users == len(own)
                assert group.members[key][RECALL] == pytest.approx(np.mean(own), abs=ROUNDING)
                assert group.members[key]["training_flops"] == everyone.members[key]["training_flops"]


def test_thirds_by_activity_rise_in_the_number_of_training_clicks(run: tuple[RecProblem, Path]) -> None:
    problem, path = run
    log = problem.tables.interactions[split(problem.tables, problem.config.split).train]
    clicks = Counter(log.filter(log["click"] == 1)[Columns.USER].to_list())
    with RunDirectory.open(path, read_only=True) as opened:
        everyone, *thirds = measure_groups(opened, problem, "activity")
        key = next(iter(everyone.members))
        recall = recall_of_users(problem, opened, key)
    assert [group.group for group in thirds] == list(groups.THIRDS)
    assert sum(group.n_users for group in thirds) == everyone.n_users == len(recall)
    assert max(group.n_users for group in thirds) - min(group.n_users for group in thirds) <= 1
    order = sorted(recall, key=lambda user: clicks[user])
    if clicks[order[thirds[0].n_users - 1]] < clicks[order[thirds[0].n_users]]:  # no tie at the first border
        few = np.mean([recall[user] for user in order[: thirds[0].n_users]])
        assert thirds[0].members[key][RECALL] == pytest.approx(few, abs=ROUNDING)


def test_a_pick_is_followed_for_each_group(run: tuple[RecProblem, Path], capsys: pytest.CaptureFixture[str]) -> None:
    problem, path = run
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*.json")}
    pick = ["--pick", "recall", "--groups", "activity"]
    assert main(["front", str(path), *pick, "--format", "json"]) == 0
    value = json.loads(capsys.readouterr().out)
    with RunDirectory.open(path, read_only=True) as opened:
        measured = measure_groups(opened, problem, "activity")
    expected = [choose(["recall"], group.members, problem.objectives, K)["recall"] for group in measured]
    assert [row["member"] for row in value["picks"]] == expected
    assert [row["group"] for row in value["picks"]] == ["all users", *groups.THIRDS]
    assert main(["front", str(path), *pick]) == 0
    assert "recall, by group on validation data" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*.json")} == before
    assert main(["front", str(path), "--groups", "activity"]) == ConfigError.exit_code
    assert "--groups activity needs a pick" in capsys.readouterr().err


def test_a_column_that_makes_no_groups_is_refused(
    run: tuple[RecProblem, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, path = run
    with RunDirectory.open(path, read_only=True) as opened:
        with pytest.raises(DataError, match=r"--groups must be a column of the users of .*; got 'city'"):
            measure_groups(opened, problem, "city")
        monkeypatch.setattr(groups, "FEWEST_USERS", 1000)
        with pytest.raises(ConfigError, match=r"two or more groups of 1000 or more users .*, got 0 such groups of"):
            measure_groups(opened, problem, "segment")
