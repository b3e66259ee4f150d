"""The commands about data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evorec.cli import main
from evorec.data.paths import CACHE_VARIABLE
from evorec.errors import ConfigError, DataError

SMALL = ("data.simulator.n_users=80", "data.simulator.n_items=60", "data.simulator.n_interactions=3000")
STARTUP_S = 600.0  # a Python process that reads and counts a small log, on a busy machine
HEAVY = ("torch", "pymoo", "scipy.stats", "plotly", "sklearn")
RATINGS = "userId,movieId,rating,timestamp\n" + "".join(
    f"{1 + row % 5},{1 + row % 7},{1 + row % 9 / 2},{1_700_000_000 + 9000 * row}\n" for row in range(60)
)
MOVIES = "movieId,title,genres\n" + "".join(f"{movie},Film {movie} (1999),Drama\n" for movie in range(1, 8))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder and a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def films(here: Path) -> Path:
    """A config file beside a folder with MovieLens files."""
    folder = here / "films"
    folder.mkdir()
    (folder / "ratings.csv").write_text(RATINGS)
    (folder / "movies.csv").write_text(MOVIES)
    (here / "films.toml").write_text('problem = "movielens"\n[data]\npath = "films"\n')
    return here / "films.toml"


def settings(*texts: str) -> list[str]:
    return [part for text in texts for part in ("--set", text)]


def describe(*arguments: str) -> int:
    return main(["data", "describe", *arguments])


def test_describe_says_what_the_log_is_like(capsys: pytest.CaptureFixture[str]) -> None:
    assert describe("-p", "feed", *settings(*SMALL)) == 0
    out, err = capsys.readouterr()
    assert out.startswith("simulator: 3,000 rows, 80 users, 60 items, 2024-01-01 to 2024-01-14 (14")
    assert "source: the built-in simulator, no real log" in out
    for title in (
        "Parts (time split)",
        "New in the held-out parts",
        "Labels: positives by part",
        "Rows per user and item",
    ):
        assert title in out
    assert "next: evorec validate --problem feed" in err


def test_no_line_is_wider_than_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert describe("-p", "feed", *settings(*SMALL)) == 0
    assert max(len(line.rstrip()) for line in capsys.readouterr().out.splitlines()) <= 80


def test_warnings_stand_before_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert describe("-p", "feed", *settings(*SMALL, "tasks.target=nap", "split.kind=random")) == 0
    out = capsys.readouterr().out
    assert "! tasks.target names nap" in out
    assert out.index("! tasks.target") < out.index("- a random split") < out.index("Parts (random split)")


def test_verbose_shows_every_feature_and_pair_of_labels(capsys: pytest.CaptureFixture[str]) -> None:
    assert describe("-p", "feed", *settings(*SMALL)) == 0
    short = capsys.readouterr().out
    assert "-v shows each of them" in short
    assert describe("-p", "feed", "-v", *settings(*SMALL)) == 0
    long = capsys.readouterr().out
    for title in ("Labels together", "Tables of users and items", "Features"):
        assert f"\n{title}" in long
    assert "Labels together" not in short


def test_json_is_the_only_thing_on_standard_output(films: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert describe(str(films), "--format", "json") == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["name"], value["n_rows"], value["n_users"], value["n_items"]) == ("movielens-latest", 60, 5, 7)
    assert (value["source"]["reader"], value["source"]["folder"]) == ("movielens", str(films.parent / "films"))
    assert [part["n_rows"] for part in value["parts"]] == [50, 5, 5]  # each user's last two are held out
    assert {finding["level"] for finding in value["findings"]} == {"warning", "note"}


def test_any_log_is_described_with_its_files_and_what_was_dropped(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = here / "shop"
    folder.mkdir()
    rows = [f"{row % 5},{row % 7},{1_700_000_000 + 9000 * row},{'view' if row % 3 else 'buy'}" for row in range(60)]
    (folder / "a.csv").write_text("\n".join(["who,what,when,event", *rows[:40], ",3,1700000000,buy"]) + "\n")
    (folder / "b.csv").write_text("\n".join(["who,what,when,event", *rows[40:], rows[59]]) + "\n")
    (here / "shop.toml").write_text(
        'tasks = { ranked = ["buy"], target = "buy" }\n[data]\nreader = "table"\npath = "shop"\n[data.log]\n'
        'files = ["*.csv"]\nuser = "who"\nitem = "what"\ntime = "when"\nmissing_ids = "drop"\nduplicates = "first"\n'
        'tasks = { buy = "event == buy" }\n'
    )
    assert describe("shop.toml", "--format", "json") == 0
    value = json.loads(capsys.readouterr().out)
    counts = {key: value["source"][key] for key in ("n_read", "n_missing_ids", "n_duplicates", "n_events")}
    assert counts == {"n_read": 62, "n_missing_ids": 1, "n_duplicates": 1, "n_events": 60}
    files = dict(value["source"]["files"])
    assert files == {"a.csv": 41, "b.csv": 21}
    assert describe("shop.toml") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "a.csv (41 rows; csv, separated by commas, UTF-8)" in out
    assert "1 dropped without a user or an item; 1 dropped that repeat another" in out
    assert "! 1 row (1.61 %) of the files have no user or no item and were dropped" in out


def test_a_page_is_written_where_it_is_asked_for(films: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert describe(str(films), "--html", "pages/films.html") == 0
    assert "pictures in pages/films.html" in capsys.readouterr().err
    text = (films.parent / "pages" / "films.html").read_text()
    assert "Rows over time" in text
    assert "label loved has only" in text


def test_json_and_a_page_may_be_asked_for_at_once(films: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert describe(str(films), "--format", "json", "--html", "films.html", "-q") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["n_rows"] == 60
    assert err == ""
    assert (films.parent / "films.html").is_file()


def test_a_log_that_cannot_be_split_is_described_all_the_same(films: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = settings("split.kind=time", "split.validation_from=2031-01-01", "split.test_from=2031-01-02")
    assert describe(str(films), *overrides) == 0
    out = capsys.readouterr().out
    assert "! the log cannot be split" in out
    assert "Parts (not split)" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], ConfigError.exit_code, "give a config file or --problem NAME"),
        (["none.toml"], ConfigError.exit_code, "none.toml does not exist"),
        (["-p", "feed", "--html", "."], ConfigError.exit_code, "--html must be a file, and . is a folder"),
        (["-p", "movielens", "--set", "data.path=nowhere"], DataError.exit_code, "'nowhere' does not exist"),
    ],
)
def test_a_mistake_is_one_message_and_an_exit_code(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert describe(*arguments) == code
    err = " ".join(capsys.readouterr().err.split())
    assert message in err
    assert "Traceback" not in err


def test_describing_imports_nothing_slow() -> None:
    arguments = ["data", "describe", "-p", "feed", *settings(*SMALL)]
    code = (
        f"import sys\nfrom evorec.cli import main\nassert main({arguments!r}) == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=STARTUP_S, check=True)
    assert done.stderr.strip().splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", ["describe", "get"])
def test_every_command_has_help_and_the_common_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", name, "--help"]) == 0
    text = capsys.readouterr().out
    for option in ("--format", "--quiet", "-q", "--verbose", "-v", "--debug"):
        assert option in text


def test_what_is_typed_next_keeps_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert describe("-p", "feed", *settings(*SMALL, "data.statistics=['user']")) == 0
    sets = " ".join(f"--set {text}" for text in SMALL) + """ --set 'data.statistics=['"'"'user'"'"']'"""
    assert f"next: evorec validate --problem feed {sets}" in capsys.readouterr().err


def test_a_page_does_not_take_the_place_of_a_device(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(here / "pipe")
    (here / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        assert describe("-p", "feed", *settings(*SMALL), "--html", name) == ConfigError.exit_code
        assert f"--html must be a file, and {name} is a device or a pipe" in capsys.readouterr().err
        assert (here / name).is_fifo()


def test_names_in_the_data_cannot_command_the_terminal(here: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    folder = os.fsencode(here) + b"/shop\xff"
    os.mkdir(folder)
    rows = [f"{row % 5},{row % 7},{1_700_000_000 + 9000 * row},{row % 2}" for row in range(60)]
    with open(folder + b"/a\x1b[31m\xfe.csv", "w") as file:
        file.write("\n".join(["who,what,when,event", *rows]) + "\n")
    task = r"\u001b]0;mine\u0007\u202e<b>buy</b>"
    with open(folder + b"/shop.toml", "w") as file:
        file.write(
            f'tasks = {{ ranked = ["{task}"], target = "{task}" }}\n[data]\nreader = "table"\npath = "."\n[data.log]\n'
            f'files = ["*.csv"]\nuser = "who"\nitem = "what"\ntime = "when"\ntasks = {{ "{task}" = "event == 1" }}\n'
        )
    os.chdir(folder)
    assert describe("shop.toml", "--html", "page.html", "-v") == 0
    out = capfdbinary.readouterr().out.decode()
    assert out.replace("\n", "").isprintable()
    assert "a\\x1b[31m\\xfe.csv (60 rows; csv, " in out
    assert "\\x1b]0;mine\\x07\\u202e<b>buy</b>" in out
    page = (Path() / "page.html").read_text()
    assert "\x1b" not in page
    assert "<b>buy" not in page
    assert describe("shop.toml", "--format", "json", "-q") == 0
    value = json.loads(capfdbinary.readouterr().out)
    assert value["source"]["files"][0][0] == "a\x1b[31m\\xfe.csv"


def test_content_is_counted_in_the_terminal_in_json_and_on_the_page(
    films: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(films.parent / "cache"))
    with films.open("a") as file:
        file.write('[data.content.words]\nkind = "text"\ncolumns = ["title"]\n')
        file.write('[data.content.cooccurrence]\nkind = "cooccurrence"\n')
    assert describe(str(films), "--html", "films.html") == 0
    out = capsys.readouterr().out
    assert "Content: items with a vector" in out
    # the only words that two films share are "film" and "1999", and all films have both
    assert "! content words: the vectors of 7 items are equal" in out
    assert "<h2>Content</h2>" in (films.parent / "films.html").read_text()
    assert describe(str(films), "--format", "json", "-q") == 0
    content = {part["name"]: part for part in json.loads(capsys.readouterr().out)["content"]}
    assert [(name, part["kind"], part["n"], part["n_with"]) for name, part in content.items()] == [
        ("genres", "multi_hot", 7, 7),
        ("words", "text", 7, 7),
        ("cooccurrence", "cooccurrence", 7, 7),
    ]
    assert content["words"]["made_of"] == "title"


def test_content_of_any_log_is_counted(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(here / "cache"))
    rows = [f"{row % 5},{row % 7},{1_700_000_000 + 9000 * row},{row % 2}" for row in range(60)]
    (here / "log.csv").write_text("\n".join(["who,what,when,event", *rows]) + "\n")
    np.save(here / "covers.npy", np.eye(3, dtype=np.float32))
    (here / "ids.txt").write_text("0\n1\n99\n")
    (here / "shop.toml").write_text(
        'tasks = { ranked = ["buy"], target = "buy" }\n[data]\nreader = "table"\npath = "."\n[data.log]\n'
        'files = ["log.csv"]\nuser = "who"\nitem = "what"\ntime = "when"\ntasks = { buy = "event == 1" }\n'
        '[data.content.covers]\nkind = "vectors"\npath = "covers.npy"\nids = "ids.txt"\n'
    )
    assert describe("shop.toml") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "! content covers: only 28.6 % of the 7 items have a vector" in out
