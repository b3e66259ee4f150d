"""A Triton repository: its layout and configuration, and graphs that run by themselves."""

import re
import shutil
from pathlib import Path
from typing import Any

import exported
import numpy as np
import onnx
import onnxruntime
import pytest
from exported import Made

from evorec.deploy.bundle.triton import write_triton
from evorec.errors import RunError
from evorec.serving.queries import ListOptions

NAMES = ["evorec_user_vectors", "evorec_item_vectors", "evorec_ranker", "evorec_recommend"]
ROUNDING = 1e-6  # float32
TENSOR = re.compile(r'\{ name: "([^"]+)" data_type: TYPE_(\w+) dims: \[ ([-0-9, ]+) \](.*?) \}(?=,|\n)')
TYPES = {"FP32": "tensor(float)", "INT64": "tensor(int64)", "BOOL": "tensor(bool)"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return exported.plain(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def repository(plain: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written from a copy of the bundle that is gone by now."""
    root = tmp_path_factory.mktemp("triton")
    shutil.copytree(plain.bundle, root / "bundle")
    assert write_triton(root / "bundle", root / "models") == NAMES
    shutil.rmtree(root / "bundle")
    return root / "models"


def session(repository: Path, name: str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(repository / name / "1" / "model.onnx", providers=["CPUExecutionProvider"])


def tensors(text: str, kind: str) -> dict[str, tuple[str, list[int], str]]:
    (block,) = re.findall(rf"^{kind} \[\n(.*?)\n\]$", text, re.DOTALL | re.MULTILINE)
    found = TENSOR.findall(block + "\n")
    assert len(found) == len(block.splitlines())
    return {name: (data, [int(size) for size in dims.split(",")], rest) for name, data, dims, rest in found}


def test_the_repository_has_a_folder_for_each_graph_with_its_weights_inside(repository: Path) -> None:
    files = sorted(str(path.relative_to(repository)) for path in repository.rglob("*") if path.is_file())
    assert files == sorted(f"{name}/{file}" for name in NAMES for file in ("config.pbtxt", "1/model.onnx"))
    for name in NAMES:
        onnx.checker.check_model(repository / name / "1" / "model.onnx")


@pytest.mark.parametrize("name", NAMES)
def test_the_configuration_lists_the_inputs_and_outputs_of_the_graph(repository: Path, name: str) -> None:
    text = (repository / name / "config.pbtxt").read_text()
    assert text.splitlines()[:3] == [f'name: "{name}"', 'platform: "onnxruntime_onnx"', "max_batch_size: 0"]
    model = session(repository, name)
    for kind, values in (("input", model.get_inputs()), ("output", model.get_outputs())):
        told = tensors(text, kind)
        assert list(told) == [value.name for value in values]
        for value in values:
            data, dims, rest = told[value.name]
            sizes = [size if isinstance(size, int) else -1 for size in value.shape]
            assert (TYPES[data], dims) == (value.type, sizes or [1])
            assert rest.strip() == ("" if sizes else "reshape: { shape: [ ] }")
            assert not sizes or -1 in dims or value.name == "allowed", "the number of users, items or pairs is free"


def test_the_triton_graph_makes_the_lists_of_the_bundle(plain: Made, repository: Path) -> None:
    recommender, dataset = plain.recommender, plain.dataset
    n = dataset.n_users
    seen = dataset.seen
    excluded = np.full((n, max(1, int(seen.counts()[:n].max()))), -1)
    for user in range(n):
        row = seen.row(user)
        excluded[user, : len(row)] = row
    weights = (dataset.history_rows[:n] > 0) / np.sqrt((dataset.history_rows[:n] > 0).sum(1, keepdims=True) + 1)
    feeds: dict[str, Any] = {
        "user_rows": dataset.user_rows[:n], "user_weights": dataset.user_weights[:n].astype(np.float32),
        "history_rows": dataset.history_rows[:n], "history_weights": weights.astype(np.float32),
        "user_statistics": dataset.user_statistics[:n],
        "context_rows": np.repeat(dataset.context_mode[None], n, axis=0),
        "allowed": np.ones(dataset.n_items, dtype=bool), "excluded": excluded,
        "k": np.array(5), "candidates": np.array(12),
    }  # fmt: skip
    model = session(repository, "evorec_recommend")
    needed = {value.name for value in model.get_inputs()}
    assert needed <= feeds.keys()
    items, scores = model.run(None, {name: feeds[name] for name in needed})
    expected = recommender.index_lists(dataset.user_ids.tolist(), ListOptions(k=5))
    np.testing.assert_array_equal(items, expected.items)
    np.testing.assert_allclose(scores, expected.scores, atol=ROUNDING, rtol=ROUNDING)


def test_nothing_is_written_over_and_a_damaged_bundle_leaves_nothing(plain: Made, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    with pytest.raises(RunError, match="exists already and is not overwritten"):
        write_triton(plain.bundle, tmp_path / "models")
    shutil.copytree(plain.bundle, tmp_path / "bundle")
    (tmp_path / "bundle" / "ids.json").write_text("{}")
    with pytest.raises(RunError, match=r"ids\.json is damaged"):
        write_triton(tmp_path / "bundle", tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "models"]
