"""Ensembles of a tiny archive: selected, measured, shown and finalized, against plain averages."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feed_run import config, final_fit, searched
from sklearn.metrics import roc_auc_score

from evorec.cli import main
from evorec.config import EnsembleConfig, FinalizeConfig
from evorec.deploy.ensemble.outputs import StoredMembers, list_scores
from evorec.deploy.ensemble.select import Halves, select_ensembles
from evorec.deploy.final.finalize import finalize
from evorec.errors import ConfigError, RunError
from evorec.models.spec import ModelSpec
from evorec.recommender.encoding import EncodedData
from evorec.recommender.problem import RecProblem
from evorec.report.ensemble_tables import ensemble_text
from evorec.report.record import read_record
from evorec.report.run_page import page
from evorec.report.run_tables import front_table
from evorec.run.atomic import read_sealed, write_sealed
from evorec.run.directory import RunDirectory
from evorec.training.evaluate import mixture_lists, task_logits

FLOAT32 = 1e-5  # a mean of float32 numbers, rounded once more


@dataclass(frozen=True)
class Selected:
    """A finished search and its ensembles."""

    problem: RecProblem
    path: Path
    report: dict[str, Any]

    def copy(self, folder: Path) -> Path:
        shutil.copytree(self.path, folder / self.path.name)
        return folder / self.path.name


@pytest.fixture(scope="module")
def selected(tmp_path_factory: pytest.TempPathFactory) -> Selected:
    search = {"population": 8, "generations": 2, "seed": 1}
    settings = config(evaluation={"max_users": 50}, training={"steps": 40}, search=search)
    problem, path = searched(tmp_path_factory.mktemp("runs"), settings)
    with RunDirectory.open(path) as run:
        report = select_ensembles(run, problem, EnsembleConfig(members=3))
    assert report["ensembles"], "no ensemble of this tiny run helps; change its seed"
    return Selected(problem, path, report)


def aucs(
    encoded: EncodedData, ensemble: dict[str, Any], specs: dict[str, ModelSpec], weights: dict[str, Any]
) -> dict[str, float]:
    """scikit-learn's AUC of the weighted mean of the members' logits, each member computed by itself."""
    rows, held = ensemble["members"], encoded.dataset.held_out
    stacks = [encoded.stack([specs[row["key"]]], [weights[row["key"]]]) for row in rows]
    logits = [task_logits(own, encoded.tensors, encoded.dataset.held_out)[0] for own in stacks]
    mean = sum(row["tasks"] * own for row, own in zip(rows, logits, strict=True))
    tasks = zip(encoded.dataset.tasks, held.labels.T, mean, strict=True)
    out = {f"auc/{task}": float(roc_auc_score(labels, own)) for task, labels, own in tasks}
    return out | {"accuracy": float(np.mean(list(out.values())))}


def search_weights(selected: Selected) -> tuple[dict[str, ModelSpec], dict[str, Any]]:
    with RunDirectory.open(selected.path, read_only=True) as run:
        specs = {member.key: ModelSpec.from_genes(member.spec) for member in run.members()}
        return specs, {key: run.read_weights(key) for key in specs}


def test_metrics_are_those_of_the_averaged_outputs_and_costs_are_sums(selected: Selected) -> None:
    problem, (specs, weights) = selected.problem, search_weights(selected)
    data = problem.data
    with RunDirectory.open(selected.path, read_only=True) as run:
        metrics = {member.key: member.metrics for member in run.members()}
    best = {goal: max(found[goal] for found in metrics.values()) for goal in selected.report["goals"]}
    improved = set()
    for found in selected.report["ensembles"]:
        for name, value in aucs(data, found, specs, weights).items():
            assert found["metrics"][name] == pytest.approx(value, abs=FLOAT32)
        keys = [row["key"] for row in found["members"]]
        shares = [row["lists"] for row in found["members"]]
        lists = mixture_lists(
            data.stack([specs[k] for k in keys], [weights[k] for k in keys]), shares, data.dataset, data.tensors,
            data.users, data.config.evaluation,
        )  # fmt: skip
        relevant = [set(data.users.relevant.row(row).tolist()) for row in range(len(lists.final))]
        shares = [len(own & {*row}) / len(own) for own, row in zip(relevant, lists.final.tolist(), strict=True)]
        recall = np.mean(shares)
        assert found["metrics"]["recall@5"] == pytest.approx(recall)
        for cost in ("training_flops", "inference_flops", "parameters", "model_bytes"):
            assert found["metrics"][cost] == sum(metrics[key][cost] for key in keys)
        for use in ("tasks", "lists"):
            assert sum(row[use] for row in found["members"]) == pytest.approx(1)
        assert 2 <= len(keys) <= 3
        improved |= {goal for goal, value in best.items() if found["metrics"][goal] > value}
    assert improved
    for row in selected.report["held"]:
        assert row["gain"] == pytest.approx(np.mean(row["halves"]))
        assert row["kept"] == (row["gain"] > 0)


def test_the_halves_share_no_user_and_no_row(selected: Selected) -> None:
    halves, dataset = Halves(selected.problem, 0), selected.problem.data.dataset
    (_, all_users, _), (first, users, held), (second, others, _) = halves.parts
    assert sorted([*first, *second]) == list(range(dataset.held_out.n_rows))
    assert sorted([*users, *others]) == all_users.tolist()
    ids, known = dataset.held_out.users, dataset.n_users
    assert not {*ids[first]} & {*ids[second]} - {known}
    assert len(held.users.ids) == len(users) == held.lists.n_users
    assert abs(len(users) - len(others)) < len(all_users) / 2


def test_pooled_lists_are_the_lists_of_the_whole_catalogue(selected: Selected) -> None:
    # The pool has 25 items of each member, of a catalogue of 50, so no list can miss an item of any weight.
    problem, (specs, _) = selected.problem, search_weights(selected)
    data = problem.data
    with RunDirectory.open(selected.path, read_only=True) as run:
        members = StoredMembers(problem, run, specs)
        keys = list(specs)[:4]
        scores = list_scores(members, keys)
        for counts in ({keys[0]: 1}, {keys[0]: 1, keys[1]: 3}, dict.fromkeys(keys, 1)):
            weights = [count / sum(counts.values()) for count in counts.values()]
            exact = mixture_lists(
                members.stack(list(counts)), weights, data.dataset, data.tensors, data.users, data.config.evaluation
            )
            agree = (scores.lists(counts) == exact.final).mean()
            assert agree == 1.0


def test_picks_choose_from_all_combinations(selected: Selected, tmp_path: Path) -> None:
    picks = ("accuracy where members <= 2", "weights accuracy=1 recall=1")
    with RunDirectory.open(selected.copy(tmp_path)) as run:
        report = select_ensembles(run, selected.problem, EnsembleConfig(picks=picks, members=3))
    found = {text: row for row in report["ensembles"] for text in row["best"]}
    assert set(found) == set(picks)
    assert len(found[picks[0]]["members"]) == 2
    wanted = max(row["metrics"]["accuracy"] for row in selected.report["ensembles"] if len(row["members"]) == 2)
    assert found[picks[0]]["metrics"]["accuracy"] >= wanted


def test_front_report_and_commands_show_them(selected: Selected, tmp_path: Path, capsys: Any) -> None:
    path = selected.copy(tmp_path)
    record = read_record(path, check=True)
    kinds = {row.name: row.kind for row in front_table(record).rows}
    keys = [found["key"] for found in selected.report["ensembles"]]
    assert {kinds[key] for key in keys} == {"ensemble"}
    assert all(key in page(record) for key in keys)
    assert f"{len(keys)} ensemble" in ensemble_text(record)
    assert main(["ensemble", str(path), "--members", "2", "--format", "json", "-q"]) == 0
    smaller = json.loads(capsys.readouterr().out)
    assert {len(row["members"]) for row in smaller["ensembles"]} == {2}
    assert main(["front", str(path), "--format", "json", "-q"]) == 0
    shown = [row["member"] for row in json.loads(capsys.readouterr().out)["front"] if row["kind"] == "ensemble"]
    assert sorted(shown) == sorted(row["key"] for row in smaller["ensembles"])


def test_finalize_measures_them_with_the_models_of_each_seed(selected: Selected, tmp_path: Path) -> None:
    path, problem = selected.copy(tmp_path), selected.problem
    settings = FinalizeConfig(
        picks=("accuracy",), seeds=2, bootstrap=100, ensembles=True, boosting=False, steps="search"
    )
    with RunDirectory.open(path) as run:
        report = finalize(run, problem, settings)
        specs = {member.key: ModelSpec.from_genes(member.spec) for member in run.members()}
        trained = {row["key"] for found in report["ensembles"] for row in found["members"]}
        weights = {key: run.read_final_weights(key) for key in trained}
        assert finalize(run, problem, settings) == report
        with pytest.raises(RunError, match=r"this call asks for .* with 2 seeds"):
            finalize(run, problem, settings.model_copy(update={"ensembles": False}))
        assert select_ensembles(run, problem, EnsembleConfig(members=3))["ensembles"] == selected.report["ensembles"]
        with pytest.raises(RunError, match="was opened, so its members and ensembles are chosen"):
            select_ensembles(run, problem, EnsembleConfig(members=2))
    final = final_fit(problem, report["seeds"][0])
    encoded = final.data
    assert [found["ensemble"] for found in report["ensembles"]] == [row["key"] for row in selected.report["ensembles"]]
    for found in report["ensembles"]:
        for name, value in aucs(encoded, found, specs, weights).items():
            assert found["shipped"][name] == pytest.approx(value, abs=FLOAT32)
        costs = [final.cost(specs[row["key"]], steps=row["steps"])["training_flops"] for row in found["members"]]
        assert found["test"]["training_flops"]["mean"] == sum(costs)
        assert set(found["against"]) == set(report["baselines"])
        interval = found["interval"]["auc/click"]
        assert interval["low"] < found["shipped"]["auc/click"] < interval["high"]
    assert all(found["ensemble"] in page(read_record(path, check=True)) for found in report["ensembles"])


def test_bad_input_is_refused_with_a_reason(selected: Selected, tmp_path: Path) -> None:
    path, problem = selected.copy(tmp_path), selected.problem
    with RunDirectory.open(path) as run:
        for goal, words in (("training_flops", "a metric of tasks or lists"), ("diversty", "is not a metric")):
            with pytest.raises(ConfigError, match=words):
                select_ensembles(run, problem, EnsembleConfig(goals=(goal,)))
        with pytest.raises(ConfigError, match=r"members <= 1 is reached by no member"):
            select_ensembles(run, problem, EnsembleConfig(picks=("accuracy where members <= 1",)))
    stored = read_sealed(path / "ensembles.json")
    others = [key for key in stored["archive"] if key != stored["ensembles"][0]["members"][0]["key"]]
    write_sealed(path / "ensembles.json", {**stored, "archive": others})
    with RunDirectory.open(path) as run, pytest.raises(RunError, match="members of another archive"):
        run.read_ensembles()
    weights = path / "archive" / selected.report["archive"][0] / "weights.safetensors"
    weights.unlink()
    with RunDirectory.open(path) as run, pytest.raises(RunError, match=r"has lost archive/.* restores it"):
        select_ensembles(run, problem, EnsembleConfig())


def test_a_single_member_is_no_ensemble(tmp_path: Path) -> None:
    problem, path = searched(tmp_path, config(objectives=["accuracy"], search={"population": 4, "generations": 1}))
    with RunDirectory.open(path) as run:
        with pytest.raises(RunError, match=r"an ensemble needs 2 members, and run .* has 1 in its archive"):
            select_ensembles(run, problem, EnsembleConfig())
        report = finalize(run, problem, FinalizeConfig(seeds=1, bootstrap=100, ensembles=True, boosting=False))
    assert "ensembles" not in report
