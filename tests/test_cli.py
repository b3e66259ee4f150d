import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import date
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from evorec.cli import main
from evorec.config import load_config
from evorec.errors import ConfigError, DataError, Interruption, RunError, RunLockedError, SearchError
from evorec.run.atomic import read_sealed, write_sealed
from evorec.run.directory import RunDirectory
from evorec.run.ledger import Ledger

TESTS = Path(__file__).parent
STARTUP_S = 600.0  # a Python process that imports the search, on a busy machine
HEAVY = ("torch", "pymoo", "scipy.stats", "plotly", "sklearn", "matplotlib")


@pytest.fixture(autouse=True)
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that offers the problem `toy`, and an empty working folder."""
    site = tmp_path / "site"
    info = site / "toy-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[evorec.problems]\ntoy = toy_problem:build\nbare = string\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(TESTS), str(TESTS.parent)]))
    monkeypatch.setenv("COLUMNS", "200")
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(third_party: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A finished run of the toy."""
    assert main(["search", "--problem", "toy", "-q"]) == 0
    capsys.readouterr()
    (path,) = (third_party / "runs").glob("*-*")
    return path


def evorec(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "evorec", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def imported_by(statement: str) -> list[str]:
    code = f"import sys\n{statement}\nprint([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=STARTUP_S, check=True)
    return list(json.loads(done.stderr.strip().split("\n")[-1].replace("'", '"')))


@pytest.mark.parametrize(
    "arguments", [["--help"], ["validate", "--keys"], ["validate", "-p", "feed"], ["search", "--help"]]
)
def test_help_and_validate_import_nothing_slow(arguments: list[str]) -> None:
    assert imported_by(f"from evorec.cli import main\nassert main({arguments!r}) == 0") == []


COMMANDS = (
    "search", "resume", "watch", "front", "plot", "table", "report", "finalize", "simplify", "export", "recommend",
    "explain", "fuse", "serve", "promote", "rollback", "nightly", "problems", "validate", "doctor",
)  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_the_common_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    for option in ("--format", "--quiet", "-q", "--verbose", "-v", "--debug"):
        assert option in text


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


def test_search_prints_the_front_with_the_baselines_and_the_next_command(
    third_party: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "--problem", "toy"]) == 0
    out, err = capsys.readouterr()
    (path,) = (third_party / "runs").glob("*-*")
    assert "Front on validation data" in out
    assert "trivial" in out
    assert "There is no popularity baseline to compare with." in out
    assert [line for line in err.splitlines() if line.startswith("generation ")][-1].startswith(
        "generation 3/3: hypervolume 0."
    )
    assert f"next: evorec report runs/{path.name}" in err


def test_json_is_the_only_thing_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--problem", "toy", "--format", "json"]) == 0
    value = json.loads(capsys.readouterr().out)
    baseline = value["front"][-1]
    assert baseline == {"member": "trivial", "kind": "baseline", "quality": 0.0, "cost": 1.0}
    assert {row["kind"] for row in value["front"]} == {"member", "baseline"}


def test_quiet_is_silent_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--problem", "toy", "-q"]) == 0
    assert capsys.readouterr().err == ""


def test_a_finished_search_is_shown_and_not_repeated(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.json")}
    assert main(["search", "--problem", "toy"]) == 0
    assert "finished already; nothing was run" in capsys.readouterr().err
    assert main(["resume", str(run)]) == 0
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*.json")} == before


def test_a_search_with_more_generations_extends_the_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def n_rows() -> int:
        return len(Ledger(run / "ledger.sqlite", read_only=True).evaluations())

    for arguments, n_expected, words in (
        (
            ["search", "-p", "toy", "--set", "search.generations=4"],
            32,
            "3 generations until now: 4 generations; nothing",
        ),
        (["search", "-p", "toy"], 32, "is finished already"),
        (["resume", str(run), "--generations", "4"], 32, "is finished already"),
        (["resume", str(run), "--evaluations", "45"], 40, "4 generations until now: 45 evaluations"),
        (["resume", str(run), "--generations", "6", "--evaluations", "50"], 48, "45 evaluations until now: 6 gener"),
        (
            ["resume", str(run), "--time", "1s", "--generations", "7"],
            56,
            "or 50 evaluations until now: 7 generations or",
        ),
    ):
        assert main(arguments) == 0
        assert words in capsys.readouterr().err
        assert n_rows() == n_expected
    assert [path.name for path in run.parent.glob("*-*")] == [run.name]
    assert main(["front", str(run), "--format", "json"]) == 0
    capsys.readouterr()
    for arguments, words in (
        (["--time", "5"], "--time must be a number with s, m or h"),
        (["--evaluations", "5"], "population"),
    ):
        assert main(["resume", str(run), *arguments]) == ConfigError.exit_code
        assert words in capsys.readouterr().err


def test_a_run_of_another_machine_goes_on_if_it_is_allowed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = read_sealed(run / "manifest.json")
    manifest["environment"]["machine"] = "sparc"
    write_sealed(run / "manifest.json", manifest)
    longer = ["resume", str(run), "--generations", "4"]
    assert main(longer) == RunError.exit_code
    assert "machine: the run has 'sparc', now it is " in (err := capsys.readouterr().err)
    assert "--allow-different-machine goes on all the same" in err
    assert main([*longer, "--allow-different-machine", "--format", "json"]) == 0
    assert "sparc" in json.loads(capsys.readouterr().out)["machines"][0]
    assert main(["report", str(run)]) == 0
    assert "Results of several machines, not reproducible bit by bit" in (run / "report.html").read_text()


def test_settings_go_command_line_then_file_then_problem(third_party: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (third_party / "my.toml").write_text('problem = "toy"\n[search]\npopulation = 6\nseed = 5\n')
    assert main(["search", "my.toml", "--set", "search.seed=7", "-q"]) == 0
    (path,) = (third_party / "runs").glob("*-*")
    search = json.loads((path / "config.json").read_text())["search"]
    assert (search["population"], search["seed"], search["generations"]) == (6, 7, 3)
    assert len(Ledger(path / "ledger.sqlite", read_only=True).evaluations()) == 18


def test_an_interrupted_search_exits_75_and_goes_on_to_the_same_front(third_party: Path) -> None:
    arguments = ["search", "--problem", "toy", "--set", "data.path=slow0.2"]
    process = evorec(*arguments)
    ledger = "runs/*/ledger.sqlite"
    wait_for(lambda: any(n_rows(path) >= 3 for path in third_party.glob(ledger)))
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=STARTUP_S)
    assert process.returncode == Interruption.exit_code, err
    assert "evorec resume" in err
    assert "Traceback" not in err
    (path,) = (third_party / "runs").glob("*-*")
    assert not (path / "summary.json").exists()
    assert main(["resume", str(path), "-q"]) == 0

    assert main(["search", "--problem", "toy", "--set", "run.output=whole", "-q"]) == 0
    (whole,) = (third_party / "whole").glob("*-*")
    assert sorted(p.name for p in (path / "archive").iterdir()) == sorted(p.name for p in (whole / "archive").iterdir())


def test_a_search_without_disk_space_does_not_begin_or_stops_and_goes_on(
    third_party: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    free = iter([0.1, 8.0, 8.0, 8.0, 8.0, 8.0])  # GiB; 0.25 must stay free
    monkeypatch.setattr("evorec.outputs.free_gib", lambda folder: next(free, 0.2))
    monkeypatch.setattr("evorec.cli.progress.free_gib", lambda folder: next(free, 0.2))
    command = ["search", "--problem", "toy", "--set", "run.chunk=2"]
    assert main(command) == Interruption.exit_code
    assert "the search writes about" in (err := capsys.readouterr().err)
    assert "0.25 GiB must stay free (run.min_free_gib)" in err
    assert not (third_party / "runs").exists()
    assert main(command) == Interruption.exit_code
    assert "0.2 GiB of the disk are free, less than run.min_free_gib = 0.25" in (err := capsys.readouterr().err)
    assert "evorec resume" in err
    (path,) = (third_party / "runs").glob("*-*")
    n_before = n_rows(path / "ledger.sqlite")
    assert 0 < n_before < 24
    assert main(["resume", str(path), "--set", "run.min_free_gib=0", "-q"]) == 0
    assert n_rows(path / "ledger.sqlite") == 24


def n_rows(path: Path) -> int:
    try:
        ledger = Ledger(path, read_only=True)
    except RunError:  # it is being made
        return 0
    return len(ledger.evaluations())


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + STARTUP_S
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def test_resume_refuses_settings_that_make_another_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for setting, is_limit in (("search.seed=1", False), ("search.generations=2", True)):
        assert main(["resume", str(run), "--set", setting]) == ConfigError.exit_code
        err = capsys.readouterr().err
        assert "only run.* can be set here" in err
        assert ("--generations N, --evaluations N or --time TIME extends a search" in err) == is_limit


def test_a_held_run_is_skipped_with_99(run: Path) -> None:
    from evorec.run.directory import RunDirectory

    with RunDirectory.open(run):
        assert main(["resume", str(run), "-q"]) == RunLockedError.exit_code


def test_a_search_in_which_everything_fails_exits_4(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--problem", "toy", "--set", "data.path=broken"]) == SearchError.exit_code
    assert "the loss is not finite" in capsys.readouterr().err


def test_refused_data_exit_3(capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["--set", "data.reader=movielens", "--set", "data.path=nowhere"]
    assert main(["validate", "-p", "feed", *overrides]) == DataError.exit_code
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search"], "give a config file or --problem NAME"),
        (["search", "none.toml"], "none.toml does not exist"),
        (["search", "-p", "unknown"], "unknown problem 'unknown'; known: "),
        (["search", "-p", "bare"], "has no function build(config=None)"),
        (
            ["search", "-p", "toy", "--set", "search.population=1"],
            "population must be 0 or at least 4, got 1",
        ),
        (["front", "."], "is not a run directory"),
        (["front"], "Missing argument"),
        (["fronts"], "No such command"),
        (["search", "--format", "xml"], "xml"),
    ],
)
def test_usage_errors_exit_2_with_one_message(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == ConfigError.exit_code
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "none.toml", "--debug"]) == ConfigError.exit_code
    assert "Traceback" in capsys.readouterr().err


def test_markup_in_a_message_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "[red]none.toml"]) == ConfigError.exit_code
    assert "[red]none.toml" in capsys.readouterr().err


def test_front_sorts_by_any_column(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["front", str(run), "--sort", "cost", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["front"]
    costs = [row["cost"] for row in rows if row["kind"] == "member"]
    assert costs == sorted(costs)
    assert main(["front", str(run), "--sort", "beauty"]) == ConfigError.exit_code
    assert "the columns are quality, cost" in capsys.readouterr().err


def test_front_shows_picks_with_their_exchange_rates(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picks = ("knee", "cheapest where quality >= trivial", "bands:2")
    assert main(["front", str(run), "--format", "json", *(word for text in picks for word in ("--pick", text))]) == 0
    value = json.loads(capsys.readouterr().out)
    assert [found["pick"] for found in value["picks"]][:2] == list(picks[:2])
    assert main(["front", str(run), "--format", "json"]) == 0
    front = {row["member"]: row for row in json.loads(capsys.readouterr().out)["front"] if row["kind"] == "member"}
    cheapest = value["picks"][1]
    assert front[cheapest["member"]]["cost"] == min(row["cost"] for row in front.values())
    assert cheapest["candidates"] == len(front)
    assert cheapest["reachable"]["quality"] == max(row["quality"] for row in front.values())
    (better,) = cheapest["exchanges"]
    assert (better["objective"], better["its"]) == ("quality", front[better["member"]]["quality"])
    assert main(["front", str(run), "--pick", "knee"]) == 0
    out, err = capsys.readouterr()
    assert "one more point of quality costs" in out or "more quality costs" in out
    assert "Largest gap of the front in each objective" in out
    assert "next: evorec explain" in err
    for arguments, words in (
        (["--pick", "quality where cost <= 0"], "is reached by no member; the lowest cost is"),
        (["--pick", "qualty"], "'qualty' is not a metric; did you mean 'quality'?"),
        (["--pick", "knee", "--most", "3"], "leave --sort and --most out"),
        (["--most", "1"], "--most must be at least 2"),
    ):
        assert main(["front", str(run), *arguments]) == ConfigError.exit_code
        assert words in capsys.readouterr().err
    assert main(["front", str(run), "--most", "2", "--format", "json"]) == 0
    shown = [row for row in json.loads(capsys.readouterr().out)["front"] if row["kind"] == "member"]
    assert {row["cost"] for row in shown} >= {cheapest["metrics"]["cost"]}
    assert len(shown) == 2


def test_report_is_one_file_in_the_run_directory(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    assert "trivial" in (run / "report.html").read_text()


def test_a_live_report_is_written_until_the_search_ends(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held, seen = iter([True, False]), []
    monkeypatch.setattr(RunDirectory, "is_held", lambda path: next(held))
    monkeypatch.setattr(time, "sleep", lambda seconds: seen.append((run / "report.html").read_text()))
    assert main(["report", str(run), "--live"]) == 0
    (during,) = seen
    assert '<html lang="en" data-live="5">' in during  # an open page loads itself again
    assert '<html lang="en">' in (run / "report.html").read_text()
    capsys.readouterr()
    shutil.copytree(run, run.with_name("copy"))
    assert main(["report", str(run), str(run.with_name("copy")), "--live"]) == ConfigError.exit_code
    assert "--live follows the search of a single run, got 2 runs." in capsys.readouterr().err


def test_validate_names_every_wrong_task_metric_gene_and_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ["objectives=['beauty']", "constraints=['recall@k >= 0.9 * nobody']", "space.colour=1", "tasks.target=nap"]
    overrides = [part for text in wrong for part in ("--set", text)]
    assert main(["validate", "-p", "feed", *overrides]) == ConfigError.exit_code
    err = capsys.readouterr().err
    assert all(name in err for name in ("'beauty'", "'nobody'", "colour", "'nap'"))


@pytest.mark.parametrize("flags", [(), ("--no-data",)], ids=["data", "no data"])
def test_validate_knows_the_switches_of_features_and_content(flags: tuple[str, ...]) -> None:
    right = ("space.use_hour=false", "space.use_item_category=true", "space.rank_content=4", "space.use_content=true")
    overrides = [part for text in right for part in ("--set", text)]
    assert main(["validate", "-p", "feed", *flags, *overrides]) == 0


def test_validate_finds_a_switch_of_no_feature(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "-p", "feed", "--set", "space.use_huor=false"]) == ConfigError.exit_code
    assert "space.use_huor (command line) is not a gene; did you mean 'use_hour'?" in capsys.readouterr().err


def test_validate_finds_groups_that_the_users_do_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "-p", "feed", "--set", "evaluation.groups=segment"]) == 0
    assert main(["validate", "-p", "feed", "--set", "evaluation.groups=city"]) == DataError.exit_code
    assert "evaluation.groups (command line) must be a column of the users of" in capsys.readouterr().err


def test_validate_knows_that_a_baseline_has_no_first_stage(capsys: pytest.CaptureFixture[str]) -> None:
    bound = ("--set", "constraints=['retrieval_recall@k >= popularity']")
    assert main(["validate", "-p", "feed", "--no-data", *bound]) == ConfigError.exit_code
    assert "popularity has no retrieval_recall@" in capsys.readouterr().err


def test_validate_shows_the_size_of_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["--set", "data.simulator.n_interactions=5000", "--set", "objectives=['cost', 'recall@k']"]
    assert main(["validate", "-p", "feed", "--format", "json", *overrides]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["rows"] == 5000
    assert sum(facts["rows by part"].values()) == 5000


def test_validate_lists_the_keys_of_the_problem(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "-p", "toy", "--keys", "--format", "json"]) == 0
    listed = {key["name"]: key for key in json.loads(capsys.readouterr().out)}
    assert listed["search.population"]["default"] == "8"


def test_the_listed_keys_are_a_config_file(third_party: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "-p", "toy", "--keys", "--set", "split.validation_from=2022-05-04",
                 "--set", "split.test_from=2022-05-06"]) == 0  # fmt: skip
    path = third_party / "all.toml"
    path.write_text(capsys.readouterr().out)
    config = load_config(path)
    assert (config.problem, config.search.population) == ("toy", 8)
    assert config.split.test_from == date(2022, 5, 6)


def test_a_broken_problem_does_not_hide_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["problems"]) == 0
    out = capsys.readouterr().out
    assert "A toy: the analytic test problem" in out
    assert "has no function build(config=None)" in out


def left_by(folder: Path, *settings: str) -> tuple[dict[str, Any], dict[str, bytes], Path]:
    """What a search said as JSON and the weights in its archive, and where it is."""
    overrides = [part for text in (*STAGED, f"run.output={folder}", *settings) for part in ("--set", text)]
    with redirect_stdout(StringIO()) as out:
        assert main(["search", "-p", "feed", "--format", "json", *overrides]) == 0
    (run,) = folder.glob("*-*")
    said = {name: value for name, value in json.loads(out.getvalue()).items() if name not in ("run", "energy")}
    return said, {file.parent.name: file.read_bytes() for file in run.glob("archive/*/weights.safetensors")}, run


STAGED = (
    "search.population=8", "search.generations=2", "search.surrogate=none", "objectives=['accuracy', 'recall@k']",
    "constraints=[]", "training.steps=6", "training.rungs=[2, 4]", "training.batch_size=64",
    "data.simulator.n_interactions=4000", "data.simulator.n_users=200", "run.chunk=2",
)  # fmt: skip


def test_a_search_with_rungs_in_processes_is_the_one_in_this_process(
    third_party: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said, weights, run = left_by(third_party / "alone", "run.executor=serial")
    rows = Ledger(run / "ledger.sqlite", read_only=True).evaluations()
    dropped = {steps: sum(row.dropped and row.rung == steps for row in rows) for steps in (2, 4)}
    assert (len(rows), dropped) == (16, {2: 8, 4: 4})  # of 8 compared stay 4, of these 2, in each of two generations
    assert "of 16 evaluations 8 dropped at step 2, 4 at step 4" in capsys.readouterr().err
    assert len(weights) == sum(row["kind"] == "member" for row in said["front"])
    other, same, _ = left_by(third_party / "processes", "run.executor=processes", "run.workers=2")
    assert other == said
    assert same == weights


def test_a_member_may_be_named_by_its_start_or_a_pick(run: Path) -> None:
    from evorec.cli.ship import find_member
    from evorec.report.record import read_record

    record = read_record(run)
    key = record.members[0].key
    assert find_member(record, key[:12]) == key
    assert find_member(record, "knee") in {member.key for member in record.members}
    other = max(member.key for member in record.members)
    finalized = replace(record, final={"picks": [{"pick": "knee", "member": other}]})
    assert find_member(finalized, "knee") == other
    twin = replace(record.members[0], key=key[:-1] + ("0" if key[-1] != "0" else "1"))
    with pytest.raises(ConfigError, match=r"begins 2 members"):
        find_member(replace(record, members=(record.members[0], twin)), key[:-1])
    with pytest.raises(ConfigError, match=r"'zzz' is neither a member .* nor a pick"):
        find_member(record, "zzz")


def test_a_bug_is_one_line_without_debug(third_party: Path) -> None:
    (third_party / "toy_problem.py").write_text("DEFAULTS = {}\ndef build(config):\n    return 1 / 0\n")
    code = "import sys\nsys.path.insert(0, '')\nfrom evorec.cli import main\nsys.exit(main())"
    for extra, shown in (("", "internal error: ZeroDivisionError"), ("--debug", "Traceback")):
        command = [sys.executable, "-c", code, "search", "-p", "toy", *filter(None, [extra])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=STARTUP_S, check=False)
        assert done.returncode == 1
        assert done.stderr.removeprefix("problem toy: reading the data\n").startswith(shown)


ON_DEMAND = (
    'objectives=["gain/click", "harm/like", "cost_per/click", "sparsity", "attack_shift@k"]',
    'constraints=["group_gap@k <= 1.0 * popularity", "attack_shift@k <= 1.0 * ease"]',
    'tasks.lower_is_better=["like", "watch"]',
    'tasks.ranked=["click", "like", "watch"]',
    'tasks.kinds={watch = "regression"}',
    'evaluation.spend="watch"',
    'evaluation.groups="segment"',
    'evaluation.attack.kind="bandwagon"',
)


def validated(*overrides: str) -> int:
    return main(["validate", "-p", "feed", "--no-data", *(part for text in overrides for part in ("--set", text))])


def test_validate_knows_choices_groups_and_attacks_without_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert validated(*ON_DEMAND) == 0
    capsys.readouterr()
    assert validated(*ON_DEMAND, 'objectives=["gain/like", "sparsity"]', 'evaluation.spend=""') == ConfigError.exit_code
    assert "gain/like: like is in tasks.lower_is_better; write harm/like." in capsys.readouterr().err
    assert validated(*ON_DEMAND, 'constraints=["sparsity >= 1.0 * popularity"]') == ConfigError.exit_code
    assert "popularity has no sparsity" in capsys.readouterr().err
    assert validated(*ON_DEMAND, 'evaluation.groups=""') == ConfigError.exit_code
    assert "group_gap@k needs evaluation.groups" in capsys.readouterr().err


def test_the_settings_of_an_attack_are_listed_with_their_range(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--keys"]) == 0
    listed = capsys.readouterr().out
    assert "[evaluation.attack]" in listed.splitlines()
    assert "fake users, in % of the users of the training rows; a number in 0.01..100" in listed
    assert "lower_is_better = []" in listed.splitlines()
