"""Contract 8: an exported bundle recommends what the member did, before `finalize` and after it."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from feed_run import Recommended, alone, config, final_fit, positives, recalls, recommended, searched
from safetensors.numpy import load_file

from evorec.data.dataset import Csr
from evorec.data.simulators import simulate
from evorec.data.tables import Columns, Tables
from evorec.deploy.bundle import Recommender, export_bundle, load_bundle
from evorec.deploy.finalize import final_weights, finalize
from evorec.errors import DataError, RunError
from evorec.models.spec import MECHANISMS, ModelSpec
from evorec.rec_problem import Fitted, RecProblem
from evorec.store import RunDirectory
from evorec.training.evaluate import RankingUsers

ROUNDING = 1e-12  # a mean over users, added up in another order
COMPANY = 1e-4  # float32 kernels round differently for one user than for many; scores are about 10
STARTUP_S = 60.0  # a Python process that imports torch, on a busy machine
K = 5


@dataclass(frozen=True)
class Made:
    """A finished search, and a bundle of each of its members."""

    problem: RecProblem
    run: Path
    bundles: Path

    @property
    def specs(self) -> dict[str, Mapping[str, Any]]:
        with RunDirectory.open(self.run, read_only=True) as run:
            return {member.key: member.spec for member in run.members()}

    def weights(self, key: str) -> dict[str, np.ndarray]:
        with RunDirectory.open(self.run, read_only=True) as run:
            return run.read_weights(key)

    def export(self, key: str, out: Path) -> Path:
        with RunDirectory.open(self.run, read_only=True) as run:
            return export_bundle(run, self.problem, key, out)

    def expected(self, key: str, users: RankingUsers | None = None, *, fitted: Fitted | None = None) -> Recommended:
        """What the member of the archive, or with `fitted` the finalized one, lists to the users."""
        stack = self.problem.fitted.stack
        if fitted is None:
            return recommended(
                self.problem.fitted, stack([ModelSpec.from_genes(self.specs[key])], [self.weights(key)]), users
            )
        stored = load_file(self.run / "final" / key / "weights.safetensors")
        return recommended(fitted, fitted.stack([ModelSpec.from_genes(self.specs[key])], [stored]), users)


def everybody(fitted: Fitted) -> RankingUsers:
    return fitted.with_all_users().users


def unmasked(users: RankingUsers) -> RankingUsers:
    nobody = np.zeros(0, dtype=np.int64)
    return replace(users, masked=Csr.from_pairs(nobody, nobody, n_rows=len(users.ids)))


def answered(bundle: Recommender, users: Recommended, **options: Any) -> Recommended:
    """The bundle's lists for the users of `users`, in that order."""
    return dict(zip(users, bundle.recommend(list(users), **options), strict=True))


def with_exports(problem: RecProblem, run: Path, bundles: Path) -> Made:
    made = Made(problem, run, bundles)
    for key in made.specs:
        made.export(key, bundles / key)
    return made


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The feed, as `problems.feed` has it."""
    root = tmp_path_factory.mktemp("plain")
    return with_exports(*searched(root, config()), root / "bundles")


def with_text_ids(tables: Tables) -> Tables:
    """Users ``"7"`` and items ``"ü7"``: as text they stand in another order than as numbers."""
    user, item = pl.col(Columns.USER).cast(pl.String), pl.format("ü{}", Columns.ITEM).alias(Columns.ITEM)
    assert tables.users is not None
    assert tables.items is not None
    return replace(
        tables,
        interactions=tables.interactions.with_columns(user, item),
        users=tables.users.with_columns(user),
        items=tables.items.with_columns(item),
    )


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The other choice of everything: ids of text, no table features, float64, whole catalogue ranked, seen items."""
    root = tmp_path_factory.mktemp("odd")
    settings = config(
        data={"statistics": [], "history_recency": 1.0, "history_length": 3},
        training={"precision": "float64"},
        evaluation={"candidates": "all", "mask": "positives"},
    )
    tables = replace(with_text_ids(simulate(settings.data.simulator)), content=("category",), context=())
    return with_exports(*searched(root, settings, tables=tables), root / "bundles")


@pytest.fixture(params=["plain", "odd"])
def made(request: pytest.FixtureRequest) -> Made:
    found: Made = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def finalized(plain: Made, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A copy of the plain run after `finalize`, and bundles of its members."""
    root = tmp_path_factory.mktemp("finalized")
    shutil.copytree(plain.run, root / "run")
    with RunDirectory.open(root / "run") as run:
        finalize(run, plain.problem, plain.problem.config.finalize)
    return with_exports(plain.problem, root / "run", root / "bundles")


@pytest.fixture(scope="module")
def report(finalized: Made) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((finalized.run / "final.json").read_text())
    return found


def entries(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {entry["member"]: entry for entry in report["picks"]}


def test_every_bundle_lists_to_every_user_exactly_what_the_archived_member_does(made: Made) -> None:
    users = everybody(made.problem.fitted)
    assert len(users.ids) > len(made.problem.fitted.users.ids), "the search looked at a sample"
    for key in made.specs:
        expected = made.expected(key, users)
        assert answered(load_bundle(made.bundles / key), expected) == expected


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_bundle_of_every_mechanism_lists_what_the_member_does(mechanism: str, tmp_path: Path) -> None:
    settings = config(space={"mechanism": mechanism, "rerank": True}, search={"population": 4, "generations": 1})
    made = with_exports(*searched(tmp_path, settings), tmp_path / "bundles")
    for key, spec in made.specs.items():
        assert spec["mechanism"] == mechanism
        bundle, expected = load_bundle(made.bundles / key), made.expected(key)
        assert answered(bundle, expected) == expected


@pytest.fixture(scope="module")
def feared(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The feed, where likes are to be avoided and every member re-orders by its ranker."""
    root = tmp_path_factory.mktemp("feared")
    settings = config(tasks={"lower_is_better": ["like"]}, space={"rerank": True, "rank_blend": 1.0})
    return with_exports(*searched(root, settings), root / "bundles")


def changed_shape(bundle: Path, folder: Path, **changes: Any) -> Path:
    """A copy of a bundle whose manifest has other sizes; ``None`` = as if that one had not been thought of."""
    shutil.copytree(bundle, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    sizes = {**manifest["shape"], **changes}
    manifest["shape"] = {name: value for name, value in sizes.items() if value is not None}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_a_bundle_keeps_which_tasks_are_better_low(feared: Made, tmp_path: Path) -> None:
    key = next(iter(feared.specs))
    bundle, expected = load_bundle(feared.bundles / key), feared.expected(key)
    assert answered(bundle, expected) == expected
    assert (bundle.manifest["shape"]["signs"], bundle.manifest["lower_is_better"]) == ([1, -1, 1], ["like"])
    older = load_bundle(changed_shape(feared.bundles / key, tmp_path / "older", signs=None))
    assert answered(older, expected) != expected, "without signs every task counts as good"


@pytest.mark.parametrize("signs", [[1, -1], [1, 0, 1], [2, 1, 1]])
def test_signs_that_are_none_are_refused(feared: Made, tmp_path: Path, signs: list[int]) -> None:
    bundle = changed_shape(feared.bundles / next(iter(feared.specs)), tmp_path / "bundle", signs=signs)
    with pytest.raises(RunError, match=r"contradicts itself .*signs must be 1 or -1 for each of 3 tasks"):
        load_bundle(bundle)


@pytest.mark.parametrize("change", ["width", "foreign", "content"])
def test_parameters_of_another_spec_are_refused_before_memory_is_taken_for_it(
    plain: Made, tmp_path: Path, change: str
) -> None:
    shutil.copytree(plain.bundles / next(iter(plain.specs)), tmp_path / "bundle")
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    if change == "width":
        manifest["spec"]["width"] = 2**40
    elif change == "foreign":
        manifest["shape"]["n_rows"] += 1
    else:
        manifest["shape"]["n_content"] = 0
    (tmp_path / "bundle" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match=r"contradicts itself .*do not have the shapes that the spec gives them"):
        load_bundle(tmp_path / "bundle")


def test_the_archive_has_members_with_and_without_a_ranker(made: Made) -> None:
    assert {spec["rerank"] for spec in made.specs.values()} == {True, False}, "the tests here need both; change seeds"


def test_the_lists_of_a_bundle_have_the_recall_that_the_search_measured(made: Made) -> None:
    users = made.problem.fitted.users
    names = made.problem.fitted.dataset.user_ids[users.ids].tolist()
    relevant = {user: items for user, items in positives(made.problem, "validation").items() if user in names}
    assert sorted(relevant) == names
    for key in made.specs:
        bundle = load_bundle(made.bundles / key)
        lists = dict(zip(names, bundle.recommend(names), strict=True))
        measured = bundle.manifest["metrics"]["validation"][f"recall@{K}"]
        assert np.mean(recalls(lists, relevant)) == pytest.approx(measured, abs=ROUNDING)


def test_one_user_alone_gets_the_same_items(made: Made) -> None:
    key = next(iter(made.specs))
    bundle = load_bundle(made.bundles / key)
    for user, together in made.expected(key).items():
        (found,) = bundle.recommend([user])
        assert [item for item, _ in found] == [item for item, _ in together]
        assert [score for _, score in found] == pytest.approx([score for _, score in together], abs=COMPANY)


def test_users_may_be_repeated_and_come_in_any_order(made: Made) -> None:
    key = next(iter(made.specs))
    expected = made.expected(key)
    asked = [*expected, *reversed(expected)]
    found = load_bundle(made.bundles / key).recommend(asked)
    assert found[: len(expected)] == found[len(expected) :][::-1]


def test_a_shorter_list_is_the_beginning_of_the_longer_one(made: Made) -> None:
    for key in made.specs:
        bundle, expected = load_bundle(made.bundles / key), made.expected(key)
        assert answered(bundle, expected, k=2) == {user: pairs[:2] for user, pairs in expected.items()}


def test_an_unknown_user_gets_the_list_of_the_unknown_user(made: Made) -> None:
    dataset = made.problem.fitted.dataset
    last = np.array([dataset.n_users])
    assert len(dataset.seen.row(dataset.n_users)) == 0
    nobody = RankingUsers(last, dataset.seen.select(last), dataset.relevant.select(last))
    for key in made.specs:
        bundle, expected = load_bundle(made.bundles / key), made.expected(key, nobody)["unknown"]
        for user in ("nobody", 10**6):
            assert not bundle.knows(user)
            assert bundle.recommend([user]) == [expected]


def test_seen_lifts_the_mask_and_nothing_else(made: Made) -> None:
    users, dataset = everybody(made.problem.fitted), made.problem.fitted.dataset
    items = dataset.item_ids.tolist()
    past = dataset.history if made.problem.config.evaluation.mask == "positives" else dataset.seen
    for key in made.specs:
        bundle, expected = load_bundle(made.bundles / key), made.expected(key, unmasked(users))
        found = answered(bundle, expected, seen=True)
        assert found == expected
        hidden = {user: {items[i] for i in past.row(row)} for user, row in zip(found, users.ids, strict=True)}
        assert any(item in hidden[user] for user, pairs in found.items() for item, _ in pairs)
        masked = answered(bundle, expected)
        assert not any(item in hidden[user] for user, pairs in masked.items() for item, _ in pairs)


def test_numbers_may_be_given_as_text_and_text_as_numbers(made: Made) -> None:
    bundle = load_bundle(made.bundles / next(iter(made.specs)))
    known = made.problem.fitted.dataset.user_ids[:3].tolist()
    other = [int(user) if isinstance(user, str) else str(user) for user in known]
    assert all(bundle.knows(user) for user in (*known, *other))
    assert bundle.recommend(other) == bundle.recommend(known) == bundle.recommend(np.array(known))  # type: ignore[arg-type]


@pytest.mark.parametrize("users", [[], np.zeros(0, dtype=np.int64)], ids=["list", "array"])
def test_nobody_to_recommend_to_is_refused(plain: Made, users: Any) -> None:
    with pytest.raises(DataError, match=r"needs one or more users and k >= 1, got 0 users and k = 5\."):
        load_bundle(plain.bundles / next(iter(plain.specs))).recommend(users)


def test_another_process_recommends_the_same_from_a_bundle_that_was_moved(plain: Made, tmp_path: Path) -> None:
    key = next(iter(plain.specs))
    shutil.copytree(plain.bundles / key, tmp_path / "moved")
    users = list(plain.expected(key))[:3]
    asked = [part for user in users for part in ("--user", str(user))]
    command = [sys.executable, "-m", "evorec", "recommend", "moved", *asked, "--format", "json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=STARTUP_S, check=False
    )
    assert done.returncode == 0, done.stderr
    here = load_bundle(plain.bundles / key).recommend(users)
    found = [[(pair["item"], pair["score"]) for pair in json.loads(done.stdout)[str(user)]] for user in users]
    assert found == here


def test_after_finalize_the_bundle_of_a_pick_is_the_final_model(finalized: Made, report: dict[str, Any]) -> None:
    fitted = final_fit(finalized.problem, report["seeds"][0])
    for key, entry in entries(report).items():
        bundle = load_bundle(finalized.bundles / key)
        assert bundle.manifest["fit"] == "train+validation"
        assert bundle.manifest["data"]["sha256"] == fitted.dataset.sha256
        assert bundle.manifest["data"]["training_rows"] == fitted.dataset.train.n_rows == report["rows"]["train"]
        expected = finalized.expected(key, fitted=fitted)
        found = answered(bundle, expected)
        assert found == expected
        recall = np.mean(recalls(found, positives(finalized.problem, "test")))
        assert recall == pytest.approx(entry["shipped"][f"recall@{K}"], abs=ROUNDING)


def test_the_final_weights_are_those_of_a_training_on_train_and_validation(
    finalized: Made, report: dict[str, Any]
) -> None:
    fitted = final_fit(finalized.problem, report["seeds"][0])
    for key in entries(report):
        again = alone(fitted, finalized.specs[key]).member_arrays(0)
        arrays = load_file(finalized.bundles / key / "model.safetensors")
        exported = {name.removeprefix("parameters."): a for name, a in arrays.items() if name.startswith("parameters.")}
        assert exported.keys() == again.keys()
        assert all(exported[name].tobytes() == np.ascontiguousarray(array).tobytes() for name, array in again.items())


def test_a_member_that_was_not_picked_stays_the_model_of_the_search(finalized: Made, report: dict[str, Any]) -> None:
    others = finalized.specs.keys() - entries(report).keys()
    assert others, "the test needs a member that is no pick"
    for key in others:
        bundle, expected = load_bundle(finalized.bundles / key), finalized.expected(key)
        assert bundle.manifest["fit"] == "train"
        assert bundle.manifest["metrics"]["test"] is None
        assert answered(bundle, expected) == expected


def test_a_finalize_that_was_stopped_before_the_test_leaves_the_model_of_the_search(
    plain: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(plain.run, tmp_path / "run")
    stopped = replace(plain, run=tmp_path / "run")
    picks = plain.problem.config.finalize.model_copy(update={"seeds": 1, "picks": ("accuracy",)})

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with RunDirectory.open(stopped.run) as run:
        with monkeypatch.context() as patched:
            patched.setattr("evorec.deploy.finalize.write_json", killed)
            with pytest.raises(KeyboardInterrupt):
                finalize(run, plain.problem, picks)
        (left,) = (folder.name for folder in (stopped.run / "final").iterdir())
        assert final_weights(run, left) is None
        other = finalize(run, plain.problem, picks.model_copy(update={"picks": ("cost",)}))
    assert left not in entries(other), "the test needs two picks"
    bundle = load_bundle(stopped.export(left, tmp_path / "bundle"))
    assert bundle.manifest["fit"] == "train"


def test_a_final_model_that_is_gone_is_missed_and_not_replaced(
    finalized: Made, report: dict[str, Any], tmp_path: Path
) -> None:
    key = report["picks"][0]["member"]
    shutil.copytree(finalized.run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "final" / key)
    with pytest.raises(RunError, match=r"weights\.safetensors is damaged or gone; delete .* and `evorec finalize"):
        replace(finalized, run=tmp_path / "run").export(key, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_the_manifest_has_the_figures_of_the_model_in_the_bundle(finalized: Made, report: dict[str, Any]) -> None:
    for key, entry in entries(report).items():
        manifest = load_bundle(finalized.bundles / key).manifest
        assert manifest["metrics"] == {"validation": entry["validation"], "test": entry["test"]}
        assert manifest["against"] == entry["against"]


def test_the_model_card_says_what_the_test_said(finalized: Made, report: dict[str, Any]) -> None:
    for key, entry in entries(report).items():
        card = (finalized.bundles / key / "README.md").read_text(encoding="utf-8")
        assert "| metric | validation | test, mean ± sd over seeds |" in card
        assert "(train+validation) of simulator" in card
        assert "was not opened" not in card
        for name in (f"recall@{K}", "accuracy", "auc/click"):
            test = entry["test"][name]
            row = f"| {name} | {entry['validation'][name]:.6g} | {test['mean']:.6g} ± {test['sd']:.2g} |"
            assert row in card.splitlines()
        for name in ("popularity", "item_knn", "ease"):
            assert f"| {name} | recall@{K} {entry['against'][name]['mean_difference']:+.4f} |" in card


def test_the_model_card_of_a_model_of_the_search_says_that_there_was_no_test(made: Made) -> None:
    card = (made.bundles / next(iter(made.specs)) / "README.md").read_text(encoding="utf-8")
    assert "The test was not opened for it (`evorec finalize`)." in card
    assert "| metric | validation |" in card.splitlines()
    assert "Against baselines" not in card


def test_the_manifest_lists_every_other_file_with_its_sha256(made: Made, finalized: Made) -> None:
    for folder in [*made.bundles.iterdir(), *finalized.bundles.iterdir()]:
        listed = json.loads((folder / "manifest.json").read_text())["files"]
        present = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
        del present["manifest.json"]
        assert listed == present
        assert present.keys() == {"README.md", "ids.json", "model.safetensors"}


def test_the_manifest_comes_back_as_it_was_written(made: Made) -> None:
    for key, spec in made.specs.items():
        manifest = json.loads((made.bundles / key / "manifest.json").read_text())
        assert load_bundle(made.bundles / key).manifest == manifest
        assert manifest["member"] == key
        assert ModelSpec.from_genes(manifest["spec"]) == ModelSpec.from_genes(spec)
        assert manifest["shape"] == json.loads(json.dumps(asdict(made.problem.fitted.data.shape)))
        assert manifest["k"] == K
        assert manifest["candidates"] == (50 if made.problem.config.evaluation.candidates == "all" else 12)


def test_exporting_twice_gives_the_same_bytes(made: Made, tmp_path: Path) -> None:
    key = next(iter(made.specs))
    again = made.export(key, tmp_path / "again")
    assert {file.name: file.read_bytes() for file in again.iterdir()} == {
        file.name: file.read_bytes() for file in (made.bundles / key).iterdir()
    }
