"""Problems that train nothing, from the command line: what works, and what is refused."""

import json
from pathlib import Path

import made_up_table as made_up
import pytest

from evorec.cli import main
from evorec.errors import ConfigError, DataError
from evorec.run.ledger import Ledger

ANALYTIC = ("-p", "analytic", "--set", "search.population=8", "--set", "search.generations=3")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    return folder


@pytest.fixture
def run(here: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A finished search of the analytic problem."""
    assert main(["search", *ANALYTIC]) == 0
    err = capsys.readouterr().err
    (path,) = (here / "runs").glob("*-*")
    assert f"next: evorec report runs/{path.name}" in err
    assert "finalize" not in err, "there is nothing to train again"
    return path


@pytest.mark.parametrize("name", ["analytic", "tabular"])
def test_a_problem_is_listed_described_and_valid(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["problems", "--format", "json"]) == 0
    assert name in json.loads(capsys.readouterr().out)
    assert main(["problems", name, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["name"] == name
    assert {"ideal", "worst", "direction"} <= told["objectives"][0].keys()
    assert main(["problems", name]) == 0
    out = capsys.readouterr().out
    assert all(gene["name"] in out for gene in told["genes"])
    assert "task_weights" not in out, "the genes of the recommender are not its genes"
    assert main(["validate", "-p", name, "--format", "json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["problem"] == name
    assert len(facts["objectives"]) == len(told["objectives"])


def test_a_run_is_shown_reported_and_resumed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["front", str(run)]) == 0
    out, err = capsys.readouterr()
    assert "quality" in out
    assert "export" not in err
    assert main(["report", str(run)]) == 0
    assert (run / "report.html").stat().st_size > 1000
    assert main(["resume", str(run)]) == 0
    assert "finished already" in capsys.readouterr().err


def test_the_genes_that_matter_are_shown(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a run, and in the memory that the run has filled."""
    assert main(["genes", str(run)]) == 0
    out = capsys.readouterr().out
    assert "Importance of genes" in out
    assert "What the genomes of the front have in common" in out
    assert main(["genes", str(run), "--objective", "cost", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (cost,) = found["importance"]
    assert (cost["objective"], cost["n_rows"], found["front"]["n"]) == ("cost", 24, 24)
    assert main(["genes", str(run), "--objective", "quallity"]) == ConfigError.exit_code
    assert "did you mean 'quality'?" in capsys.readouterr().err
    assert main(["memory", "genes", "--problem", "analityc"]) == ConfigError.exit_code
    assert "no rows of problem 'analityc'; did you mean 'analytic'?" in capsys.readouterr().err
    assert main(["memory", "genes", "-p", "courses", "--objective", "cost", "--format", "json"]) == 0
    (cost,) = json.loads(capsys.readouterr().out)["importance"]
    assert cost["objective"] == "training_flops"
    assert next(iter(cost["shares"])) == "width"


def test_commands_that_need_weights_refuse(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["finalize", str(run)], ["export", str(run), "knee"]):
        assert main(command) == ConfigError.exit_code
        assert "trains no recommender" in capsys.readouterr().err


def test_a_simplified_member_is_a_configuration_of_its_own(
    run: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.json")}
    assert main(["simplify", str(run), "knee", "--seeds", "2", "--out", "simple.toml", "--format", "json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*.json")} == before, "the run is only read"
    assert all(one["within"] for one in value["comparisons"])
    assert main(["search", "simple.toml", "--format", "json", "--set", "run.output=simple"]) == 0
    (row, _) = json.loads(capsys.readouterr().out)["front"]
    assert [row[one["objective"]] for one in value["comparisons"]] == [one["after"][0] for one in value["comparisons"]]
    (simple,) = (here / "simple").glob("*-*")
    (evaluation,) = Ledger(simple / "ledger.sqlite", read_only=True).evaluations()
    assert evaluation.spec == value["spec"]
    assert main(["simplify", str(run), "knee", "--seeds", "1"]) == ConfigError.exit_code
    assert main(["simplify", str(run), "nobody"]) == ConfigError.exit_code


@pytest.mark.parametrize("command", ["validate", "search"])
def test_settings_that_change_nothing_are_refused(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, *ANALYTIC, "--set", "training.steps=7"]) == ConfigError.exit_code
    assert "training (command line) is not a known key" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["validate", "search"])
def test_weights_that_are_not_one_per_objective_are_refused(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    weighted = ("--set", "search.algorithm=weighted_sum", "--set", "search.weights=[1, 2, 3]")
    assert main([command, *ANALYTIC, *weighted]) == ConfigError.exit_code
    assert "search.weights (command line) must have a number for each of quality, cost" in capsys.readouterr().err


def test_a_table_of_ones_own_is_searched_with_rungs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_up.write(here)
    (here / "mine.toml").write_text(
        'problem = "tabular"\nobjectives = ["accuracy", "recall@k", "cost"]\nconstraints = []\n'
        '[data]\npath = "made_up.parquet"\n[training]\nsteps = 40\nrungs = [10]\n[evaluation]\nk = 5\n'
        "[search]\npopulation = 4\ngenerations = 2\n"
    )
    assert main(["validate", "mine.toml", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["configurations"] == "6"
    assert main(["search", "mine.toml", "--format", "json"]) == 0
    front = json.loads(capsys.readouterr().out)["front"]
    assert {row["kind"] for row in front} == {"member", "baseline"}
    assert not [key for row in front for key in row if key.startswith("test")]
    (run,) = (here / "runs").glob("*-*")
    made_up.write(here, made_up.rows().drop("width"))
    assert main(["resume", str(run)]) == DataError.exit_code
    assert "lacks the columns width" in capsys.readouterr().err
