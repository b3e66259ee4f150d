"""Contract 8: an exported bundle recommends what the member did, before `finalize` and after it."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import exported
import numpy as np
import polars as pl
import pytest
from data.logs import HEAD, data_config, table
from exported import BY_HAND, MMR, Made, same
from feed_run import config, positives, recalls, recommended
from safetensors.numpy import load_file

from evorec.cli import main
from evorec.data.held_out import RankingUsers
from evorec.deploy.bundle import export
from evorec.deploy.bundle.checks import same_lists
from evorec.deploy.bundle.encoders import shown_columns
from evorec.deploy.bundle.export import ExportOptions, export_bundle
from evorec.errors import ConfigError, DataError, Interruption, RunError
from evorec.models.recommend import Lists
from evorec.models.spec import ModelSpec
from evorec.recommender.problem import build_problem
from evorec.run.directory import RunDirectory
from evorec.serving.batch import recommend_table
from evorec.serving.queries import Item, ListOptions
from evorec.serving.recommender import load_bundle
from evorec.training.evaluate import mixture_lists, task_logits

ROUNDING = 1e-12  # a mean over users, added up in another order
SCORE = exported.SCORE
K = 5
FILES = {
    "README.md", "encoders.json", "ids.json", "item_vectors.onnx", "model.safetensors", "ranker.onnx",
    "recommend.onnx", "user_vectors.onnx",
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp()


@pytest.fixture(scope="module")
def plain(root: Path) -> Made:
    return exported.plain(root)


@pytest.fixture(scope="module")
def by_hand(root: Path) -> Made:
    return exported.by_hand(root)


@pytest.fixture(scope="module")
def numbers(root: Path) -> Made:
    return exported.numbers(root)


@pytest.fixture(scope="module")
def finalized(root: Path) -> Made:
    return exported.finalized(root)[0]


@pytest.fixture(scope="module")
def report(root: Path) -> Mapping[str, Any]:
    return exported.finalized(root)[2]


def manifest_of(made: Made) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((made.bundle / "manifest.json").read_text(encoding="utf-8"))
    return found


def test_the_test_bundle_covers_the_hard_cases(plain: Made, numbers: Made) -> None:
    spec = ModelSpec.from_genes(plain.genes)
    assert spec.task_embeddings
    assert spec.ranks, "adapters of the content"
    assert numbers.recommender.manifest["lower_is_better"] == ["like"]


def test_the_lists_have_the_recall_that_the_search_measured(plain: Made) -> None:
    names = plain.dataset.user_ids[plain.problem.data.users.ids].tolist()
    relevant = {user: items for user, items in positives(plain.problem, "validation").items() if user in names}
    lists = dict(zip(names, plain.recommender.recommend(names), strict=True))
    measured = manifest_of(plain)["metrics"]["validation"][f"recall@{K}"]
    assert np.mean(recalls(lists, relevant)) == pytest.approx(measured, abs=ROUNDING)


def test_lists_show_the_stored_columns_of_the_items(
    numbers: Made, plain: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = numbers.problem.tables.items
    assert items is not None
    expected = {row["item_id"]: {name: row[name] for name in ("category", "tags")} for row in items.to_dicts()}
    recommender = numbers.recommender.with_items([Item("new", {"category": 1})])
    assert recommender.show([*expected, "new"], ["category", "tags"]) == [
        *expected.values(),
        {"category": None, "tags": None},
    ]
    columns, users = ("category", "tags"), tmp_path / "users.csv"
    pl.DataFrame({"user": [1, 2]}).write_csv(users)
    for ending, as_read in ((".csv", json.dumps), (".jsonl", list)):
        out = tmp_path / f"lists{ending}"
        recommend_table(recommender, users, out, ListOptions(k=50, seen=True), show=columns)
        frame = pl.read_csv(out) if ending == ".csv" else pl.read_ndjson(out)
        for row in frame.filter(pl.col("item").cast(pl.String) != "new").to_dicts():
            own = expected[int(row["item"])]
            assert (row["category"], row["tags"]) == (own["category"], as_read(own["tags"]))  # type: ignore[operator]
    asked = ["recommend", str(numbers.bundle), "--user", "1", "-k", "2", "--show", "tags"]
    capsys.readouterr()
    assert main([*asked, "--format", "json"]) == 0
    for listed in json.loads(capsys.readouterr().out)["1"]:
        assert listed["shown"] == {"tags": expected[listed["item"]]["tags"]}
    assert main(asked) == 0
    assert ", ".join(expected[listed["item"]]["tags"]) in capsys.readouterr().out
    words = r"holds no column 'category' of the items to show; it holds: none\. Export it again with --show category"
    with pytest.raises(DataError, match=words):
        plain.recommender.show([1], ["category"])
    with pytest.raises(
        ConfigError, match=r"--show colour: the items of \w+ have no such column; they have: category, "
    ):
        plain.export(tmp_path / "bundle", ExportOptions(show=("category", "colour")))


def test_titles_of_a_log_in_files_need_no_setting(tmp_path: Path) -> None:
    files = {
        "log.csv": HEAD + "1,10,1,1\n1,11,2,1\n",
        "items.csv": 'id,title,year\n11,"B, the \x1b second",1999\n10,,\n',
    }
    items = {"files": ["items.csv"], "key": "id"}
    problem: Any = SimpleNamespace(
        tables=table(tmp_path, files, items=items),
        config=SimpleNamespace(data=data_config(tmp_path, {}, items=items)),
    )
    found = shown_columns(problem, [10, 11, 12], ["title", "year"])
    assert found == {"title": [None, "B, the \x1b second", None], "year": [None, "1999", None]}
    without: Any = SimpleNamespace(
        tables=table(tmp_path, files), config=SimpleNamespace(data=data_config(tmp_path, {}))
    )
    assert shown_columns(without, [10], []) == {}
    with pytest.raises(ConfigError, match=r"--show title: the items of \w+ have no such column; they have: none"):
        shown_columns(without, [10], ["title"])
    with pytest.raises(DataError, match=r"items\.csv, line 1 must name the columns \['genre'\]"):
        shown_columns(problem, [10], ["genre"])


def test_the_manifest_lists_every_other_file_with_its_sha256(plain: Made, by_hand: Made) -> None:
    for made, more in ((plain, {"recommend.fp16.onnx", "recommend.int8.onnx"}), (by_hand, set())):
        present = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in made.bundle.iterdir()}
        own, seal = present.pop("manifest.json"), (made.bundle / "manifest.sha256").read_text()
        del present["manifest.sha256"]
        assert manifest_of(made)["files"] == present
        assert present.keys() == FILES | more
        assert seal == f"{own}  manifest.json\n"
        assert made.recommender.version == own


def test_the_manifest_describes_the_member(plain: Made, numbers: Made) -> None:
    manifest = manifest_of(plain)
    assert (manifest["format"], manifest["member"], manifest["fit"]) == (2, plain.key, "train")
    assert ModelSpec.from_genes(manifest["spec"]) == ModelSpec.from_genes(plain.genes)
    assert (manifest["k"], manifest["candidates"], manifest["mmr"]) == (K, 12, 0.0)
    assert manifest["tasks"] == ["click", "like", "purchase"]
    assert manifest["lists"]["n_users"] == plain.dataset.n_users == manifest["lists"]["n_equal"]
    assert max(manifest["parity"].values()) <= 1e-5
    assert manifest["parity"].keys() == {"user_vectors", "item_vectors", "ranker", "recommend"}
    assert manifest["metrics"]["test"] is None
    stored = load_file(plain.bundle / "model.safetensors")
    assert manifest["tensors"] == {name: [str(a.dtype), list(a.shape)] for name, a in sorted(stored.items())}
    assert manifest_of(numbers)["kinds"] == {"watch": "regression"}


def test_the_weights_are_those_of_the_archive(plain: Made) -> None:
    stored = load_file(plain.bundle / "model.safetensors")
    own = {name.removeprefix("parameters."): a for name, a in stored.items() if name.startswith("parameters.")}
    assert own.keys() == plain.weights.keys()
    for name, array in plain.weights.items():
        np.testing.assert_array_equal(own[name], array)


def test_weights_are_stored_only_in_the_safetensors_file(plain: Made) -> None:
    """No graph has an array of the file inside; only what the exporter computed from small ones stands in it."""
    import onnx

    stored = {
        array.tobytes() for array in load_file(plain.bundle / "model.safetensors").values() if array.nbytes > 1024
    }
    places = set()
    for graph in ("recommend", "ranker", "user_vectors", "item_vectors"):
        model = onnx.load(plain.bundle / f"{graph}.onnx", load_external_data=False)
        for tensor in model.graph.initializer:
            outside = {entry.key: entry.value for entry in tensor.external_data}
            places |= {outside["location"]} if outside else set()
            assert outside or onnx.numpy_helper.to_array(tensor).tobytes() not in stored, f"{graph}: {tensor.name}"
    assert places == {"model.safetensors"}


def test_the_card_of_a_model_of_the_search_reports_an_unopened_test(plain: Made) -> None:
    card = (plain.bundle / "README.md").read_text(encoding="utf-8")
    assert "The test was not opened for it (`evorec finalize`)." in card
    assert "| metric | validation |" in card.splitlines()
    assert "Against baselines" not in card
    for kind in ("fp16", "int8"):
        found = manifest_of(plain)["variants"][kind]
        assert f"`{found['file']}` ({kind}): {found['bytes']:,} bytes instead of {found['bytes_of_full']:,}" in card


# A formula of somebody's


def test_a_given_formula_is_in_the_manifest_the_card_and_the_lists(by_hand: Made) -> None:
    """Scores against the heads' outputs for held-out users, by hand; the member itself has no ranker in its score."""
    manifest, dataset = manifest_of(by_hand), by_hand.dataset
    assert manifest["formula"]["source"] == "given by hand"
    assert manifest["formula"]["text"].replace(" ", "") == BY_HAND.replace(" ", "")
    assert manifest["formula"]["short"] in (by_hand.bundle / "README.md").read_text(encoding="utf-8")
    assert ModelSpec.from_genes(by_hand.genes).rank_blend == 0
    n = dataset.n_items
    retrieved = by_hand.listed([4, 8], masked={}, k=n, candidates=n)
    for user, pairs in retrieved.items():
        place = dataset.user_ids.tolist().index(user)
        part = replace(
            dataset.held_out,
            users=np.full(n, place), items=np.arange(n), context=np.repeat(dataset.context_mode[None], n, axis=0),
            statistics=np.hstack([np.repeat(dataset.user_statistics[place][None], n, axis=0),
                                  dataset.item_statistics[:n]]),
        )  # fmt: skip
        z = task_logits(by_hand.population, by_hand.encoded.tensors, part)[0].astype(np.float64)
        first = dict(pairs)
        values = [
            first[one] + 2.0 / (1 + np.exp(-z[0, i])) - 0.5 * z[1, i] for i, one in enumerate(dataset.item_ids.tolist())
        ]
        assert BY_HAND == "retrieval + 2.0 * p_click - 0.5 * z_like"
        order = np.argsort(-np.array(values))
        expected = [(dataset.item_ids[i].item(), values[i]) for i in order]
        same(by_hand.recommender.recommend([user], k=n, seen=True, mmr=0.0)[0], expected)


def test_the_weight_of_diversity_in_the_manifest_is_the_default(by_hand: Made) -> None:
    assert manifest_of(by_hand)["mmr"] == MMR
    users = by_hand.dataset.user_ids.tolist()
    recommender = by_hand.recommender
    assert recommender.recommend(users) == recommender.recommend(users, mmr=MMR) != recommender.recommend(users, mmr=0)
    assert f"(MMR) with weight {MMR:g}" in (by_hand.bundle / "README.md").read_text(encoding="utf-8")


# Variants for small devices


@pytest.mark.parametrize("kind", ["fp16", "int8"])
def test_a_variant_changes_the_share_of_the_lists_in_the_manifest(plain: Made, kind: str) -> None:
    users = plain.dataset.user_ids.tolist()
    small = load_bundle(plain.bundle, graph=f"recommend.{kind}.onnx").recommend(users)
    kept = total = 0
    for one, other in zip(plain.recommender.recommend(users), small, strict=True):
        kept += len({item for item, _ in one} & {item for item, _ in other})
        total += len(one)
    found = manifest_of(plain)["variants"][kind]
    assert found["list_loss"] == pytest.approx(1 - kept / total, abs=ROUNDING)
    assert found["users"] == len(users)
    assert found["bytes"] == (plain.bundle / found["file"]).stat().st_size


def test_int8_keeps_every_entry_within_half_a_step_of_its_row(plain: Made) -> None:
    from onnx import load, numpy_helper

    table = plain.weights["table"]
    model = load(plain.bundle / "recommend.int8.onnx")
    arrays = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    small = next(array for array in arrays if array.dtype == np.int8 and array.shape == table.shape)
    step = np.abs(table).max(axis=1, keepdims=True) / 127
    assert (np.abs(small * step - table) <= step * 0.5001).all()


def test_a_variant_that_changes_too_much_is_refused_and_leaves_nothing(
    plain: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evorec.deploy.bundle.export.list_loss", lambda *_: 0.25)
    copied_graphs(plain, monkeypatch)
    with pytest.raises(ConfigError, match=r"variant int8 changes 25\.0% of the listed items, at most 0\.0% may change"):
        plain.export(tmp_path / "bundle", ExportOptions(variants=("int8",), largest_loss=0.0))
    assert list(tmp_path.iterdir()) == []


def copied_graphs(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graphs of a bundle in place of traced ones, which take seconds."""
    import onnx

    def written(folder: Path, name: str, *_: Any) -> None:
        shutil.copy(made.bundle / f"{name}.onnx", folder)

    small = onnx.load(made.bundle / "recommend.int8.onnx")
    monkeypatch.setattr("evorec.deploy.bundle.export._write_graph", written)
    monkeypatch.setattr("evorec.deploy.bundle.export.traced", lambda *_, **__: small)


@pytest.mark.parametrize(
    "options", [{"variants": ("int4",)}, {"mmr": 1.5}, {"mmr": float("nan")}, {"largest_loss": -1}]
)
def test_invalid_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"must be (of|in)"):
        ExportOptions(**options)


# What export refuses


def test_an_existing_folder_is_not_overwritten(plain: Made, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    with pytest.raises(RunError, match="exists already and is not overwritten"):
        plain.export(tmp_path / "bundle")


def test_a_bundle_that_does_not_fit_on_the_disk_is_not_begun(
    plain: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evorec.outputs.free_gib", lambda folder: 0.001)
    with pytest.raises(Interruption, match=r"export writes about .* has 0.001 GiB free"):
        plain.export(tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_another_problem_is_refused(plain: Made, tmp_path: Path) -> None:
    other = build_problem(config(data={"simulator": {"seed": 2}}))
    with RunDirectory.open(plain.run, read_only=True) as run, pytest.raises(RunError, match=r"another|differ|belongs"):
        export_bundle(run, other, plain.key, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_damaged_weights_are_refused(plain: Made, tmp_path: Path) -> None:
    shutil.copytree(plain.run, tmp_path / "run")
    file = tmp_path / "run" / "archive" / plain.key / "weights.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(RunError, match=r"weights\.safetensors is damaged"):
        replace(plain, run=tmp_path / "run").export(tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("stage", ["encoders", "_write_graph", "same_lists", "parity", "latency_text", "model_card"])
def test_a_failure_at_any_stage_leaves_nothing_behind(
    plain: Made, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    copied_graphs(plain, monkeypatch)
    monkeypatch.setattr(f"evorec.deploy.bundle.export.{stage}", broken)
    with pytest.raises(OSError, match="no space left"):
        plain.export(tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_a_graph_of_another_member_is_not_exported(
    plain: Made, by_hand: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that are not the graph's, as a mistake of the exporter would make them, show in the lists."""
    copied_graphs(plain, monkeypatch)
    weights = {name: array + (0.01 if name == "table" else 0) for name, array in plain.weights.items()}
    population = plain.encoded.stack([ModelSpec.from_genes(plain.genes)], [weights])

    def listed(users: RankingUsers) -> Lists:
        data, config = plain.encoded, plain.encoded.config.evaluation
        return mixture_lists(population, [1.0], data.dataset, data.tensors, users, config)

    monkeypatch.setattr(
        "evorec.deploy.bundle.export.same_lists", lambda found, encoded, _: same_lists(found, encoded, listed)
    )
    with pytest.raises(RunError, match="differently from the member of the archive"):
        plain.export(tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_the_same_member_makes_the_same_bytes(plain: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied_graphs(plain, monkeypatch)
    names = ("one", "other [x]*")
    (tmp_path / "one.tmp").mkdir()
    (tmp_path / "one.tmp" / "mine").touch()
    for name in names:
        plain.export(tmp_path / name)
    assert (tmp_path / "one.tmp" / "mine").exists()
    one, other = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in names)
    assert one == other
    assert all(one[name] == (plain.bundle / name).read_bytes() for name in FILES - {"README.md"})


def test_a_graph_is_traced_twice_only_with_a_formula_of_its_own(
    plain: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied_graphs(plain, monkeypatch)
    written, names = export._write_graph, []

    def counted(folder: Path, name: str, *rest: Any) -> None:
        names.append(name)
        written(folder, name, *rest)

    monkeypatch.setattr(export, "_write_graph", counted)
    plain.export(tmp_path / "bundle")
    assert names == ["user_vectors", "item_vectors", "ranker", "recommend"]


def test_a_graph_has_no_notes_of_the_exporter(plain: Made) -> None:
    """They name source files, and their order is another in every process."""
    import onnx

    for path in plain.bundle.glob("*.onnx"):
        model = onnx.load(path, load_external_data=False)
        assert model.graph.doc_string
        model.graph.ClearField("doc_string")
        assert not {"metadata_props", "doc_string"} & set(str(model).replace(":", " ").split()), path.name


def test_of_two_exports_into_a_folder_at_once_the_second_says_so(
    plain: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied_graphs(plain, monkeypatch)
    with RunDirectory.open(plain.run, read_only=True) as run:

        def meanwhile(text: str) -> None:
            if text.startswith("tracing"):
                export_bundle(run, plain.problem, plain.key, tmp_path / "bundle")

        with pytest.raises(RunError, match="bundle was made by another process meanwhile, and is not overwritten"):
            export_bundle(run, plain.problem, plain.key, str(tmp_path / "bundle"), progress=meanwhile)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert load_bundle(tmp_path / "bundle").recommend([4]) == plain.recommender.recommend([4])


# After finalize


def test_after_finalize_the_bundle_of_a_pick_is_the_final_model(finalized: Made, report: dict[str, Any]) -> None:
    (entry,) = report["picks"]
    manifest, encoded = manifest_of(finalized), finalized.encoded
    assert manifest["fit"] == "train+validation"
    assert manifest["data"]["encoded_sha256"] == encoded.dataset.sha256
    assert manifest["data"]["training_rows"] == encoded.dataset.train.n_rows == report["rows"]["train"]
    assert manifest["metrics"] == {"validation": entry["validation"], "test": entry["test"], "fresh": None}
    assert manifest["against"] == entry["against"]
    stored = load_file(finalized.run / "final" / finalized.key / "weights.safetensors")
    expected = recommended(encoded, encoded.stack([ModelSpec.from_genes(finalized.genes)], [stored]))
    found = dict(zip(expected, finalized.recommender.recommend(list(expected)), strict=True))
    for user, pairs in expected.items():
        same(found[user], pairs)
    recall = np.mean(recalls(found, positives(finalized.problem, "test")))
    assert recall == pytest.approx(entry["shipped"][f"recall@{K}"], abs=ROUNDING)
    exported_weights = load_file(finalized.bundle / "model.safetensors")
    for name, array in stored.items():
        np.testing.assert_array_equal(exported_weights[f"parameters.{name}"], array)


def test_the_card_reports_the_test(finalized: Made, report: dict[str, Any]) -> None:
    (entry,) = report["picks"]
    card = (finalized.bundle / "README.md").read_text(encoding="utf-8")
    assert "| metric | validation | test, mean ± sd over seeds |" in card
    assert "(train+validation) of simulator" in card
    assert "was not opened" not in card
    for name in (f"recall@{K}", "accuracy", "auc/click"):
        test = entry["test"][name]
        row = f"| {name} | {entry['validation'][name]:.6g} | {test['mean']:.6g} ± {test['sd']:.2g} |"
        assert row in card.splitlines()
    for name in ("popularity", "ease"):
        found = entry["against"][name]
        shown = f"ease (item_item_l2 {found['settings']['item_item_l2']:g})" if name == "ease" else name
        assert f"| {shown} | recall@{K} {found['mean_difference']:+.4f} |" in card


def test_a_member_that_was_not_picked_stays_the_model_of_the_search(
    root: Path, finalized: Made, plain: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert finalized.key != plain.key, "the test needs a member that is no pick"
    copied_graphs(plain, monkeypatch)
    other = replace(finalized, key=plain.key)
    other.export(tmp_path / "bundle")
    found = load_bundle(tmp_path / "bundle")
    assert (found.manifest["fit"], found.manifest["metrics"]["test"]) == ("train", None)
    users = plain.dataset.user_ids.tolist()
    assert found.recommend(users) == plain.recommender.recommend(users)


def test_a_missing_final_model_is_an_error(finalized: Made, tmp_path: Path) -> None:
    shutil.copytree(finalized.run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "final" / finalized.key)
    with pytest.raises(RunError, match=r"weights\.safetensors is damaged or missing.* delete .* and `evorec finalize"):
        replace(finalized, run=tmp_path / "run").export(tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
