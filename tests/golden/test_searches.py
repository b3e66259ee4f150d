"""Short searches that reproduce to the last digit: hypervolume and every figure of the front.

A change that moves a result on purpose updates these figures and says "changes results" in the CHANGELOG. The figures
hold for the processor features and the torch version below; elsewhere the last digits may differ, and the test is
skipped. The commands, from the root of the repository:

    evorec search --problem feed --set search.population=8 --set search.generations=2
        --set search.surrogate=none --set training.steps=40 --set "training.rungs=[20]"
    evorec search experiments/movielens.toml --set search.population=8 --set search.generations=2
        --set search.surrogate=none --set training.steps=40
    evorec search experiments/kuairand.toml --set search.population=8 --set search.generations=2
        --set search.surrogate=none --set training.steps=40 --set training.batch_size=512
        --set evaluation.max_users=300 --set "constraints=[]"
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch

from evorec.cli import main

MEASURED_WITH = ("AVX2", "2.13.0")
"""CPU capability and torch version of the figures."""
ROOT = Path(__file__).parents[2]
SHORT = ("search.population=8", "search.generations=2", "search.surrogate=none", "training.steps=40")
KUAIRAND = ("training.batch_size=512", "evaluation.max_users=300", "constraints=[]")

SEARCHES = {
    "feed": (
        ["--problem", "feed"],
        (*SHORT, "training.rungs=[20]"),
        None,
        0.07272222993111792,
        "c98f2f1d09303b3b76e50c44a60b0bf9c042a0c2b19b2d99cdc652805f6c072c",
    ),
    "movielens": (
        [str(ROOT / "experiments/movielens.toml")],
        SHORT,
        "movielens-latest-small",
        0.022993427278637457,
        "79d5069285b11af39aa11d7923d0f54ee9d38ac551476f03c6d85f82e916bf66",
    ),
    "kuairand": (
        [str(ROOT / "experiments/kuairand.toml")],
        (*SHORT, *KUAIRAND),
        "kuairand-pure-late",
        0.00743386391568137,
        "7c7fa39190ecbbd41fe5f9f3a5119f28477f97de6a3f40dd0e78cca45d586c63",
    ),
}
"""Name -> source, settings, data set under $EVOREC_DATA, hypervolume of the front, SHA-256 of its figures."""


@pytest.mark.parametrize("name", SEARCHES)
def test_a_short_search_reproduces_to_the_last_digit(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, settings, data, hypervolume, digest = SEARCHES[name]
    machine = (torch.backends.cpu.get_cpu_capability(), torch.__version__.partition("+")[0])
    if machine != MEASURED_WITH:
        pytest.skip(f"the figures were measured with {MEASURED_WITH}, this is {machine}")
    if data is not None and not (Path(os.environ.get("EVOREC_DATA", "")) / data).is_dir():
        pytest.skip(f"needs the data set {data} under $EVOREC_DATA")
    monkeypatch.chdir(tmp_path)
    options = [part for setting in settings for part in ("--set", setting)]
    assert main(["search", *source, *options, "--format", "json"]) == 0
    result = json.loads(capsys.readouterr().out)
    summary = json.loads((Path(result["run"]) / "summary.json").read_text(encoding="utf-8"))
    front = sorted(json.dumps(row, sort_keys=True) for row in result["front"] if row["kind"] == "member")
    assert summary["hypervolume_share"][-1] == hypervolume
    assert hashlib.sha256("\n".join(front).encode()).hexdigest() == digest
