"""A fault of the configuration or the data is refused before anything is trained, by `validate` and `search` alike."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from evorec.cli import main
from evorec.config import load_config, recommender_config
from evorec.errors import ConfigError, DataError, RunLockedError
from evorec.models import baselines
from evorec.models.item_item import ITEM_ITEMS
from evorec.recommender import checks
from evorec.recommender.checks import CheckedProblem, check_problem
from evorec.recommender.search_space import DEFAULT_MATRIX_BYTES
from evorec.run.lock import FolderLock

N = 900
"""Rows; the last tenth is test."""
TOML = """
problem = "feed"
[data]
reader = "table"
path = "."
[data.log]
files = ["log.csv"]
user = "user"
item = "item"
time = "time"
tasks = { click = "click", buy = "buy" }
context = { place = "categorical" }
[tasks]
ranked = ["click", "buy"]
target = "click"
[training]
steps = 1
batch_size = 64
retrieval_batch = 16
[evaluation]
k = 5
candidates = 20
[search]
population = 4
generations = 1
surrogate = "none"
[run]
workers = 1
"""
PARTS = {"training": slice(0, 720), "validation": slice(720, 810), "test": slice(810, None)}


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Columns of a log that can be searched; `write` makes its file."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    click = rng.random(N) < 0.4
    Path("c.toml").write_text(TOML)
    columns = {
        "user": rng.integers(0, 30, N),
        "item": rng.integers(0, 24, N),
        "time": 1_600_000_000 + 600 * np.arange(N),
        "click": click.astype(int),
        "buy": (click & (rng.random(N) < 0.5)).astype(int),
        "place": rng.integers(0, 3, N),
    }
    write(columns)
    return columns


def write(columns: dict[str, Any]) -> None:
    pl.DataFrame(columns).write_csv("log.csv")


def checked(*overrides: str) -> CheckedProblem:
    return check_problem(recommender_config(load_config(Path("c.toml"), overrides=overrides)), test=True)


def refusal(*overrides: str) -> str:
    """The message of both commands, which must be the same, and without a run directory."""
    with pytest.raises((ConfigError, DataError)) as caught:
        checked(*overrides)
    return str(caught.value)


def test_faults_of_tables_content_tasks_and_split_come_together(log: dict[str, np.ndarray]) -> None:
    found = refusal('tasks.ranked=["clik"]', 'split.validation_from="2039-01-01"', 'split.test_from="2040-01-01"')
    assert [line.split(" (")[0] for line in found.split("\n")[:2]] == [
        "tasks.ranked",
        "split.kind",
    ], found
    log["time"] = log["time"].astype(str)
    log["time"][5] = "soon"
    log["place"] = log["place"].astype(str)
    write(log)
    found = refusal(
        'tasks.ranked=["clik"]', 'objectives=["accurracy"]', 'data.log.context={"place"="numeric","x"="numeric"}'
    )
    assert "line 1 must name the columns ['x']; it has" in found
    assert "log.csv, line 7, column time must be a number, as other times of the column, got 'soon'; set" in found
    assert "'accurracy'" in found  # what needs no data is checked, too


def test_made_content_is_content_of_the_test_part_too(log: dict[str, np.ndarray]) -> None:
    titles = [("red wine", "old book", "new film")[item % 3] for item in range(24)]
    pl.DataFrame({"item": range(24), "title": titles}).write_csv("items.csv")
    items = 'data.items={files=["items.csv"], key="item", texts=["title"]}'
    text = 'data.content={text={kind="text", columns=["title"], dims=2, min_count=1}}'
    found = checked(items, text, 'objectives=["accuracy", "diversity"]')
    assert "diversity" in [objective.name for objective in found.objectives]


def test_both_commands_refuse_in_the_same_words_and_list_all_faults(
    log: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {
        'objectives=["accuracy", "diversity"]': "objectives (command line): intra_list_distance@5 needs content",
        'constraints=["recal@k >= 0.1"]': "constraints (command line): constraint 'recal@k >= 0.1': 'recal@k' is not a "
        "metric; did you mean 'recall@k'?",
        'run.device="cuda:3"': "run.device (command line) is cuda:3, and torch",
        "space.widht=32": "space.widht (command line) is not a gene; did you mean 'width'?",
        'finalize.picks=["acuracy"]': "finalize.picks (command line): 'acuracy' is not a metric; did you mean",
    }
    settings = [word for text in wrong for word in ("--set", text)]
    errors = []
    for command in ("validate", "search"):
        assert main([command, "c.toml", *settings]) == ConfigError.exit_code
        errors.append(capsys.readouterr().err.removeprefix("problem feed: reading the data\n"))
    assert errors[0] == errors[1]
    lines = errors[0].removeprefix("error: ").splitlines()
    assert len(lines) == len(wrong)
    for words in wrong.values():
        assert sum(line.startswith(words) for line in lines) == 1, words
    assert not Path("runs").exists()


def test_a_baseline_without_room_is_left_out_with_a_remark_and_no_constraint_may_name_it(
    log: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any("ease" in remark for remark in checked().remarks)
    monkeypatch.setattr(baselines, "matrix_bytes", lambda name, *_: 10**15 if name == "ease" else 0)
    left_out = [remark for remark in checked().remarks if "ease" in remark]
    assert len(left_out) == 1
    assert left_out[0].startswith("ease is left out of the baselines: its matrix takes ")
    assert left_out[0].endswith(" GiB; raise run.memory_gib to have it.")
    assert "'ease'" in refusal('constraints=["recall@k >= 0.1 * ease"]')


def test_the_test_part_is_encoded_by_validate_and_by_the_first_start_of_a_search_only(
    log: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded, test_part = [], checks._test_part
    monkeypatch.setattr(checks, "_test_part", lambda *parts: encoded.append(1) or test_part(*parts))
    for command, count in (("validate", 1), ("search", 2), ("search", 2)):
        assert main([command, "c.toml"]) == 0
        assert len(encoded) == count
    run = next(Path("runs").glob("*-*"))
    assert main(["resume", str(run), "--generations", "2"]) == 0
    assert len(encoded) == 2


def test_each_setting_that_a_search_refuses_is_refused_by_the_check(log: dict[str, np.ndarray]) -> None:
    for override, words in {
        'data.statistics=["user", "itm"]': "data.statistics (command line): 'itm' must be made of",
        'data.log.tasks={click="user >= 0", buy="buy"}': "tasks.ranked (c.toml): task click of",
        'data.log.tasks={click="item", buy="buy"}': "must be 0 or 1 (or missing) to be ranked",
        'tasks.ranked=["click", "nap"]': "tasks.ranked (command line) must name label columns of",
        'evaluation.groups="city"': "evaluation.groups (command line) must be a column of the users",
        'data.path="nowhere"': "data.path",
        'data.log.files=["no.csv"]': "data.log.files",
        'space={width=16, embedding_dim=8, mechanism="shared_bottom", sharing_depth=1, task_embeddings=false, '
        'optimizer="adamw", history=true, rerank=false, retrieval_loss="softmax", negatives=16, balancing="fixed", '
        'use_place=true, negative_source="batch", item_item="none", '
        "ensemble_heads=1}": "box.cost must have its ideal below its worst",
    }.items():
        assert words in refusal(override), override


def test_a_label_that_does_not_vary_is_refused_whichever_part_it_is_in(log: dict[str, np.ndarray]) -> None:
    for part, rows in PARTS.items():
        buy = log["buy"].copy()
        buy[rows] = 0
        write({**log, "buy": buy})
        assert f"task buy of {Path.cwd().name} must have two or more classes in the {part} rows" in refusal()


def test_a_test_part_of_new_users_is_refused_before_the_search(log: dict[str, np.ndarray]) -> None:
    for part in ("validation", "test"):
        user = log["user"].copy()
        user[PARTS[part]] += 1000
        if part == "validation":  # those of test are known from validation
            user[PARTS["test"]] += 1000
        write({**log, "user": user})
        named = "held-out" if part == "validation" else "test"
        assert f"known user with a positive of click in the {named} rows" in refusal(), part


def test_the_check_reads_labels_of_the_test_part_and_no_figure_depends_on_them(log: dict[str, np.ndarray]) -> None:
    before = checked()
    place = log["place"].copy()
    place[PARTS["test"]] = 7
    write({**log, "place": place})
    after = checked()
    assert before.space == after.space
    assert before.objectives == after.objectives
    assert np.array_equal(before.dataset.train.context, after.dataset.train.context)


def test_a_log_of_minutes_is_valid(log: dict[str, np.ndarray]) -> None:
    for times in (1_600_000_000 + np.arange(N), np.full(N, 1_600_000_000)):
        write({**log, "time": times})
        overrides = [] if np.ptp(times) else ["split.kind=random"]
        low, high = checked(*overrides).space.gene("popularity_half_life").bounds
        assert low < high


def test_a_default_of_the_problem_that_the_data_cannot_have_is_left_out_with_a_note(
    log: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    found = checked()
    assert found.config.data.statistics == ("user", "item")
    assert found.config.objectives == ("accuracy", "recall@k", "cost")
    notes = "\n".join(found.remarks)
    assert "data.statistics: category (default of problem feed) left out" in notes
    assert "objectives: diversity (default) left out: intra_list_distance@5 needs content" in notes
    assert main(["validate", "c.toml"]) == 0
    assert "data.statistics: category (default of problem feed) left out" in " ".join(capsys.readouterr().out.split())
    # What a person wrote is refused instead.
    assert "'category' must be made of" in refusal('data.statistics=["user", "category"]')
    # A problem with other tasks keeps those that the log has.
    Path("c.toml").write_text(
        TOML.replace('ranked = ["click", "buy"]\ntarget = "click"', "").replace("buy = ", "like = ")
    )
    found = checked()
    assert (found.config.tasks.ranked, found.config.tasks.funnel) == (("click", "like"), ())


def test_a_held_run_directory_and_a_folder_that_cannot_be_made_are_refused_by_both(
    log: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("validate", "search"):
        assert main([command, "c.toml", "--set", "run.output='log.csv/runs'"]) == ConfigError.exit_code
        assert "run.output (command line) must be a folder, and" in capsys.readouterr().err
    assert main(["search", "c.toml", "-q", "--set", "constraints=[]"]) == 0
    (run,) = Path("runs").glob("*-*")
    held = FolderLock(run)
    for command in ("validate", "search"):
        capsys.readouterr()
        assert main([command, "c.toml", "--set", "constraints=[]"]) == RunLockedError.exit_code
        assert f"is held by process {os.getpid()} on " in capsys.readouterr().err
    held.release()
    assert main(["validate", "c.toml", "--set", "constraints=[]"]) == 0


def test_a_feature_that_gives_a_label_away_is_pointed_out(
    log: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    rng, click = np.random.default_rng(1), log["click"]
    nearly = np.where(rng.random(N) < 0.01, 1 - click, click)
    leaking: dict[str, tuple[str, Callable[[], Any]]] = {
        "a code": ("categorical", lambda: np.array(["paid", "open"])[nearly]),
        "a number": ("numeric", lambda: np.where(click == 1, rng.random(N) + 0.1, 0.0)),
        "a missing number": (
            "numeric",
            lambda: [number if c else None for number, c in zip(rng.random(N), click, strict=True)],
        ),
        "a list": ("multi_hot", lambda: ["a|b" if c else "" for c in click]),
    }
    for name, (kind, column) in leaking.items():
        write({**log, "place": column()})
        overrides = [f'data.log.context={{place="{kind}"}}']
        overrides += ['data.log.separators={place="|"}'] if kind == "multi_hot" else []
        notes = checked(*overrides).remarks
        assert any('context feature "place" tells label click in ' in note for note in notes), name
    for honest in (log["place"], np.arange(N), rng.random(N)):  # an id of the row tells nothing
        write({**log, "place": honest})
        assert not any("tells label" in note for note in checked().remarks)
    write({**log, "place": click})
    assert main(["data", "describe", "c.toml"]) == 0
    assert '! context feature "place" tells label click in 100' in capsys.readouterr().out


def test_a_kind_of_matrix_that_is_large_is_searched_only_if_it_is_named(
    log: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ITEM_ITEMS["ease"], "fit_bytes", lambda *_: DEFAULT_MATRIX_BYTES + 1)
    found = checked()
    assert not found.space.gene("item_item").can_be("ease")
    assert found.space.gene("item_item").can_be("knn")
    assert any(remark.startswith("space.item_item: ease is left out") for remark in found.remarks)
    assert checked('space.item_item=["none", "ease"]', "run.memory_gib=16").space.gene("item_item").can_be("ease")
