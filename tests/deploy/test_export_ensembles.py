"""Contract 8 for ensembles: an exported bundle lists, scores and predicts as the trained members do together."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from exported import SCORE
from feed_run import config, searched

from evorec.archive.ensemble import Ensemble
from evorec.cli import main
from evorec.data.held_out import RankingUsers, masked_items
from evorec.deploy.bundle.export import ExportOptions, export_bundle
from evorec.deploy.fusion.formula import Formula
from evorec.deploy.fusion.head_outputs import head_outputs
from evorec.errors import ConfigError, DataError
from evorec.models.recommend import Lists
from evorec.models.spec import ModelSpec
from evorec.recommender.problem import RecProblem
from evorec.run.directory import RunDirectory
from evorec.serving.batch import recommend_table
from evorec.serving.queries import Item, ListOptions
from evorec.serving.recommender import Recommender, load_bundle
from evorec.training.evaluate import mixture_lists

ALL_ITEMS = 50


@dataclass(frozen=True)
class Bundled:
    """An ensemble of a tiny run, and its bundle."""

    problem: RecProblem
    run: Path
    ensemble: Ensemble
    bundle: Path
    recommender: Recommender

    def trained(self) -> tuple[list[ModelSpec], list[dict[str, np.ndarray]]]:
        with RunDirectory.open(self.run, read_only=True) as run:
            specs = {member.key: ModelSpec.from_genes(member.spec) for member in run.members()}
            keys = self.ensemble.members
            return [specs[key] for key in keys], [run.read_weights(key) for key in keys]

    def lists(self, ids: list[int], *, k: int) -> Lists:
        data, config = self.problem.data, self.problem.data.config.evaluation.model_copy(update={"k": k})
        rows = np.array(ids)
        users = RankingUsers(rows, masked_items(data.dataset, config).select(rows), data.dataset.relevant.select(rows))
        return mixture_lists(
            data.stack(*self.trained()), self.ensemble.lists, data.dataset, data.tensors, users, config
        )


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Bundled:
    """Three members: for tasks only, for lists only and blended with item-item scores, and for both."""
    items = {"item_item": ["none", "knn"], "item_item_blend": True, "item_item_share": 0.6, "neighbours": 8}
    search = {"population": 12, "generations": 1, "surrogate": "none", "seed": 3}
    problem, path = searched(tmp_path_factory.mktemp("ensemble"), config(space=items, search=search))
    with RunDirectory.open(path) as run:
        members = sorted(run.members(), key=lambda found: found.key)
        by_items = [found.key for found in members if found.spec["item_item"] == "knn"]
        others = [found for found in members if found.spec["item_item"] == "none"]
        ranking = [found.key for found in others if found.spec["rerank"]]
        assert by_items, "this tiny run has too few kinds of members; change its seed"
        assert ranking
        assert len(others) > 1
        first = ranking[0]
        second = next(found.key for found in others if found.key != first)
        ensemble = Ensemble.of({first: 2, second: 1}, {first: 1, by_items[0]: 3})
        row = {
            "key": ensemble.key,
            "best": ["by hand"],
            **ensemble.as_json(),
            "gains": {},
            "metrics": {"accuracy": 0.6},
        }
        run.write_ensembles(
            {
                "settings": {}, "goals": ["accuracy"], "held": [], "users": 1,
                "archive": sorted(found.key for found in members), "ensembles": [row],
            }
        )  # fmt: skip
        bundle = export_bundle(run, problem, ensemble.key, path.parent / "bundle")
    return Bundled(problem, path, ensemble, bundle, load_bundle(bundle))


def test_lists_are_those_of_the_trained_members_together(bundled: Bundled) -> None:
    manifest = json.loads((bundled.bundle / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["member"] == bundled.ensemble.key
    assert manifest["lists"]["n_users"] == manifest["lists"]["n_equal"] > 50
    ids, found = [0, 1, 7, 30], bundled.lists([0, 1, 7, 30], k=5)
    data = bundled.problem.data.dataset
    listed = bundled.recommender.index_lists(data.user_ids[ids].tolist(), ListOptions(k=5))
    np.testing.assert_array_equal(listed.items, found.final)
    np.testing.assert_allclose(listed.scores, found.scores, atol=SCORE, rtol=0)
    card = (bundled.bundle / "README.md").read_text(encoding="utf-8")
    assert all(key in card for key in bundled.ensemble.members)


def test_predictions_are_the_mean_of_the_logits(bundled: Bundled) -> None:
    data, rows = bundled.problem.data, np.array([3, 4])
    evaluation = data.config.evaluation.model_copy(update={"candidates": "all"})
    encoded = replace(data, config=data.config.model_copy(update={"evaluation": evaluation}))
    masked = masked_items(data.dataset, evaluation).select(rows)
    users = RankingUsers(rows, masked, data.dataset.relevant.select(rows))
    outputs = [head_outputs(encoded, spec, weights, users) for spec, weights in zip(*bundled.trained(), strict=True)]
    total = sum(share * own.logits[:, 0] for share, own in zip(bundled.ensemble.tasks, outputs, strict=True))
    items = outputs[0].items[0][outputs[0].items[0] >= 0]
    found = bundled.recommender.score(data.dataset.user_ids[3].item(), data.dataset.item_ids[items].tolist())
    predicted = np.array([[one[task] for task in data.dataset.tasks] for one in found])
    np.testing.assert_allclose(predicted, 1 / (1 + np.exp(-total[:, : len(items)].T)), atol=1e-5)


def test_scores_of_items_are_their_scores_in_a_list_new_items_included(bundled: Bundled) -> None:
    recommender, dataset = bundled.recommender, bundled.problem.data.dataset
    user = dataset.user_ids[5].item()
    (listed,) = recommender.recommend([user], k=5, seen=True)
    scores = recommender.score(user, [item for item, _ in listed])
    np.testing.assert_allclose([one["score"] for one in scores], [score for _, score in listed], atol=SCORE)
    new = Item("new", features={"category": 2})
    with_new = recommender.with_items([new])
    (every,) = with_new.recommend([user], k=ALL_ITEMS + 1, seen=True)
    assert dict(every)["new"] == pytest.approx(recommender.score(user, [new])[0]["score"], abs=SCORE)


def test_a_table_of_users_and_other_options_work_as_for_a_member(bundled: Bundled, tmp_path: Path) -> None:
    recommender, dataset = bundled.recommender, bundled.problem.data.dataset
    (tmp_path / "users.csv").write_text("user\n" + "\n".join(map(str, dataset.user_ids[:8].tolist())) + "\n")
    counts = recommend_table(recommender, tmp_path / "users.csv", tmp_path / "lists.jsonl", ListOptions(k=3))
    assert counts.users == 8
    rows = [json.loads(line) for line in (tmp_path / "lists.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 8 * 3
    (diverse,) = recommender.recommend([dataset.user_ids[0].item()], k=5, mmr=0.5)
    assert len({item for item, _ in diverse}) == 5
    with pytest.raises(DataError, match="is an ensemble, which mixes the preferences"):
        recommender.item_keys()


def test_what_an_ensemble_cannot_have_is_refused(bundled: Bundled, tmp_path: Path) -> None:
    formula = ExportOptions(formula=Formula.parse("retrieval + p_click", ("click", "like", "purchase")))
    with RunDirectory.open(bundled.run, read_only=True) as run:
        for options, words in (
            (formula, "--formula combines the heads"),
            (ExportOptions(variants=("int8",)), "--variant"),
        ):
            with pytest.raises(ConfigError, match=f"{words}.* is an ensemble; leave the option out"):
                export_bundle(run, bundled.problem, bundled.ensemble.key, tmp_path / "no", options=options)
        with pytest.raises(ConfigError, match=r"has no ensemble e-0; it has: e-"):
            export_bundle(run, bundled.problem, "e-0", tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_commands_for_a_single_member_say_so(bundled: Bundled, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(bundled.run), bundled.ensemble.key[:6]]) == 2
    said = capsys.readouterr().err
    assert "is an ensemble, and this command is for a single member" in said
    assert all(key in said.replace("\n", "") for key in bundled.ensemble.members)
    assert main(["export", str(bundled.run), "e-zz"]) == 2
    assert bundled.ensemble.key in capsys.readouterr().err
