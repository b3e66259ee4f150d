"""The scripts of `experiments`: the sequential baseline trains the same model as evorec, and the benchmarks run."""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from tiny import EVALUATION, MECHANISMS, SEED, dataset, device_data, spec, with_missing_labels

from evorec.data.held_out import HeldOut, ranking_users
from evorec.models.population import fresh_population
from evorec.seeds import generator
from evorec.training.evaluate import measure, task_logits

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "experiments"))

import bench_item_item  # noqa: E402
import bench_population  # noqa: E402
import bench_scaling  # noqa: E402
import bench_setup  # noqa: E402
import bench_steps  # noqa: E402
import public  # noqa: E402
import sequential  # noqa: E402
import validate_agrees  # noqa: E402

LAYERS = 2
ROUNDING = 2e-5
"""Logits of size 1 in float32; the two sides add the same terms in a different order."""
TIES = 2e-3
"""AUC over 240 rows: rounding may swap two rows whose scores are nearly equal."""
LOOP = sequential.Loop(
    steps=3, batch=64, retrieval_batch=16, n_layers=LAYERS, k=EVALUATION.k, candidates=EVALUATION.candidates
)

BALANCINGS = ("pcgrad", "dwa", "fixed")
AGREEING = range(8)
"""Seeds of the compared configurations: refused and searched ones."""


@pytest.fixture(scope="module")
def data():
    return dataset()


@pytest.fixture(scope="module")
def users(data):
    return ranking_users(data, EVALUATION, seed=SEED, at_most=None)


@pytest.fixture(scope="module")
def tensors(data, users):
    return sequential.Tensors.of(data, users)


@pytest.fixture(scope="module")
def partly_labelled(data, users):
    return sequential.Tensors.of(with_missing_labels(data), users)


def population_of(model_spec, data):
    """A single member whose parameters are all random: initial values of zero could hide an error."""
    population = fresh_population(
        [model_spec], device_data(data, layers=LAYERS).shape, seed=SEED, device=torch.device("cpu"), dtype=torch.float32
    )
    rng = generator(SEED, "test parameters")
    arrays = {name: rng.normal(0, 0.3, a.shape).astype(np.float32) for name, a in population.member_arrays(0).items()}
    population.load(0, arrays)
    return population, arrays


def copied(model_spec, tensors, arrays):
    """A sequential model with a member's parameters."""
    model = sequential.Recommender(model_spec, tensors, LAYERS)
    for parameter, array in pairs(model, arrays):
        parameter.data = torch.tensor(np.broadcast_to(array, parameter.shape).copy())
    return model.eval()


def pairs(model, arrays):
    """Each parameter with the array that should equal it."""
    tables = [arrays[name] for name in ("table", "task_table") if name in arrays]
    content = [*arrays["content.weight"], *arrays.get("task_content.weight", [])]
    out = [(model.table.weight, np.hstack(tables)), (model.content.weight, np.hstack(content).T)]
    return out + model.body.pairs(arrays)


def held_out_logits(model, tensors):
    part = tensors.held_out
    with torch.no_grad():
        users, items = model.users(tensors, part.user), model.items(tensors, part.item)
        return model.logits(users, items, part.context, part.statistics).numpy()


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_sequential_recommender_equals_a_member_of_the_population(mechanism, data, tensors):
    model_spec = spec(mechanism=mechanism)
    population, arrays = population_of(model_spec, data)
    model = copied(model_spec, tensors, arrays)
    assert {id(parameter) for parameter, _ in pairs(model, arrays)} == {id(p) for p in model.parameters()}
    expected = task_logits(population, device_data(data, layers=LAYERS), data.held_out)[0]
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(held_out_logits(model, tensors).T, expected, atol=ROUNDING, rtol=ROUNDING)


@pytest.mark.parametrize("blend", [0.0, 0.3])
def test_sequential_validation_gives_the_metrics_of_evorec(blend, data, users, tensors):
    model_spec = spec(mechanism="mmoe", rank_blend=blend)
    population, arrays = population_of(model_spec, data)
    model = copied(model_spec, tensors, arrays)
    found = sequential.validate(model, tensors, LOOP)
    (expected,) = measure(population, device_data(data, layers=LAYERS), HeldOut(data, EVALUATION, users))
    assert {name for name in found if name.startswith("auc/")} == {f"auc/{task}" for task in data.tasks}
    for name, value in found.items():
        assert value == pytest.approx(expected.metrics[name], abs=TIES), name
    scores, labels = held_out_logits(model, tensors)[:, 0], data.held_out.labels[:, 0]
    assert found[f"auc/{data.tasks[0]}"] == pytest.approx(roc_auc_score(labels, scores))


@pytest.mark.parametrize(("mechanism", "balancing"), list(zip(MECHANISMS, cycle(BALANCINGS))))
def test_every_mechanism_trains_sequentially_with_missing_labels(mechanism, balancing, partly_labelled):
    model_spec = spec(mechanism=mechanism, balancing=balancing, dropout=0.1)
    metrics = sequential.candidate(model_spec, partly_labelled, LOOP)
    assert all(np.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize(
    ("loss", "source"), [("softmax", "batch"), ("bpr", "uniform"), ("gbce", "batch"), ("gbce", "uniform")]
)
def test_every_retrieval_loss_trains_sequentially(loss, source, tensors):
    model_spec = spec(retrieval_loss=loss, negative_source=source, negatives=8, optimizer="adafactor")
    assert np.isfinite(sequential.candidate(model_spec, tensors, LOOP)["accuracy"])


@pytest.mark.parametrize("choice", [{"loader": True, "fused": False}, {"sparse": True}, {"autocast": True}])
def test_every_variant_of_the_sequential_loop_trains(choice, tensors):
    assert np.isfinite(sequential.candidate(spec(), tensors, replace(LOOP, **choice))["accuracy"])


def test_every_script_can_be_imported():
    """The long benchmarks run under the mark `slow`; a renamed module must be noticed without them."""
    for path in sorted((ROOT / "experiments").glob("*.py")):
        module = importlib.util.spec_from_file_location(f"imported_{path.stem}", path)
        sys.modules[module.name] = importlib.util.module_from_spec(module)
        module.loader.exec_module(sys.modules[module.name])


def test_methods_take_turns_and_ratios_are_relative_to_the_fastest_baseline(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(bench_population.time, "perf_counter", lambda: float(next(clock)))
    order = []

    def method(name, n_candidates):
        def run():
            order.append(name[0])
            return [{"accuracy": 0.5}] * (n_candidates - 1) + [None]

        return bench_population.Method(name, run)

    found = bench_population.take_turns([method("a loop", 1), method("c joblib", 2), method("e evorec", 6)], rounds=2)
    assert "".join(order) == "ace" + "ace" + "cea"  # the first turns are not counted; then the order moves by one
    assert {name: row["per_minute"] for name, row in found.items()} == {
        "a loop": 60.0, "c joblib": 120.0, "e evorec": 360.0
    }  # fmt: skip
    assert [row["failed"] for row in found.values()] == [1, 1, 1]
    ratios = bench_population.ratios(found, rounds=2)
    assert {name: (row["ratio"], row["strongest"]) for name, row in ratios.items()} == {
        "e evorec / a loop": (6.0, False), "e evorec / c joblib": (3.0, True)
    }  # fmt: skip


@pytest.mark.slow
def test_the_population_benchmark_compares_all_methods(tmp_path):
    out = tmp_path / "figures.json"
    script = [sys.executable, "-W", "error", str(ROOT / "experiments" / "bench_population.py"), "--quick"]
    options = ["--parts", "rates", "--sizes", "small", "--rounds", "1", "--members", "2", "--workers", "1"]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*script, *options, "--out", str(out)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(out.read_text())["rates"]["small"]["methods"]
    assert {name.split()[0] for name in rows} >= {"a", "b", "c", "e"}
    for name, row in rows.items():
        assert row["failed"] == 0, name
        assert 0 < row["lowest"] <= row["per_minute"] <= row["highest"]
    assert "the strongest" in done.stdout


@pytest.mark.slow
def test_floor_memory_and_large_table_are_measured():
    for row in bench_steps.floor(bench_setup.QUICK).values():
        assert 0 < row["share"] < 1
    found = bench_steps.peak_memory("population", 2, "float32", True)
    assert 0 <= found["working_bytes"] < found["extra_bytes"]
    steps = bench_steps.large_table(True)["ms_per_member_step"]
    assert {"evorec float32", "sequential AdamW", "sequential SparseAdam"} <= steps.keys()
    assert all(ms > 0 for ms in steps.values())


@pytest.mark.slow
def test_the_scaling_benchmark_writes_slopes_and_a_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_scaling, "fresh", lambda module, function, **work: bench_scaling.point(**work))
    bench_scaling.main(axes="members,width", limit=2, quick=True, out=tmp_path / "scaling.json")
    axes = json.loads((tmp_path / "scaling.json").read_text())["axes"]
    assert [axes[name]["values"] for name in ("members", "width")] == [[2, 4], [16, 32]]
    assert axes["width"]["slopes"]["ms_per_member_step"].keys() == {"all", "last"}
    assert (tmp_path / "scaling.html").exists() or (tmp_path / "scaling.svg").exists()


@pytest.mark.slow
@pytest.mark.parametrize("part", ["kills", "candidates", "workers", "orphans", "signals", "surroundings", "nights"])
def test_a_search_survives_what_machines_do(part, tmp_path):
    script = [sys.executable, str(ROOT / "experiments" / "threats.py"), part, "--quick", "--folder", str(tmp_path)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(script, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_slopes_of_power_laws_are_their_exponents():
    assert bench_scaling.slopes([1, 10, 100], [3, 30, 300]) == pytest.approx({"all": 1.0, "last": 1.0})
    assert bench_scaling.slopes([1, 2, 4], [5, 5, 20]) == pytest.approx({"all": 1.0, "last": 2.0})
    assert bench_scaling.slopes([1], [1]) == {}


def test_the_time_of_a_training_is_split_into_steps_and_the_rest():
    # Steps of 1, 1 and 3 seconds; the last step is counted as their median.
    times = bench_setup.TrainingTime.of([2.0, 3.0, 4.0, 7.0], 10.0)
    assert times == bench_setup.TrainingTime(step=1.0, rest=4.0)


def test_validate_and_search_give_the_same_verdict_in_the_same_words():
    """A small sample of the script, which compares hundreds of cases; its seeds refuse and accept."""
    found = [validate_agrees.compared(seed) for seed in AGREEING]
    assert [one for one in found if not one.agrees] == []
    assert len({one.search.message for one in found}) >= 4
    assert any(one.finalize is not None for one in found)


FRONT = "l2\tnDCG\tRecall\tAPLT\n1\t0.2\t0.3\t0.1\n2\t0.3\t0.3\t0.1\n3\t0.1\t0.1\t0.4\n"


def test_published_points_are_dominated_by_members_that_are_nowhere_worse(tmp_path):
    front = tmp_path / public.FRONT
    front.write_text(FRONT)
    members = [
        {
            "ndcg": 0.3,
            "recall": 0.2,
            "long_tail_share": 0.1,
        },  # beats the first point, but not in recall; equals the second
        {"ndcg": 0.1, "recall": 0.1, "long_tail_share": 0.5},  # beats the third
    ]
    assert public.dominated(front, members) == {"points": 3, "ndcg_aplt": 2, "ndcg_recall_aplt": 1}
    rows = dict(zip("ab", members, strict=True))
    worse = {"ndcg": 0.2, "recall": 0.9, "long_tail_share": 0.05}
    assert list(public.best_of_front({"c": worse, **rows})) == ["a", "b"]


@pytest.mark.slow
def test_the_public_table_is_made_from_a_quick_search(tmp_path):
    rng, front = np.random.default_rng(0), tmp_path / public.FRONT
    for part, n in {"train": 8, "validation": 2, "test": 3}.items():
        rows = [f"{user}\t{item % 20}\t{number}" for user in range(40) for number, item in enumerate(rng.zipf(1.5, n))]
        (tmp_path / f"{part}.tsv").write_text("\n".join(rows))
    front.write_text(FRONT)
    script = [sys.executable, str(ROOT / "experiments" / "public.py"), "amazon-music", "--quick"]
    settings = (f"data.path={tmp_path}", "evaluation.k=3", "training.steps=3", "search.population=4")
    words = [word for text in settings for word in ("--set", text)]
    done = subprocess.run(
        [*script, *words, "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "figures.json")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "| popularity, here | 0." in done.stdout
    assert "of 3 published points in NDCG and APLT" in done.stdout
    assert json.loads((tmp_path / "figures.json").read_text())["dominated"][0]["points"] == 3


def test_an_item_item_matrix_is_measured_or_left_out_with_the_reason():
    found = bench_item_item.measured("ease", 60, 50, 1.0)
    assert found["fit_s"] > 0
    assert found["flops"] > 50**3
    (reason,) = bench_item_item.measured("ease", 60, 50, 1e-6).values()
    assert reason.startswith("ease takes")
