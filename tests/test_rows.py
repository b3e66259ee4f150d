"""Tables of rows without users and items: searched, finalized, exported and served with a ranker alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from feed_run import searched
from test_docs import python_block
from tiny import device_data, of_mechanism, row_dataset, spec

from evorec import load_bundle, load_rows
from evorec.cli import main
from evorec.config import RowsConfig, load_config
from evorec.data.describe import describe
from evorec.data.features import MAX_BINS
from evorec.data.readers import read, read_with_origin
from evorec.deploy.bundle.export import ExportOptions, export_bundle
from evorec.deploy.explanation.explain import explain
from evorec.deploy.final.finalize import finalize
from evorec.errors import ConfigError, DataError
from evorec.metrics.accuracy import auc
from evorec.models.mechanism import forward_macs, n_groups
from evorec.models.row_baselines import ROW_BASELINES
from evorec.recommender.problem import RecProblem
from evorec.report.data_findings import findings
from evorec.report.data_page import data_page
from evorec.report.record import read_record
from evorec.report.run_page import page
from evorec.run.directory import RunDirectory
from evorec.serving.bundle import FILES, OF_ITEMS
from evorec.serving.http import build_app
from evorec.serving.row_batch import score_table
from evorec.serving.slot import Slot
from evorec.training.cost import CatalogueWork, StepWork, member_cost
from evorec.training.evaluate import task_logits
from problems.rows import RowsWorld, simulate, true_scores

SERVED = 1e-4  # float32 adds the same numbers in another order
SAMPLING = 0.05  # five standard errors of a correlation or a share of 4,000 rows
SETTINGS = """
problem = "rows"
[data]
reader = "table"
path = "."
[data.log]
files = ["rows.csv"]
tasks = { bought = "bought", returned = "returned", paid = "paid" }
[data.log.context]
shop = "categorical"
tags = "multi_hot"
age = "numeric"
same = "categorical"
[data.log.separators]
tags = "|"
[tasks]
kinds = { paid = "regression" }
[training]
steps = 6
batch_size = 32
layers = 2
[search]
population = 4
generations = 1
surrogate = "none"
[finalize]
seeds = 1
bootstrap = 100
picks = ["best:accuracy"]
[run]
workers = 1
device = "cpu"
"""


def table(folder: Path, n: int = 300) -> None:
    """Rows with a missing age in every tenth and no label `returned` in every third row."""
    rng = np.random.default_rng(0)
    shop, age = rng.integers(0, 5, n), rng.uniform(20, 60, n).round(1)
    score = shop / 2 + np.sin(age / 6) + rng.normal(size=n)
    with (folder / "rows.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["shop", "tags", "age", "same", "bought", "returned", "paid"])
        for i in range(n):
            tags = "|".join(sorted({"new", "sale", "big"} - {("new", "sale", "big")[i % 3]}))
            returned = "" if i % 3 == 0 else int(score[i] < 0.5)
            out.writerow([f"s{shop[i]}", tags, "" if i % 10 == 0 else age[i], "x", int(score[i] > 1), returned,
                          round(10 + score[i], 2)])  # fmt: skip


def settings(folder: Path, *overrides: str, text: str = SETTINGS) -> RowsConfig:
    (folder / "my.toml").write_text(text)
    config = load_config(folder / "my.toml", overrides=list(overrides))
    assert isinstance(config, RowsConfig)
    return config


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[RecProblem, Path, Path, str]:
    """A finished search on a table of one's own, its test opened and a member exported: problem, run, bundle, key."""
    folder = tmp_path_factory.mktemp("rows")
    table(folder)
    problem, path = searched(folder, settings(folder))
    with RunDirectory.open(path) as run:
        report = finalize(run, problem, problem.config.finalize)
        member = report["picks"][0]["member"]
        bundle = export_bundle(run, problem, member, folder / "bundle")
    return problem, path, bundle, member


def test_a_search_on_rows_has_the_genes_of_a_ranker_and_its_accuracy_per_task(
    exported: tuple[RecProblem, Path, Path, str],
) -> None:
    problem, path, _, member = exported
    assert problem.config.objectives == ("auc/bought", "auc/returned", "concordance/paid", "cost")
    assert (problem.config.tasks.target, problem.config.split.kind) == ("", "random")
    genes = set(problem.space.names)
    assert {"mechanism", "balancing", "width", "embedding_dim", "use_shop", "use_age"} <= genes
    assert not genes & {
        "retrieval_loss", "negatives", "temperature", "history", "popularity_weight", "rerank", "retrieval_weight",
    }  # fmt: skip
    assert any("Rows without users and items" in text for text in problem.remarks)
    assert set(problem.baselines()) == set(ROW_BASELINES)
    assert problem.baselines()["constant"]["accuracy"] == 0.5
    record = read_record(path)
    assert set(record.baselines) == set(ROW_BASELINES)
    with RunDirectory.open(path, read_only=True) as run:
        report = run.read_final()
        assert report is not None
        (pick,) = report["picks"]
        assert set(report["baselines"]) == set(ROW_BASELINES)
        assert set(report["rows"]) >= {"train", "test"}
        assert not any("@" in name for name in pick["test"])
        assert set(pick["interval"]) == {"auc/bought", "auc/returned"}
        explained = explain(run, problem, member, repeats=1, seed=0)
    assert {block.block for block in explained.importance} == {"shop", "tags", "age"}
    assert set(explained.values) == {"auc/bought", "auc/returned", "concordance/paid"}
    html = page(record)
    assert "gradient_boosting" in html
    assert "95 % intervals over rows" in html


def test_a_bundle_of_rows_predicts_raw_rows_as_the_member_does(exported: tuple[RecProblem, Path, Path, str]) -> None:
    problem, path, bundle, member = exported
    assert {file.name for file in bundle.iterdir()} >= set(FILES) - set(OF_ITEMS)
    assert not any((bundle / name).exists() for name in OF_ITEMS)
    card = (bundle / "README.md").read_text()
    assert "Multi-task model that predicts bought, returned, paid (regression)" in card
    assert "evorec.load_rows" in card
    assert "users" not in card.partition("## Metrics")[0]
    served = load_rows(bundle)
    assert (served.features, served.ignored) == (("shop", "tags", "age"), {"same"})
    # The model of the search, exported without a test, against the logits of its held-out rows.
    with RunDirectory.open(path, read_only=True) as run:
        stored, found = run.read_weights(member), next(one.spec for one in run.members() if one.key == member)
    assert stored
    assert found["mechanism"]
    row = {"shop": "s1", "tags": ["new", "sale"], "age": 31.5, "same": "y"}
    (one,) = served.score([row])
    assert served.score([{"shop": "s1", "tags": ["new", "sale"], "age": "31.5"}]) == [one]
    unknown, nothing, far, end = served.score([{"shop": "zz"}, {}, {"age": 1e6}, {"age": 60}])
    assert unknown == nothing
    assert far == pytest.approx(end, abs=0.2)  # a number outside of training counts as the nearest end
    for bad, match in (({"colour": 1}, "no row feature 'colour'"), ({"age": "old"}, "age must be a number")):
        with pytest.raises(DataError, match=match):
            served.score([bad])
    for rows, match in (([], "at least 1 row"), ({"age": 1}, "rows must be a list"), (["s1"], "features by name")):
        with pytest.raises(DataError, match=match):
            served.score(rows)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"table of rows, which has no items to recommend; `evorec score`"):
        load_bundle(bundle)
    with RunDirectory.open(path, read_only=True) as run, pytest.raises(ConfigError, match="leave mmr out"):
        export_bundle(run, problem, member, bundle.parent / "lists", options=ExportOptions(mmr=0.5))


def test_a_served_prediction_is_the_trained_logit_of_the_row(exported: tuple[RecProblem, Path, Path, str]) -> None:
    problem, path, _, member = exported
    with RunDirectory.open(path) as run:
        weights = run.read_weights(member)
        genes = next(one.spec for one in run.members() if one.key == member)
    from evorec.models.spec import ModelSpec

    one, dataset = ModelSpec.from_genes(genes), problem.data.dataset
    logits = task_logits(problem.data.stack([one], [weights]), problem.data.tensors, dataset.held_out)[0]
    measured = auc(logits[0], dataset.held_out.labels[:, 0])
    stored = next(found.metrics for found in read_record(path).members if found.key == member)
    assert measured == pytest.approx(stored["auc/bought"], abs=1e-12)


def test_rows_are_scored_over_http_and_lists_are_refused(exported: tuple[RecProblem, Path, Path, str]) -> None:
    bundle = exported[2]
    slot = Slot(bundle, load_rows)
    slot.open()
    client = TestClient(build_app(slot))
    answer = client.post("/score", json={"rows": [{"shop": "s2", "age": 40}, {}]}).json()
    expected = load_rows(bundle).score([{"shop": "s2", "age": 40}, {}])
    assert answer["rows"] == [pytest.approx(row, abs=SERVED) for row in expected]
    assert client.get("/info").json()["features"] == ["shop", "tags", "age"]
    refused = client.post("/recommend", json={"users": [{"id": 1}]})
    assert (refused.status_code, refused.json()["error"]) == (
        404, "this bundle is of a table of rows, which has no items to recommend; POST /score predicts rows",
    )  # fmt: skip
    assert client.post("/score", json={"rows": [{"zip": 1}]}).status_code == 422
    assert "RowsRequest" in client.get("/openapi.json").json()["components"]["schemas"]


def test_a_file_of_rows_is_scored_line_by_line(exported: tuple[RecProblem, Path, Path, str], tmp_path: Path) -> None:
    served = load_rows(exported[2])
    (tmp_path / "new.csv").write_text('shop,tags,label\ns1,"[""new"", ""big""]",1\ns9,sale,0\n')
    done = score_table(served, tmp_path / "new.csv", tmp_path / "out.jsonl")
    assert (done.n_rows, done.missing, done.unused) == (2, ("age",), ("label",))
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    expected = served.score([{"shop": "s1", "tags": ["new", "big"]}, {"shop": "s9", "tags": ["sale"]}])
    assert written == [pytest.approx({"line": i, **row}) for i, row in enumerate(expected)]
    (tmp_path / "other.csv").write_text("colour\nred\n")
    with pytest.raises(DataError, match=r"no feature of the model, which reads shop, tags, age; it has colour"):
        score_table(served, tmp_path / "other.csv", tmp_path / "other.jsonl")


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (["data.log.user=shop"], r"needs log\.item; without items there is nothing to list"),
        (["data.log.user=shop", "data.log.item=same"], 'problem = "rows" is for tables without users and items'),
        (["tasks.target=bought"], r"no users and items, which tasks\.target would need"),
        (["data.statistics=['shop']"], r"data\.statistics would need"),
        (["split.kind=leave_last_out"], r"split\.kind must be time, random or given"),
        (["tasks.ranked=[]"], r"tasks\.ranked must name a label"),
        (
            ["problem=feed", "tasks.ranked=['bought']", "tasks.target=bought"],
            r'features and labels alone is searched with problem = "rows"',
        ),
        (["data.log.tasks={}"], None),
    ],
)
def test_settings_that_need_items_are_refused(tmp_path: Path, overrides: list[str], match: str | None) -> None:
    text = (
        SETTINGS
        if match
        else SETTINGS.replace('tasks = { bought = "bought", returned = "returned", paid = "paid" }', "")
    )
    with pytest.raises(ConfigError, match=match or r"data\.log\.tasks is missing: it names the labels"):
        settings(tmp_path, *(overrides if match else []), text=text)


def test_metrics_of_lists_are_refused_for_rows(tmp_path: Path) -> None:
    table(tmp_path)
    from evorec.recommender.checks import check_problem

    with pytest.raises(DataError, match=r"recall@20 needs users and items, and a table of rows has none"):
        check_problem(settings(tmp_path, 'objectives=["recall@20", "cost"]'))
    with pytest.raises(DataError, match=r"gauc/bought needs users and items"):
        check_problem(settings(tmp_path, 'objectives=["gauc/bought", "cost"]'))
    checked = check_problem(settings(tmp_path, 'constraints=["auc/bought >= 1.0 * logistic_regression"]'))
    assert checked.constraints[0].metric == "auc/bought"


def test_rows_are_described_without_users_and_items(tmp_path: Path) -> None:
    table(tmp_path)
    config = settings(tmp_path)
    tables, origin = read_with_origin(config.data)
    found = describe(tables, split=config.split, tasks=config.tasks)
    assert (found.facts["n_users"], found.facts["n_items"], found.facts["density"]) == (0, 0, None)
    texts = findings(found, origin, config.tasks, now_s=2_000_000_000)
    assert not any("user" in text.text or "item" in text.text for text in texts)
    html = data_page(found, origin, texts, version="0")
    assert "300 rows without users and items" in html


def test_numbers_are_a_weighted_mean_of_the_knots_around_them() -> None:
    world = RowsWorld(n_rows=600, seed=2)
    dataset, ages = row_dataset(), simulate(world).interactions["age"].to_numpy()
    field = next(one for one in dataset.context_columns if one.name == "age")
    assert field.codebook is not None
    knots = np.array(field.codebook.edges)
    assert len(knots) == MAX_BINS + 1
    part = dataset.train
    rows = part.context[:, field.first_column : field.first_column + 2] - field.first_row - 1
    weights = part.context_weights[:, field.first_column : field.first_column + 2]
    found = (knots[rows] * weights).sum(1)
    assert set(np.round(found, 3)) <= set(np.round(ages, 3))
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)


def test_the_cost_of_a_row_is_that_of_its_bag_and_its_network() -> None:
    data = device_data(row_dataset(), layers=2)
    one = spec(**of_mechanism("shared_bottom"), embedding_dim=4, width=8, sharing_depth=1)
    assert n_groups(one, data.shape) == 1
    # 4 inputs x 8 shared units; of 3 tasks 8 x 8 units and a head of 8.
    assert forward_macs(one, data.shape) == 4 * 8 + 3 * (8 * 8 + 8)
    step = StepWork(
        batch=10, positives=0, rows=20.0, history_rows=0.0, bag_entries=90.0, history_entries=0.0, items=1.0
    )
    n_columns = row_dataset().train.context.shape[1]
    catalogue = CatalogueWork(
        n_items=0, user_fields=n_columns, history_rows=0, history_length=0, candidates=1, positives=None
    )
    cost = member_cost(one, data.shape, step, catalogue, steps=1, bytes_per_parameter=4)
    assert cost["inference_flops"] == 2 * (n_columns * 4 + 248)
    n_dense = 4 * 8 + 8 + 3 * (8 * 8 + 8 + 8 + 1)
    assert cost["parameters"] == n_dense + data.shape.n_rows * 4
    assert cost["training_flops"] == 2 * 3 * (10 * 248 + 90 * 4) + 12 * (n_dense + 20 * 4)


def test_the_simulated_scores_are_turned_by_the_conflict_angle_and_no_other_order_is_better() -> None:
    world = RowsWorld(n_rows=4000, conflict_angle_deg=60.0, seed=1)
    scores, log = true_scores(world), simulate(world).interactions
    for task in ("claim", "spend"):
        assert np.corrcoef(scores["renew"], scores[task])[0, 1] == pytest.approx(np.cos(np.pi / 3), abs=SAMPLING)
    assert log["renew"].mean() == pytest.approx(0.6, abs=SAMPLING)
    assert log["spend"].null_count() / 4000 == pytest.approx(0.5, abs=SAMPLING)
    best = auc(scores["renew"], log["renew"].to_numpy())
    assert best > auc(scores["claim"], log["renew"].to_numpy()) + 0.1
    noise = np.random.default_rng(0).normal(size=4000)
    assert best > auc(scores["renew"] + 0.3 * noise, log["renew"].to_numpy())
    same = RowsWorld(n_rows=200, conflict_angle_deg=0.0)
    np.testing.assert_allclose(true_scores(same)["claim"], true_scores(same)["renew"])


def test_the_hash_of_rows_differs_from_that_of_a_log(tmp_path: Path) -> None:
    from dataclasses import replace

    table(tmp_path)
    tables = read(settings(tmp_path).data)
    assert not tables.has_items
    assert replace(tables, has_items=True).sha256() != tables.sha256()


def test_the_block_of_the_guide_that_scores_rows_runs(exported: tuple[RecProblem, Path, Path, str]) -> None:
    block, folder, rows = python_block("load_rows"), '"bundles/3f1c"', '{"region": 3, "age": 41.5}, {"region": 7}'
    assert folder in block
    assert rows in block
    exec(block.replace(folder, repr(str(exported[2]))).replace(rows, '{"shop": "s3", "age": 41.5}, {"shop": "s1"}'), {})


def test_init_recognises_a_table_without_items(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(tmp_path)
    text = (tmp_path / "rows.csv").read_text().splitlines()
    rows = [f"{line},{i}" if i else f"{line},contract_no" for i, line in enumerate(text)]
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")
    assert main(["init", str(tmp_path / "rows.csv"), "--out", str(tmp_path / "my.toml")]) == 0
    shown = capsys.readouterr()
    assert "a table of rows without users and items (problem rows): labels are bought, returned" in shown.err
    config = load_config(tmp_path / "my.toml")
    assert isinstance(config, RowsConfig)
    assert config.tasks.ranked == ("bought", "returned")
    kinds = {"shop": "categorical", "age": "numeric", "paid": "numeric"}
    assert {name: config.data.log.features[name] for name in kinds} == kinds
    assert "contract_no" not in config.data.log.features
    assert "# contract_no" in (tmp_path / "my.toml").read_text()
    assert read(config.data).n_rows == 300
    (tmp_path / "plain.csv").write_text("a,b\n1.5,x\n2.5,y\n")
    assert main(["init", str(tmp_path / "plain.csv")]) == 2
    assert "no file has both a column of users and a column of items" in capsys.readouterr().err
