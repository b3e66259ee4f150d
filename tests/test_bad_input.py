"""Whatever a person does wrong ends in one clear message and the exit code of its kind; nothing is lost."""

import errno
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import exported
import numpy as np
import polars as pl
import pytest

from evorec.cli import main
from evorec.data.tables import Columns, Feature, Tables
from evorec.errors import ConfigError, DataError, Interruption, RunError, SearchError
from evorec.run.atomic import sealed_bytes
from evorec.run.directory import RunDirectory
from evorec.serving.recommender import load_bundle

USAGE, DATA, FAILED, RESUMABLE = (e.exit_code for e in (ConfigError, DataError, SearchError, Interruption))
TINY = (
    "data.simulator.n_users=80", "data.simulator.n_items=60", "data.simulator.n_interactions=3000",
    "training.steps=3", "training.batch_size=64", "training.retrieval_batch=16", "search.population=4",
    "search.generations=1", "search.surrogate=none", "constraints=[]", "run.workers=1", "finalize.seeds=1",
    "finalize.bootstrap=100", "finalize.boosting=false",
)  # fmt: skip
STARTUP_S = 600.0  # a Python process that imports the search, on a busy machine


def settings(*texts: str) -> list[str]:
    return [part for text in texts for part in ("--set", text)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished and finalized run; tests copy what they damage."""
    folder = tmp_path_factory.mktemp("made")
    output = f"run.output='{folder / 'runs'}'"
    assert main(["search", "-p", "feed", "-q", *settings(*TINY, output)]) == 0
    (run,) = (folder / "runs").glob("*-*")
    run.rename(folder / "run")
    assert main(["finalize", str(folder / "run"), "-q"]) == 0
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "run", tmp_path / "run")
    return Path("run")


@pytest.fixture
def bundle(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    shutil.copytree(exported.plain(tmp_path_factory.getbasetemp()).bundle, tmp_path / "bundle")
    return Path("bundle")


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Runs a command that must fail with a code and say some words, in one message without a traceback."""

    def check(arguments: list[str], code: int, *words: str) -> None:
        capsys.readouterr()
        assert main(arguments) == code
        err = capsys.readouterr().err
        assert "Traceback" not in err
        assert err.count("error: ") == 1
        for word in words:
            assert word in err

    return check


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("serch.population=8", USAGE, "did you mean search?"),
        ("training.steps='many'", USAGE, "training.steps (command line) must be an integer in 1..1000000, got 'many'"),
        ("space.width={low=64, high=16}", USAGE, "low (64.0) must be below high (16.0)"),
        ("space.dropout=7", USAGE, "space.dropout (command line) must be a finite number within 0..0.95, got 7"),
        ("space.colour=1", USAGE, "space.colour (command line) is not a gene; known: task_weights"),
        ("objectives=['cost', 'training_flops']", USAGE, "are the same metric; remove one"),
        ("constraints=['beauty >= 1']", USAGE, "constraint 'beauty >= 1': 'beauty' is not a metric; known: accuracy"),
        ("constraints=['recall@k >= nobody']", USAGE, "names the baseline 'nobody'; known: popularity"),
        ("evaluation.candidates=5", USAGE, "candidates (5) must be at least k (20)"),
        ("tasks.ranked=['nap']", USAGE, "tasks.ranked (command line) must name label columns of simulator"),
        (
            "tasks.target='nap'",
            USAGE,
            "click, like, purchase; got 'nap'",
        ),
        ("data.reader='netflix'", USAGE, "unknown reader 'netflix'; known: aliccp"),
        ("data.reader='movielens'", USAGE, "data.path is missing"),
        ("data.statistics=['nap']", USAGE, "a feature that does not vary in training"),
        ("finalize.picks=['beauty']", USAGE, "finalize.picks (command line): 'beauty' is not a metric"),
        ("run.device='cuda:99'", USAGE, "run.device (command line) is cuda:99, and torch"),
        ("data.simulator.n_users=1", DATA, "every user has met the whole catalogue"),
        ("data.simulator.n_interactions=10", DATA, "must have two or more classes"),
        ("split.validation_from=2030-01-05", USAGE, "must be given together"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_made(
    refused: Callable[..., None], text: str, code: int, words: str
) -> None:
    refused(["search", "-p", "feed", *settings(*TINY, text)], code, words)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "text",
    [
        "training.steps=1",
        "training.batch_size=60000",
        "evaluation.k=500\nevaluation.candidates=600",
        "constraints=['recall@k >= 0.99']",
        "evaluation.max_users=1",
    ],
)
def test_an_extreme_setting_is_no_error(text: str) -> None:
    assert main(["search", "-p", "feed", "-q", *settings(*TINY, *text.split("\n"))]) == 0


def test_when_every_candidate_fails_the_cause_is_told_every_time(refused: Callable[..., None]) -> None:
    broken = settings(*TINY, "training.steps=8", "space.learning_rate=1e12", "space.embedding_learning_rate=1e12")
    for _ in range(2):
        refused(["search", "-p", "feed", *broken], FAILED, "4 x diverged", "Remove the cause")


RATINGS = [(1 + n % 11, 1 + (n * n) % 17, 1 + n % 5, 1_600_000_000 + 60 * n) for n in range(200)]
MOVIES = [(item, f"Film {item} (1990)", "Drama|Crime" if item % 2 else "Comedy") for item in range(1, 18)]


def write_movielens(ratings: list[tuple[Any, ...]], movies: list[tuple[Any, ...]]) -> None:
    folder = Path("films")
    folder.mkdir()
    for name, header, rows in (
        ("ratings.csv", "userId,movieId,rating,timestamp", ratings),
        ("movies.csv", "movieId,title,genres", movies),
    ):
        lines = [header, *(",".join(map(str, row)) for row in rows)]
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def validate_movielens() -> list[str]:
    return ["validate", "-p", "movielens", *settings("data.path='films'")]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ((1, 2, "good", 5), "ratings.csv, line 9, column rating must be Float64, got 'good'"),
        ((1, 2, "NaN", 5), "line 9, column rating must be in 0.5..5.0 stars, got nan"),
        ((1, 2, "inf", 5), "line 9, column rating must be in 0.5..5.0 stars, got inf"),
        ((1, 2, 99, 5), "line 9, column rating must be in 0.5..5.0 stars, got 99"),
        ((1, 2, "", 5), "line 9, column rating must not be empty"),
        (("", 2, 3, 5), "line 9, column userId must not be empty"),
        (("ann", 2, 3, 5), "line 9, column userId must be Int64, got 'ann'"),
        ((10**25, 2, 3, 5), "line 9, column userId must be Int64, got '10000000000000000000000000'"),
        ((1, 2, 3, 1_600_000_000_000), "must be in seconds since 1970, got 1600000000000"),
        ((1, 2, 3), "line 9 must have 4 columns, got 3"),
        ((1, 2, 3, 5, 6), "line 9 must have 4 columns, got 5"),
    ],
)
def test_a_wrong_value_in_a_file_is_named_by_line_and_column(
    refused: Callable[..., None], row: tuple[Any, ...], words: str
) -> None:
    write_movielens([*RATINGS[:7], row, *RATINGS[8:]], MOVIES)
    refused(validate_movielens(), DATA, words)


@pytest.mark.parametrize(
    ("ratings", "movies", "words"),
    [
        ([], MOVIES, "ratings.csv has no rows"),
        (RATINGS, [], "movies.csv has no rows"),
        (RATINGS, [*MOVIES, MOVIES[2]], "line 19, column movieId must be there once, got 3"),
        (RATINGS[:1], MOVIES, "needs a user with 3 rows or more"),
    ],
)
def test_an_unusable_table_is_refused(
    refused: Callable[..., None], ratings: list[tuple[Any, ...]], movies: list[tuple[Any, ...]], words: str
) -> None:
    write_movielens(ratings, movies)
    refused(validate_movielens(), DATA, words)


def test_negative_ids_unicode_and_items_without_ratings_are_fine() -> None:
    movies = [*MOVIES, (-5, "千と千尋 🎬 (2001)", "動画"), (999, "Never seen", "Drama")]
    write_movielens([(-7, -5, 4, 1_600_000_000), *RATINGS], movies)
    assert main(validate_movielens()) == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"userId,movieId,rating,timestamp\n1,2,Am\xe9lie,4\n", "line 2 must be UTF-8 text, got the byte 0xe9"),
        (b"userId\rmovieId\r\x01\n", "line 1 must name the columns"),
        (b"\0" * 50, "line 1 must be text, got a NUL byte"),
        (b"", "ratings.csv is empty; expected the columns"),
    ],
)
def test_a_file_that_is_no_csv_is_refused(refused: Callable[..., None], content: bytes, words: str) -> None:
    write_movielens(RATINGS, MOVIES)
    Path("films/ratings.csv").write_bytes(content)
    refused(validate_movielens(), DATA, "films/ratings.csv", words)


def test_a_file_instead_of_the_folder_is_refused(refused: Callable[..., None]) -> None:
    write_movielens(RATINGS, MOVIES)
    refused(
        ["validate", "-p", "movielens", *settings("data.path='films/ratings.csv'")], DATA, "must be the folder of the"
    )


def log(**columns: Any) -> pl.DataFrame:
    base = {Columns.USER: [1, 2, 3], Columns.ITEM: [4, 5, 6], Columns.TIME: [7, 8, 9], "click": [0, 1, 1]}
    return pl.DataFrame({**base, **columns})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"interactions": log().to_dict()}, "must be a polars DataFrame, got dict"),
        ({"interactions": log().lazy()}, "must be a polars DataFrame, got LazyFrame"),
        (
            {"interactions": log().with_columns(pl.Series(Columns.USER, [1, 2, 2**63], dtype=pl.UInt64))},
            "user_id must fit into Int64, got 9223372036854775808; use strings",
        ),
        (
            {"interactions": log(), "context": (Feature("click", "numeric"),)},
            r"context \['click'\] is a task: a label is not known",
        ),
        (
            {"interactions": log(), "context": (Feature(Columns.TIME, "date"),)},  # type: ignore[arg-type]
            "feature timestamp must be one of",
        ),
    ],
)
def test_tables_refuse_what_they_cannot_hold(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Tables("shop", tasks=("click",), **arguments)


def test_items_without_any_content_count_as_no_content_at_all() -> None:
    from evorec.data.features import content_vectors

    items = pl.DataFrame({Columns.ITEM: [4, 5, 6], "v": [[0.0, 0.0]] * 3})
    tables = Tables("shop", log(), tasks=("click",), items=items, content=("v",))
    assert content_vectors(tables, np.array([4, 5, 6]))[0].shape == (4, 0)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": 1, "fingerprint": "x"}', '{"format": 9}'])
def test_a_damaged_manifest_is_named(refused: Callable[..., None], run: Path, text: str) -> None:
    (run / "manifest.json").write_text(text)
    for command in ("front", "report", "resume", "finalize"):
        refused([command, str(run)], USAGE, "run")


@pytest.mark.parametrize("name", ["problem.json", "summary.json", "final.json"])
@pytest.mark.parametrize("text", ["{", "[1]", "{}"])
def test_a_damaged_file_of_a_run_is_no_bug(refused: Callable[..., None], run: Path, name: str, text: str) -> None:
    (run / name).write_text(text)
    refused(["front", str(run)], USAGE, "damaged")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def break_a_row(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE evaluations SET metrics = '{' WHERE seq = 0")
    db.close()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncate, "is damaged"),
        (lambda path: path.write_bytes(b"no database at all" * 300), "is damaged (file is not a database)"),
        (break_a_row, "row 0 of evaluations has changed since it was written"),
        (Path.unlink, "has lost its ledger.sqlite"),
        (lambda path: path.write_bytes(b""), "has lost its ledger.sqlite"),
    ],
)
def test_a_damaged_ledger_is_refused_and_left_alone(
    refused: Callable[..., None], run: Path, damage: Callable[[Path], Any], words: str
) -> None:
    ledger = run / "ledger.sqlite"
    damage(ledger)
    before = ledger.read_bytes() if ledger.exists() else None
    for command in ("front", "resume", "finalize"):
        refused([command, str(run)], USAGE, "ledger", words)
    assert (ledger.read_bytes() if ledger.exists() else None) == before


def members(run: Path) -> dict[str, bytes]:
    return {str(p.relative_to(run)): p.read_bytes() for p in run.glob("archive/*/weights.safetensors")}


def test_lost_members_are_missed_and_trained_again_to_the_same_bytes(refused: Callable[..., None], run: Path) -> None:
    before = members(run)
    first, *others = sorted(run.glob("archive/[!.]*"))
    shutil.rmtree(first)
    for other in others[:1]:
        (other / "weights.safetensors").unlink()
    refused(["finalize", str(run)], USAGE, "has lost archive/", f"archive/{first.name}", "evorec resume")
    (run / "final.json").unlink()  # what was finalized can be exported all the same
    refused(["export", str(run), first.name, "--out", "b"], USAGE, "evorec resume")
    assert main(["front", str(run), "-q"]) == 0, "the ledger knows them"
    assert main(["resume", str(run), "-q"]) == 0
    assert members(run) == before


def test_a_truncated_weight_file_is_refused_and_the_advice_helps(refused: Callable[..., None], run: Path) -> None:
    before = members(run)
    name = sorted(before)[0]
    truncate(run / name)
    for command in ("front", "report"):
        refused([command, str(run)], USAGE, name, f"`evorec resume {run}` trains the member again")
    refused(["finalize", str(run)], USAGE, (run / name).parent.name, f"`evorec resume {run}` restores it")
    assert main(["resume", str(run), "-q"]) == 0
    assert members(run) == before


def test_a_run_with_edited_settings_is_refused(refused: Callable[..., None], run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    config["data"]["simulator"]["seed"] = 5
    (run / "config.json").write_text(json.dumps(config))
    refused(["front", str(run)], USAGE, "config.json is damaged")
    del config["sha256"]
    (run / "config.json").write_bytes(sealed_bytes(config))
    for command in (["resume"], ["finalize"], ["export"]):
        extra = ["knee", "--out", "b"] if command == ["export"] else []
        refused([*command, str(run), *extra], USAGE, "data set")


def test_a_finished_run_is_shown_whatever_software_made_it(run: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["environment"]["versions"]["torch"] = "1.0"
    del manifest["sha256"]
    (run / "manifest.json").write_bytes(sealed_bytes(manifest))
    assert main(["resume", str(run), "-q"]) == 0


def test_a_run_killed_before_its_ledger_goes_on(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in run.iterdir():
        if path.name not in ("manifest.json", "config.json", "lock"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert main(["front", str(run)]) == USAGE
    assert "was stopped before its first evaluation; `evorec resume run` goes on" in capsys.readouterr().err
    assert main(["resume", str(run), "-q"]) == 0


def test_the_front_of_a_run_in_its_first_generation_does_not_blame_the_constraints(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "summary.json").unlink()
    shutil.rmtree(run / "archive")
    with sqlite3.connect(run / "ledger.sqlite") as ledger:
        ledger.execute("delete from events where kind = 'spent'")  # recorded when a generation is complete
    assert main(["front", str(run)]) == 0
    out = capsys.readouterr().out
    assert "The first generation is not complete yet (4 evaluations so far)." in out
    assert "constraint" not in out


def test_the_test_is_opened_once(refused: Callable[..., None], run: Path) -> None:
    before = (run / "final.json").read_bytes()
    assert main(["finalize", str(run), "-q"]) == 0
    for text in ("finalize.picks=['cost']", "finalize.seeds=2"):
        refused(["finalize", str(run), *settings(text)], USAGE, "the test of run was opened on")
    refused(["finalize", str(run), *settings("training.steps=4")], USAGE, "only finalize.* and run.*")
    assert (run / "final.json").read_bytes() == before


def test_an_unfinished_run_is_not_finalized(refused: Callable[..., None], run: Path) -> None:
    (run / "summary.json").unlink()
    refused(["finalize", str(run)], USAGE, "is not finished; `evorec resume run`")


def test_export_overwrites_nothing(refused: Callable[..., None], run: Path) -> None:
    Path("folder").mkdir()
    refused(["export", str(run), "knee", "--out", "folder"], USAGE, "exists already and is not overwritten")


def test_a_path_that_cannot_be_written_is_a_usage_error(refused: Callable[..., None], run: Path) -> None:
    Path("file").touch()
    refused(
        ["search", "-p", "feed", *settings(*TINY, "run.output='file'")],
        USAGE,
        "must be a folder, and",
        "file is a file",
    )
    refused(["export", str(run), "knee", "--out", "file/b"], USAGE, "file: File exists; give another path")
    refused(["report", str(run), "--out", "."], USAGE, "--out must be a file, and . is a folder")
    assert main(["report", str(run), "--out", "new/folder/r.html", "-q"]) == 0


def test_a_full_disk_stops_a_search_that_then_goes_on_to_the_same_archive(
    refused: Callable[..., None], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, n_staged = RunDirectory.stage, 0

    def full(self: RunDirectory, *arguments: Any) -> None:
        nonlocal n_staged
        n_staged += 1
        if n_staged == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "weights.safetensors.tmp")
        stage(self, *arguments)

    search = ["search", "-p", "feed", *settings(*TINY)]
    with monkeypatch.context() as patched:
        patched.setattr(RunDirectory, "stage", full)
        refused(search, RESUMABLE, "No space left on device; make room")
    assert main([*search, "-q"]) == 0
    (again,) = Path("runs").glob("*-*")
    assert members(again) == members(run)


def test_a_full_disk_under_the_ledger_is_resumable(run: Path) -> None:
    from evorec.run.ledger import Ledger

    ledger = Ledger(run / "ledger.sqlite")
    ledger._db.execute("PRAGMA max_page_count = 1")
    with pytest.raises(Interruption, match="make room and resume"):
        ledger.record_event(1, "x", {"long": "x" * 100_000})
    ledger.close()


def test_a_full_quota_under_the_ledger_is_resumable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from evorec.run.ledger import Ledger

    ledger = Ledger(tmp_path / "ledger.sqlite")

    class Broken:  # SQLite does not pass the number of a full quota on
        def __enter__(self) -> None:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorname = "SQLITE_IOERR_WRITE"
            raise error

        def __exit__(self, *_: object) -> None: ...

    def full(_: int) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "_db", Broken())
        with pytest.raises(RunError, match="is the disk full"):
            ledger.record_event(1, "x", {})
        patched.setattr(os, "fsync", full)
        with pytest.raises(Interruption, match="make room and resume"):
            ledger.record_event(1, "x", {})
    ledger.close()
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.sqlite"]


def test_a_limit_of_the_size_of_files_is_resumable(tmp_path: Path) -> None:
    from evorec.run.ledger import Ledger

    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.record_event(1, "x", {})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # More than a probe of its own takes: only at the size of the log of the ledger the limit is reached.
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(Interruption, match="make room and resume"):
            ledger.record_event(1, "x", {"long": "x" * 300_000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    ledger.record_event(1, "x", {"long": "x" * 300_000})
    assert len(ledger.events()) == 2
    ledger.close()


def test_a_path_that_is_no_text_is_refused_and_a_folder_of_such_a_name_is_not(
    tmp_path: Path, refused: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / os.fsdecode(b"n\xffcht $x")
    folder.mkdir()
    refused(["runs", str(folder)], USAGE, r"n\udcffcht $x' has bytes that are not UTF-8")
    monkeypatch.chdir(folder)
    small = settings("search.population=4", "search.generations=1", "search.surrogate=none")
    assert main(["search", "--problem", "analytic", "-q", *small]) == 0
    (run,) = map(str, Path("runs").glob("*-*"))
    for command in (["report", run], ["front", run], ["resume", run]):
        assert main([*command, "-q"]) == 0


def test_a_problem_file_that_ends_the_process_is_refused(tmp_path: Path, refused: Callable[..., None]) -> None:
    (tmp_path / "shop.py").write_text("import sys\nsys.exit(0)\n")
    refused(["search", "--problem", str(tmp_path / "shop.py")], 2, "shop.py cannot be imported: SystemExit: 0")


def test_sigterm_while_starting_exits_75() -> None:
    arguments = ["search", "-p", "feed", *settings("data.simulator.n_interactions=2000000")]
    process = subprocess.Popen([sys.executable, "-m", "evorec", *arguments, "-v"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "reading the data" in process.stderr.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=STARTUP_S)
    assert process.returncode == RESUMABLE, err
    assert "Traceback" not in err


def test_a_bundle_that_contradicts_itself_is_refused(refused: Callable[..., None], bundle: Path) -> None:
    from evorec.deploy.bundle.export import seal

    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "ids.json").write_text('{"users": [1], "items": [1]}')
    seal(bundle, manifest)
    refused(["recommend", str(bundle), "--user", "3"], USAGE, "contradicts itself", "export it again")


@pytest.mark.parametrize("damage", [truncate, Path.unlink])
@pytest.mark.parametrize("name", ["model.safetensors", "ids.json", "manifest.json", "recommend.onnx"])
def test_a_damaged_bundle_is_refused(
    refused: Callable[..., None], bundle: Path, name: str, damage: Callable[[Path], Any]
) -> None:
    damage(bundle / name)
    refused(["recommend", str(bundle), "--user", "3"], USAGE, name)


def test_what_is_no_bundle_is_refused(refused: Callable[..., None], run: Path) -> None:
    for path in (run, Path("nowhere"), run / "config.json"):
        refused(["recommend", str(path), "--user", "3"], USAGE, "is not a bundle", "`evorec export` writes one")


@pytest.mark.parametrize("user", ["999999", "nobody", "", "ü", "-3", "³", "--3", "1.5", "9" * 30])
def test_any_text_is_a_user(bundle: Path, user: str) -> None:
    recommender = load_bundle(str(bundle))
    assert not recommender.knows(user)
    assert len(recommender.recommend([user], k=3)[0]) == 3


def test_a_list_is_never_longer_than_the_catalogue(bundle: Path) -> None:
    assert len(load_bundle(bundle).recommend(["nobody"], k=10**9)[0]) == 50


def test_a_list_of_no_items_is_refused(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", str(bundle), "--user", "3", "-k", "0"]) == USAGE
    with pytest.raises(DataError, match="k must be a whole number of at least 1, got 0"):
        load_bundle(bundle).recommend([3], k=0)


@pytest.mark.parametrize("width", [80, 120])
def test_a_problem_is_described_within_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["problems", "feed"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= width
    for words in ("purchase  binary  high    step 2  all rows", "recall@k >= 0.9 * popularity", "reference point"):
        assert words in out
    assert ("loss weight of each task" if width > 80 else "loss weight of") in out  # in one piece: meanings have room


def test_a_toml_problem_that_is_no_name_is_refused(refused: Callable[..., None]) -> None:
    Path("x.toml").write_text("[problem]\nx = 1\n")
    refused(["search", "x.toml"], USAGE, "problem must be a name")
