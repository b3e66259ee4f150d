"""The scripts of `experiments`: the sequential baseline is the same model, and the benchmarks run."""

import json
import os
import subprocess
import sys
from dataclasses import replace
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

import bench_scaling  # noqa: E402
import bench_setup  # noqa: E402
import bench_steps  # noqa: E402
import sequential  # noqa: E402

LAYERS = 2
ROUNDING = 2e-5
"""Logits of size 1 in float32: the same sums in another order."""
TIES = 2e-3
"""AUC of 240 rows: rounding may turn the order of two rows that are nearly equal."""
LOOP = sequential.Loop(
    steps=3, batch=64, retrieval_batch=16, n_layers=LAYERS, k=EVALUATION.k, candidates=EVALUATION.candidates
)

every_mechanism = pytest.mark.parametrize("mechanism", MECHANISMS)


def tensors(data):
    return sequential.Tensors.of(data, users_of(data))


def users_of(data):
    return ranking_users(data, EVALUATION, seed=SEED, at_most=None)


def population_of(one, data):
    """One member with every parameter drawn anew, so that none is left at a start that hides a mistake."""
    population = fresh_population(
        [one], device_data(data, layers=LAYERS).shape, seed=SEED, device=torch.device("cpu"), dtype=torch.float32
    )
    rng = generator(SEED, "test parameters")
    arrays = {name: rng.normal(0, 0.3, a.shape).astype(np.float32) for name, a in population.member_arrays(0).items()}
    population.load(0, arrays)
    return population, arrays


def copied(one, data, arrays):
    """A sequential model with a member's parameters."""
    model = sequential.Recommender(one, data, LAYERS)
    for parameter, array in pairs(model, arrays):
        parameter.data = torch.tensor(np.broadcast_to(array, parameter.shape).copy())
    return model.eval()


def pairs(model, arrays):
    """Each parameter beside the array that should equal it."""
    tables = [arrays[name] for name in ("table", "task_table") if name in arrays]
    content = [*arrays["content.weight"], *arrays.get("task_content.weight", [])]
    out = [(model.table.weight, np.hstack(tables)), (model.content.weight, np.hstack(content).T)]
    return out + model.body.pairs(arrays)


@every_mechanism
def test_the_sequential_recommender_is_the_member_of_the_population(mechanism):
    data, one = dataset(), spec(mechanism=mechanism)
    population, arrays = population_of(one, data)
    model, on_hand = copied(one, tensors(data), arrays), tensors(data)
    assert {id(parameter) for parameter, _ in pairs(model, arrays)} == {id(p) for p in model.parameters()}
    part = on_hand.held_out
    with torch.no_grad():
        users, items = model.users(on_hand, part.user), model.items(on_hand, part.item)
        logits = model.logits(users, items, part.context, part.statistics)
    expected = task_logits(population, device_data(data, layers=LAYERS), data.held_out)[0]
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(logits.T.numpy(), expected, atol=ROUNDING, rtol=ROUNDING)


@pytest.mark.parametrize("blend", [0.0, 0.3])
def test_sequential_validation_gives_the_metrics_of_evorec(blend):
    data, one = dataset(), spec(mechanism="mmoe", rank_blend=blend)
    population, arrays = population_of(one, data)
    found = sequential.validate(copied(one, tensors(data), arrays), tensors(data), LOOP)
    (expected,) = measure(population, device_data(data, layers=LAYERS), HeldOut(data, EVALUATION, users_of(data)))
    assert {name for name in found if name.startswith("auc/")} == {f"auc/{task}" for task in data.tasks}
    for name, value in found.items():
        assert value == pytest.approx(expected.metrics[name], abs=TIES), name


def test_sequential_auc_is_that_of_scikit_learn():
    data, one = dataset(), spec()
    on_hand = tensors(data)
    model = copied(one, on_hand, population_of(one, data)[1])
    part = on_hand.held_out
    with torch.no_grad():
        u, v = model.users(on_hand, part.user), model.items(on_hand, part.item)
        scores = model.logits(u, v, part.context, part.statistics)[:, 0].numpy()
    found = sequential.validate(model, on_hand, LOOP)
    assert found[f"auc/{data.tasks[0]}"] == pytest.approx(roc_auc_score(data.held_out.labels[:, 0], scores))


@every_mechanism
@pytest.mark.parametrize("balancing", ["fixed", "dwa", "pcgrad"])
def test_every_mechanism_trains_sequentially(mechanism, balancing):
    data = with_missing_labels(dataset())
    one = spec(mechanism=mechanism, balancing=balancing, dropout=0.1)
    metrics = sequential.candidate(one, tensors(data), LOOP)
    assert all(np.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("loss", ["softmax", "bpr", "gbce"])
@pytest.mark.parametrize("source", ["batch", "uniform"])
def test_every_retrieval_loss_trains_sequentially(loss, source):
    one = spec(retrieval_loss=loss, negative_source=source, negatives=8, optimizer="adafactor")
    assert np.isfinite(sequential.candidate(one, tensors(dataset()), LOOP)["accuracy"])


@pytest.mark.parametrize("choice", [{"loader": True, "fused": False}, {"sparse": True}, {"autocast": True}])
def test_the_loop_has_its_variants(choice):
    metrics = sequential.candidate(spec(), tensors(dataset()), replace(LOOP, **choice))
    assert np.isfinite(metrics["accuracy"])


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


def test_floor_memory_and_large_table_are_measured():
    for row in bench_steps.floor(bench_setup.QUICK).values():
        assert 0 < row["share"] < 1
    found = bench_steps.peak_memory("population", 2, "float32", True)
    assert 0 <= found["working_bytes"] < found["extra_bytes"]
    steps = bench_steps.large_table(True)["ms_per_member_step"]
    assert {"evorec float32", "sequential AdamW", "sequential SparseAdam"} <= steps.keys()
    assert all(ms > 0 for ms in steps.values())


def test_the_scaling_benchmark_writes_slopes_and_a_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_scaling, "fresh", lambda module, function, **work: bench_scaling.point(**work))
    bench_scaling.main(axes="members,width", limit=2, quick=True, out=tmp_path / "scaling.json")
    axes = json.loads((tmp_path / "scaling.json").read_text())["axes"]
    assert [axes[name]["values"] for name in ("members", "width")] == [[2, 4], [16, 32]]
    assert axes["width"]["slopes"]["ms_per_member_step"].keys() == {"all", "last"}
    assert (tmp_path / "scaling.html").exists() or (tmp_path / "scaling.svg").exists()


def test_slopes_are_those_of_powers():
    assert bench_scaling.slopes([1, 10, 100], [3, 30, 300]) == pytest.approx({"all": 1.0, "last": 1.0})
    assert bench_scaling.slopes([1, 2, 4], [5, 5, 20]) == pytest.approx({"all": 1.0, "last": 2.0})
    assert bench_scaling.slopes([1], [1]) == {}


def test_a_timed_training_is_cut_into_steps_and_the_rest():
    timed = bench_setup.Timed.of([2.0, 3.0, 4.0, 7.0], 10.0)  # steps of 1, 1, 3 and, taken to be like them, 1
    assert timed == bench_setup.Timed(step=1.0, rest=4.0)
