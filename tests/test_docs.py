"""README and guides are executed: Python blocks run, TOML blocks are valid, commands exist with their options."""

from __future__ import annotations

import gzip
import json
import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import exported
import numpy as np
import polars as pl
import pytest
import typer

from evorec.cli import main
from evorec.cli.app import application
from evorec.config import installed_problems, merge, parse_config, problem_definition

ROOT = Path(__file__).parents[1]
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md"]
TINY_FEED = {
    "data": {"simulator": {"n_users": 80, "n_items": 60, "n_interactions": 3000}},
    "training": {"steps": 2, "batch_size": 64, "retrieval_batch": 16},
}
FEW = (
    "training.steps=20",
    "search.population=4",
    "search.generations=1",
    "search.surrogate=none",
    "constraints=[]",
    "finalize.seeds=1",
    "finalize.picks=['knee']",
    "finalize.boosting=false",
    "run.executor=serial",
)


@dataclass(frozen=True)
class CodeBlock:
    """A fenced block: its guide, its language, the file that it is, if any, and its text."""

    guide: str
    language: str
    file: str | None
    text: str


def blocks(language: str) -> list[CodeBlock]:
    pattern = r"(?:<!-- file: (\S+) -->\n)?```(\w+)\n(.*?)```"
    return [
        CodeBlock(path.name, found[2], found[1], found[3])
        for path in GUIDES
        for found in re.finditer(pattern, path.read_text(encoding="utf-8"), re.DOTALL)
        if found[2] == language
    ]


def python_block(containing: str) -> str:
    (found,) = [block.text for block in blocks("python") if containing in block.text]
    return found


SHOP = python_block("def read_shop")
PYMOO = [block for block in blocks("python") if "NSGA2(pop_size=24)" in block.text]
BUNDLE = python_block("load_bundle")
CONFIRM = python_block("evorec.confirm(")
LOAD = python_block("evorec.load_run(")
PICKS = python_block("from evorec.archive.decide import pick")
OPTUNA = python_block("as_optuna")
LIBRARY = [block.text for block in blocks("python") if block.guide == "library.md"]
ROWS = python_block("load_rows")
"""Run by tests/test_rows.py; blocks that are a file of a package by tests/test_extensions.py."""


def commands() -> list[str]:
    """Every command line of evorec in a console block, without its comment."""
    lines = [line for block in blocks("console") for line in block.text.splitlines()]
    return sorted(
        {line.removeprefix("$ ").partition("  #")[0].strip() for line in lines if line.startswith("$ evorec")}
    )


def settings(texts: tuple[str, ...] | list[str]) -> list[str]:
    return [part for text in texts for part in ("--set", text)]


def test_a_command_of_the_guides_exists_with_its_options() -> None:
    root: Any = typer.main.get_command(application())  # newer versions of typer bring a click of their own
    for line in commands():
        name, *words = shlex.split(line)
        try:
            command, context = root, root.make_context(name, list(words))
            while hasattr(command, "resolve_command"):
                name, found, words = command.resolve_command(context, words)
                assert found is not None
                command, context = found, found.make_context(name, list(words), parent=context)
        except Exception as error:
            error.add_note(line)
            raise


@pytest.mark.parametrize("block", blocks("toml"), ids=lambda block: block.guide)
def test_a_configuration_of_the_guides_is_valid(block: CodeBlock) -> None:
    given = tomllib.loads(block.text)
    if "project" in given:  # part of a pyproject.toml
        assert all(group.startswith("evorec.") for group in given["project"]["entry-points"])
        return
    given.pop("plugins", None)  # files of the reader
    definition = problem_definition(given.get("problem", "feed"))
    parse_config(merge(definition.defaults, given), source=block.guide, kind=definition.config)


def write_events(folder: Path) -> None:
    """The event log of the README: views, carts and transactions of 40 visitors in 12 days."""
    rng = np.random.default_rng(0)
    n = 3000
    event = rng.choice(["view", "addtocart", "transaction"], n, p=[0.6, 0.2, 0.2])
    pl.DataFrame(
        {
            "timestamp": 1_600_000_000_000 + np.sort(rng.integers(0, 12 * 86_400_000, n)),
            "visitorid": rng.integers(0, 40, n),
            "event": event,
            "itemid": rng.integers(0, 30, n),
        }
    ).write_csv(folder / "events-1.csv")
    (folder / "events-1.csv.gz").write_bytes(gzip.compress((folder / "events-1.csv").read_bytes()))
    (folder / "events-1.csv").unlink()


def write_adjacency(folder: Path) -> None:
    """A line per user: the user, then its items."""
    rng = np.random.default_rng(0)
    for name, n in (("train", 12), ("test", 3)):
        lines = [" ".join(map(str, [user, *rng.choice(30, n, replace=False)])) for user in range(60)]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")


def write_clicks_and_buys(folder: Path) -> None:
    """A file per kind of event, with other columns."""
    rng = np.random.default_rng(0)
    n = 3000
    seconds = np.sort(rng.integers(0, 12 * 86_400, n)) + 1_396_000_000
    times = [time.isoformat(timespec="milliseconds") + "Z" for time in pl.from_epoch(pl.Series(seconds)).to_list()]
    rows = list(zip(rng.integers(0, 150, n), times, rng.integers(0, 30, n), rng.random(n) < 0.3, strict=True))
    clicks = "".join(f"{session},{time},{item},0\n" for session, time, item, _ in rows)
    (folder / "yoochoose-clicks.dat").write_text(clicks)
    buys = "".join(f"{session},{time},{item},990,1\n" for session, time, item, bought in rows if bought)
    (folder / "yoochoose-buys.dat").write_text(buys)


def write_contracts(folder: Path) -> None:
    """Rows without users and items."""
    rng = np.random.default_rng(0)
    n = 600
    region, age, income = rng.integers(0, 9, n), rng.integers(18, 80, n), rng.lognormal(10, 0.5, n).round()
    amount = np.where(rng.random(n) < 0.4, rng.lognormal(5, 1, n).round(2), 0.0)
    renewed = rng.random(n) < 0.3 + 0.005 * age
    columns = {"region": region, "age": age, "income": income, "renewed": renewed, "claim_amount": amount}
    pl.DataFrame(columns).write_csv(folder / "contracts.csv")


DATA_OF_GUIDES = {
    "my-shop": write_events,
    "gowalla": write_adjacency,
    "yoochoose": write_clicks_and_buys,
    "contracts": write_contracts,
}
"""``data.path`` of a configuration -> writes files with the columns that it names."""
LOGS = [block for block in blocks("toml") if any(f'path = "{name}"' in block.text for name in DATA_OF_GUIDES)]
QUICK = (
    "training.steps=2",
    "search.population=4",
    "search.generations=1",
    "search.surrogate=none",
    "run.executor=serial",
    "constraints=[]",
    "finalize.boosting=false",
)


def test_a_log_of_the_guides_is_described_validated_and_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("EVOREC_DATA", raising=False)
    assert {block.guide for block in LOGS} >= {"README.md", "own-data.md"}
    for number, block in enumerate(LOGS):
        folder = tmp_path / str(number)
        data = folder / tomllib.loads(block.text)["data"]["path"]
        data.mkdir(parents=True)
        monkeypatch.chdir(folder)
        DATA_OF_GUIDES[data.name](data)
        text = block.text if "problem =" in block.text else f'problem = "feed"\n{block.text}'
        Path("shop.toml").write_text(text, encoding="utf-8")
        for command in (["data", "describe"], ["validate"], ["search"]):
            quick = settings(QUICK) if command == ["search"] else []
            assert main([*command, "shop.toml", *quick]) == 0, (block.guide, block.text, capsys.readouterr().err)
        assert main(["search", "shop.toml", *settings(QUICK)]) == 0, capsys.readouterr().err  # reads its configuration
        assert any(Path("runs").glob("*-*"))


def test_the_table_of_problems_is_complete() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/problems.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(installed_problems())


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)
def test_a_link_of_the_guides_leads_to_a_file(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_the_problem_in_40_lines_has_40_lines() -> None:
    assert len([line for line in SHOP.splitlines() if line.strip()]) <= 40


def test_the_problem_in_40_lines_runs_from_search_to_recommendation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shop.py").write_text(SHOP, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["problems", "shop.py"]) == 0
    assert "will a visitor click an offer" in capsys.readouterr().out
    assert main(["search", "--problem", "shop.py", "-q", *settings(FEW)]) == 0
    (run,) = map(str, (tmp_path / "runs").glob("*-*"))
    assert Path(run).name.startswith("shop-")
    found: dict[str, object] = {"path": run}
    exec(CONFIRM, found)
    assert found["found"].n_seeds == 2  # type: ignore[attr-defined]
    exec(LOAD, found)
    assert Path("front.svg").is_file()
    assert found["by_generation"]["generation"].to_list() == [1]  # type: ignore[index]
    for command in (["front", run], ["report", run], ["export", run, "knee", "--out", "bundle"], ["finalize", run]):
        capsys.readouterr()
        assert main([*command, "-q"]) == 0
    out = capsys.readouterr().out
    assert "Test, mean of 1 seed" in out
    assert "popularity" in out
    assert main(["recommend", "bundle", "--user", "7", "--user", "nobody", "-k", "3", "--format", "json"]) == 0
    out, err = capsys.readouterr()
    lists = json.loads(out)
    assert [len(lists[user]) for user in ("7", "nobody")] == [3, 3]
    assert [pair["score"] for pair in lists["7"]] == sorted((pair["score"] for pair in lists["7"]), reverse=True)
    assert "user nobody is not in the training data" in err


@pytest.mark.parametrize("block", PYMOO, ids=lambda block: block.guide)
def test_a_block_with_pymoo_runs(block: CodeBlock, monkeypatch: pytest.MonkeyPatch) -> None:
    from problems import feed, recommender

    monkeypatch.setattr(feed, "build", recommender(merge(feed.DEFAULTS, TINY_FEED)))
    whole, smaller = 'NSGA2(pop_size=24), ("n_gen", 8)', 'NSGA2(pop_size=6), ("n_gen", 2)'
    assert whole in block.text
    found: dict[str, object] = {}
    exec(block.text.replace(whole, smaller), found)  # as a reader pastes it, but for the size
    assert len(found["result"].pop.get("F")) == 6  # type: ignore[attr-defined]


def test_the_block_of_picks_gives_what_the_guide_says() -> None:
    found: dict[str, Any] = {}
    exec(PICKS, found)
    assert found["key"] == "b"
    text = (ROOT / "docs/search.md").read_text(encoding="utf-8").replace("\n", " ")
    assert len(found["rates"]) == 2
    assert all(f'"{rate.partition(" (")[0]}"' in text for rate in found["rates"])
    assert found["rows"].tolist() == [0, 2]


def test_every_python_block_is_run_by_a_test() -> None:
    run = {SHOP, BUNDLE, CONFIRM, LOAD, PICKS, OPTUNA, ROWS, *LIBRARY, *(block.text for block in PYMOO)}
    package = {block.text for block in blocks("python") if block.file and block.file.startswith("acme/")}
    assert not [block for block in blocks("python") if block.text not in run | package]


def test_the_blocks_of_the_guide_to_the_library_run_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[str, Any] = {}
    for block in LIBRARY:
        exec(block, found)
    assert "members, hypervolume" in capsys.readouterr().out
    assert found["result"].hypervolume[-1] > found["own"].hypervolume[-1]


def test_the_block_with_optuna_runs() -> None:
    found: dict[str, Any] = {}
    exec(OPTUNA.replace("n_trials=48", "n_trials=12"), found)
    assert set(found["spec"]) <= set(found["objective"].problem.space.names)


def test_the_block_of_a_bundle_runs(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder, bundle = '"bundles/a540b0b8e4cb80e9"', exported.plain(tmp_path_factory.getbasetemp()).bundle
    assert folder in BUNDLE
    found: dict[str, object] = {}
    exec(BUNDLE.replace(folder, repr(str(bundle))), found)
    assert found["more"].has_item("new-1")  # type: ignore[attr-defined]
