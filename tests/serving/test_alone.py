"""A bundle needs numpy and onnxruntime, and nothing else of what evorec needs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import exported
import pytest
from contracts.source import ROOT
from exported import Made

STARTUP_S, INSTALL_S = 60.0, 600.0
BLOCKED = (
    "torch", "polars", "pydantic", "scipy", "typer", "click", "rich", "pymoo", "deap", "moocore", "plotly", "sklearn",
    "safetensors", "onnx", "onnx_ir", "onnxscript", "fastapi", "joblib", "pandas", "pyarrow",
)  # fmt: skip
ASKING = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
blocked = set(json.loads(sys.argv[2]))
class Hook:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ImportError(f"{name} must not be needed")
sys.meta_path.insert(0, Hook())
import evorec
model = evorec.load_bundle(sys.argv[3])
users = [*json.loads(sys.argv[4]), evorec.User(liked=[3, 4], features={"segment": 2}, context={"hour": 5})]
more = model.with_items([evorec.Item("new", {"category": 1})])
print(json.dumps([model.recommend(users), model.recommend(users, mmr=0.5), model.score(1, [1, 2]),
                  more.recommend(users, k=51)]))
print(json.dumps(sorted(blocked & {name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return exported.plain(tmp_path_factory.getbasetemp())


def here(made: Made, bundle: Path) -> Any:
    """What this process says."""
    from evorec.serving.queries import Item, User
    from evorec.serving.recommender import load_bundle

    model = load_bundle(bundle)
    users = [*known(made), User(liked=[3, 4], features={"segment": 2}, context={"hour": 5})]
    more = model.with_items([Item("new", {"category": 1})])
    said = [
        model.recommend(users),
        model.recommend(users, mmr=0.5),
        model.score(1, [1, 2]),
        more.recommend(users, k=51),
    ]
    return json.loads(json.dumps(said))


def known(made: Made) -> list[Any]:
    return [*made.dataset.user_ids.tolist(), "nobody"]


def asked(python: str, paths: list[str], bundle: Path, users: list[Any], blocked: tuple[str, ...]) -> tuple[Any, Any]:
    command = [python, "-I", "-c", ASKING, json.dumps(paths), json.dumps(blocked), str(bundle), json.dumps(users)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=STARTUP_S, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), json.loads(done.stderr.splitlines()[-1])


def test_a_process_without_torch_gives_the_same_answers_from_a_moved_bundle(plain: Made, tmp_path: Path) -> None:
    shutil.copytree(plain.bundle, tmp_path / "moved")
    found, loaded = asked(sys.executable, [str(ROOT)], tmp_path / "moved", known(plain), BLOCKED)
    assert loaded == []
    assert found == here(plain, plain.bundle)


@pytest.mark.slow
def test_an_installation_with_only_numpy_and_onnxruntime_gives_the_same_answers(plain: Made, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True, timeout=INSTALL_S)
    pip = [venv / "bin" / "python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt"]
    subprocess.run([*pip, "numpy", "onnxruntime"], check=True, timeout=INSTALL_S)
    source = tmp_path / "source"
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".venv", ".git", "runs", "bundles", ".mypy_cache", ".*")
    )
    subprocess.run([*pip, "--no-deps", source], check=True, timeout=INSTALL_S)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    listed = subprocess.run(
        [venv / "bin" / "python", "-m", "pip", "list", "--format", "json"], capture_output=True, text=True, check=True,
        timeout=INSTALL_S, env=environment,
    )  # fmt: skip
    installed = {one["name"].lower() for one in json.loads(listed.stdout)}
    assert {"evorec", "numpy", "onnxruntime"} <= installed
    assert not installed & set(BLOCKED)
    found, _ = asked(str(venv / "bin" / "python"), [], plain.bundle, known(plain), ())
    assert found == here(plain, plain.bundle)
