"""The README is run: its Python blocks, its commands and its problem in 40 lines, from search to recommendation."""

import json
import re
from pathlib import Path

import pytest

from evorec.cli import main
from evorec.cli.app import COMMANDS
from evorec.config import installed_problems, merge

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
FEED, SERVED, SHOP = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
TINY_FEED = {
    "data": {"simulator": {"n_users": 80, "n_items": 60, "n_interactions": 3000}},
    "training": {"steps": 2, "batch_size": 64, "retrieval_batch": 16},
}
FEW = ("training.steps=20", "search.population=4", "constraints=[]", "finalize.seeds=1", "finalize.picks=['knee']")


def test_the_problem_in_40_lines_has_40_lines() -> None:
    assert "Add a problem in 40 lines" in README
    assert len([line for line in SHOP.splitlines() if line.strip()]) <= 40


def test_the_problem_in_40_lines_runs_from_search_to_recommendation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shop.py").write_text(SHOP, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["problems", "shop.py"]) == 0
    assert "will a visitor click an offer" in capsys.readouterr().out
    assert main(["search", "--problem", "shop.py", "-q", *(part for text in FEW for part in ("--set", text))]) == 0
    (run,) = map(str, (tmp_path / "runs").iterdir())
    for command in (["front", run], ["finalize", run], ["report", run], ["export", run, "knee", "--out", "bundle"]):
        assert main([*command, "-q"]) == 0
    capsys.readouterr()
    assert main(["recommend", "bundle", "--user", "7", "-k", "3", "--format", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["7"]) == 3


def test_the_pymoo_block_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    from problems import feed

    monkeypatch.setattr(feed, "DEFAULTS", merge(feed.DEFAULTS, TINY_FEED))
    whole, smaller = 'NSGA2(pop_size=24), ("n_gen", 8)', 'NSGA2(pop_size=6), ("n_gen", 2)'
    assert whole in FEED
    found: dict[str, object] = {}
    exec(FEED.replace(whole, smaller), found)  # as a reader pastes it, but for the size
    assert found["result"].pop.get("F").shape == (6, 4)  # type: ignore[attr-defined]


def test_the_block_of_a_bundle_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = [f"data.simulator.{name}={value}" for name, value in TINY_FEED["data"]["simulator"].items()]
    tiny += ["training.steps=20", "training.rungs=[]", "search.population=4", "search.generations=1", "constraints=[]"]
    assert main(["search", "--problem", "feed", "-q", *(part for text in tiny for part in ("--set", text))]) == 0
    (run,) = map(str, (tmp_path / "runs").iterdir())
    assert main(["export", run, "knee", "--out", "bundle", "-q"]) == 0
    place = '"bundles/a540b0b8e4cb80e9"'
    assert place in SERVED
    found: dict[str, object] = {}
    exec(SERVED.replace(place, '"bundle"'), found)
    assert found["more"].has_item("new-1")  # type: ignore[attr-defined]


def test_every_command_and_problem_in_the_readme_exists() -> None:
    names = {name.partition(" ")[0] for name in COMMANDS}
    blocks = "\n".join(re.findall(r"```console\n(.*?)```", README, re.DOTALL))
    used = set(re.findall(r"\$ evorec (\w+)", blocks)) | set(re.findall(r"`evorec (\w+)", README))
    assert used <= names
    assert set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)) <= set(installed_problems())
