"""A package of extensions, each in one file, as docs/extending.md shows them: found, searched, stopped and resumed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
TIMEOUT_S = 600.0
"""A safeguard against a search that hangs; on a quiet machine each command takes seconds."""
TINY_FEED = (
    "data.simulator.n_users=80", "data.simulator.n_items=60", "data.simulator.n_interactions=3000",
    "training.steps=4", "training.batch_size=64", "training.retrieval_batch=16", "training.rungs=[2]", "constraints=[]",
    "search.population=6", "search.generations=2", "search.surrogate=none", "run.executor=processes", "run.workers=1",
    "finalize.boosting=false",
)  # fmt: skip
EXTENDED = (
    "space.mechanism=twin_experts", 'objectives=["accuracy", "first_items@k", "cost"]', "search.algorithm=my_nsga3",
    "search.options={partitions=2}",
)  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the package is installed: its files and its entry points."""
    folder = tmp_path_factory.mktemp("site")
    for name, text in re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", GUIDE, re.DOTALL):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (declared,) = [text for text in re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL) if "[project." in text]
    groups = tomllib.loads(declared)["project"]["entry-points"]
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items()) for group, entries in groups.items()]
    info = folder / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(lines))
    return folder


def start(site: Path, folder: Path, *command: str) -> subprocess.Popen[str]:
    """A process that has the package installed, as a user's process has."""
    path = os.pathsep.join([str(site), str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(site: Path, folder: Path, *command: str) -> str:
    process = start(site, folder, *command)
    out, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, out + errors
    return out


def several(site: Path, folder: Path, commands: list[list[str]]) -> list[str]:
    """The outputs of commands that succeed, in a single process."""
    lines = [
        "from evorec.cli import main",
        "if __name__ == '__main__':",
        *(f"    print(main({one}))" for one in commands),
    ]
    (folder / "several.py").write_text("\n".join(lines))
    return run(site, folder, "several").split("\n0\n")[: len(commands)]


def search(problem: str, *settings: str) -> list[str]:
    options = [part for setting in settings for part in ("--set", setting)]
    return ["evorec", "search", "--problem", problem, "--format", "json", *options]


def test_a_search_with_extensions_in_worker_processes_resumes_to_the_same_front(site: Path, tmp_path: Path) -> None:
    whole, interrupted = tmp_path / "whole", tmp_path / "interrupted"
    whole.mkdir()
    interrupted.mkdir()
    command = search("feed", *TINY_FEED, *EXTENDED)
    commands = [
        [*command[1:], "--set", "run.executor=serial", "--name", "whole"], ["spent", "whole", "--format", "json"],
        ["--help"], ["explain", "whole", "knee"],
    ]  # fmt: skip
    searched, spent, usage, explained = several(site, whole, commands)
    assert float(json.loads(spent)["seconds"]) > 0
    assert " spent " in usage
    assert re.search(r"All tasks share [234] small networks; each task", " ".join(explained.split()))
    front = json.loads(searched)["front"]
    assert "member" in {row["kind"] for row in front}
    assert all(0 < row["first_items@20"] <= 1 for row in front)  # baselines have it too

    process = start(site, interrupted, *command)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("generation 1/2"):
            process.send_signal(signal.SIGTERM)
            break
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode in (0, 75), errors  # 0 = the search was faster than the signal
    assert json.loads(run(site, interrupted, *command))["front"] == front


def test_a_problem_with_a_gene_type_of_its_own_is_searched(site: Path, tmp_path: Path) -> None:
    settings = ("search.population=12", "search.generations=4", "run.executor=processes", "run.workers=1")
    settings += ('run.trackers=["diary"]',)
    commands = [search("newsletter", *settings)[1:], ["problems", "newsletter"]]
    searched, described = several(site, tmp_path, commands)
    front = json.loads(searched)["front"]
    assert front[0]["readers"] == 1.0  # hour 20 is the best hour of readers, and the front is sorted by readers
    steps = [json.loads(line)["generation"] for line in (tmp_path / "diary.jsonl").read_text().splitlines()]
    assert steps == list(range(1, len(steps) + 1))
    assert "on a circle" in described


def test_the_contract_tests_cover_the_extensions(site: Path, tmp_path: Path) -> None:
    contracts = [str(ROOT / "tests" / "contracts" / f"test_every_{kind}.py") for kind in ("mechanism", "metric")]
    # The plugin of schemathesis takes seconds to import; that of hypothesis would import it at the end, with a warning.
    command = [
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:schemathesis",
        "-p",
        "no:hypothesispytest",
        "-c",
        str(ROOT / "setup.cfg"),
    ]
    out = run(site, tmp_path, *command, "--rootdir", str(ROOT), *contracts, "-k", "twin_experts or first_items")
    passed = re.search(r"(\d+) passed", out)
    assert passed
    assert int(passed[1]) >= 3, out
