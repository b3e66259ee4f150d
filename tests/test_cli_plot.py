import json
from pathlib import Path

import polars as pl
import pytest

from evorec.cli import main


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the analytic problem."""
    root = tmp_path_factory.mktemp("runs")
    small = ["search.population=8", "search.generations=2", "search.surrogate=none", f"run.output={root}"]
    assert main(["search", "--problem", "analytic", "-q", *(part for text in small for part in ("--set", text))]) == 0
    (path,) = root.glob("analytic-*")
    return path


def test_a_figure_is_written_for_the_paper(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "front.svg"
    assert main(["plot", str(run), str(run), "-o", str(target), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"what": "front", "runs": [str(run)] * 2, "out": str(target)}
    assert b"<svg" in target.read_bytes()


def test_the_ledger_is_written_as_a_table(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "evaluations.parquet"
    assert main(["table", str(run), "--what", "evaluations", "-o", str(target)]) == 0
    out, err = capsys.readouterr()
    frame = pl.read_parquet(target)
    assert out == f"{target}\n"
    assert err == f"{frame.height} rows, {frame.width} columns\n"
    assert frame["generation"].max() == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plot", "-o", "front.gif"], "--out must end with .svg, .png or .pdf, got front.gif"),
        (["plot", "-o", "."], "--out must be a file, and . is a folder; e.g. --out front.svg"),
        (["plot", "-o", "a.svg", "--objective", "qualty"], "'qualty' is not an objective"),
        (["plot", "-o", "a.svg", "--what", "hypervolume", "--objective", "quality"], "leave --objective out"),
        (["plot", "-o", "a.svg", "--what", "confirmed"], "has no fresh seeds"),
        (["table", "-o", "front.xlsx"], "--out must end with one of .csv,"),
    ],
)
def test_what_cannot_be_written_is_refused(
    words: list[str], message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, *options = words
    assert main([command, str(run), *options]) in (2, 3)
    out, err = capsys.readouterr()
    assert message in err
    assert out == ""
