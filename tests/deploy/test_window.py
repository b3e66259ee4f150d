"""A bundle has on the test the figures of its model, and the command follows the verdict of the gate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import exported
import numpy as np
import pytest
from exported import Made

from evorec.cli import main
from evorec.deploy.gate import Verdict
from evorec.deploy.window import against, list_metrics
from evorec.errors import ConfigError, RunError
from evorec.models.spec import ModelSpec
from evorec.run.directory import RunDirectory
from evorec.serving.model_folder import ModelFolder


@pytest.fixture
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return exported.finalized(tmp_path_factory.getbasetemp())[0]


def test_the_lists_of_a_bundle_have_the_figures_of_its_model(made: Made) -> None:
    with RunDirectory.open(made.run, read_only=True) as run:
        weights = run.read_final_weights(made.key)
    data = made.encoded
    (expected,) = data.measure(data.stack([ModelSpec.from_genes(made.genes)], [weights]))
    found = list_metrics(made.recommender, data)
    assert found.per_user
    for name, values in found.per_user.items():
        np.testing.assert_allclose(values, expected.per_user[name], rtol=1e-12, err_msg=name)
    assert any(values.any() for values in found.per_user.values())


def test_items_that_the_data_do_not_have_hit_nobody(made: Made) -> None:
    data, other = made.encoded, exported.load_bundle(made.bundle)
    ids = other.catalogue.ids.ids
    coverage = "catalogue_coverage@5"
    before = list_metrics(other, data).values[coverage]
    ids[1:] = [f"other {item}" for item in ids[1:]]
    assert 0 < list_metrics(other, data).values[coverage] == 1 / data.dataset.n_items < before


def test_a_champion_against_itself_holds(made: Made) -> None:
    recall = f"recall@{made.problem.config.evaluation.k}"
    with RunDirectory.open(made.run, read_only=True) as run:
        found = against(made.recommender, made.recommender, run, made.problem, target=recall)
        assert (found.verdict, found.comparisons[0].outcome) == (Verdict.HOLD, "tie")
        first = against(None, made.recommender, run, made.problem, target=recall)
        assert first.verdict in (Verdict.PROMOTE, Verdict.REJECT)
        with pytest.raises(ConfigError, match="nothing has no value per user"):
            against(made.recommender, made.recommender, run, made.problem, target=recall, guards=["nothing"])


def test_a_run_whose_test_is_not_open_is_refused(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.run, tmp_path / "run")
    (tmp_path / "run" / "final.json").unlink()
    with RunDirectory.open(tmp_path / "run", read_only=True) as run, pytest.raises(RunError, match="was not finalized"):
        against(None, made.recommender, run, made.problem, target="recall@5")


def test_promote_follows_the_verdict(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = tmp_path / "models"

    def run(*words: str) -> tuple[int, dict[str, Any]]:
        code = main(["promote", str(made.bundle), str(models), *words, "--format", "json"])
        return code, json.loads(capsys.readouterr().out or "{}")

    code, found = run("--reason", "the first")
    assert (code, ModelFolder(models).champion) == (0, found["champion"])
    code, found = run("--against", str(made.run))
    assert (code, found["decision"]["verdict"]) == (0, "HOLD")
    assert [entry["kind"] for entry in ModelFolder(models).log()] == ["promote", "refuse"]
    assert run("--against", str(made.run), "--force")[0] == 2  # no reason
    assert run("--guard", "recall@5")[0] == 2  # against what?
    code, found = run("--against", str(made.run), "--force", "--reason", "a demonstration")
    last = ModelFolder(models).log()[-1]
    assert (code, last["kind"], last["forced"], last["reason"]) == (0, "promote", True, "a demonstration")
    assert main(["rollback", str(models), "--quiet"]) == 0
