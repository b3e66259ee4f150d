"""Guesses as the tables of a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import polars as pl

from evorec.config import FilesConfig, RecommenderConfig, keys
from evorec.config.expressions import quoted_text
from evorec.data.guess.entities import EntityGuess, Side
from evorec.data.guess.evidence import Evidence
from evorec.data.guess.files import LogFiles
from evorec.data.guess.log import LogGuess
from evorec.data.guess.roles import has_word
from evorec.data.guess.rows import RowsGuess
from evorec.data.guess.sample import Sample
from evorec.data.guess.writing import Block, Setting, in_words

SESSION_GAP_S: Final = 1800
ROWS: Final = "rows"
"""Problem of tables without users and items."""
BUDGET: Final = (
    "search.population", "search.generations", "training.steps", "training.batch_size", "training.rungs",
    "evaluation.k", "evaluation.max_users", "run.workers",
)  # fmt: skip
"""Settings that decide how long a search takes, which are written as comments."""


SEQUENCES: Final = ("seq", "seqs", "sequence", "sequences", "session", "sessions", "history", "histories")
"""Words in names of files whose lines have an order."""
FORMS: Final = {
    "csv": "which the ending of the name does not say",
    "mapping": "a single JSON object: the columns are its keys and its values",
}
"""Formats that must be set -> why."""
BROKEN: Final = {
    "ragged": "lines with another number of values than columns",
    "broken": "lines that are not a JSON object",
}
"""Settings that drop lines -> the lines."""
LISTS: Final[Mapping[str, str]] = {
    "sequence": "a line per user: the user, then its items in order of time",
    "adjacency": "a line per user: the user, then its items in any order",
}
"""Formats of files of lists -> their meaning."""


def top_block(problem: str, evidence: Evidence, *, has_content: bool) -> Block:
    """The settings before the first table."""
    diversity = "diversity" if has_content else "catalogue_coverage@k"
    objectives = [*(["accuracy"] if evidence.ranked else []), "recall@k", diversity, "cost"]
    why = "" if has_content else "diversity needs features, texts or vectors of the items"
    return Block("", (Setting("problem", problem), Setting("objectives", objectives, why)))


def data_blocks(
    path: str,
    logs: Sequence[LogFiles],
    tables: Mapping[Side, tuple[Sequence[Sample], EntityGuess]],
    published: str = "",
) -> list[Block]:
    """``[data]`` and the tables in it.

    Args:
        path: folder of the files.
        logs: the files of the log.
        tables: of users and items.
        published: reader that knows the files, too.
    """
    items = tables["items"][1] if "items" in tables else None
    codes = [name for name in items.content if items.features.get(name) == "categorical"] if items else []
    statistics = ["user", "item", *codes[:1]]
    blocks = [
        Block(
            "[data]",
            (
                Setting("reader", "table"),
                Setting("path", path, "folder of the files, from the folder of this file"),
                Setting("statistics", statistics, "whose counts and rates on earlier days the ranker sees"),
            ),
            [f'reader = "{published}" knows these files; leave out [data.log], [data.users] and [data.items] then']
            if published
            else [],
        )
    ]
    blocks += _log_blocks(logs)
    for side in ("users", "items"):
        if side in tables:
            blocks += _entity_blocks(*tables[side])
    return blocks


def row_blocks(path: str, samples: Sequence[Sample], guess: RowsGuess) -> list[Block]:
    """All settings of a table of rows without users and items.

    Args:
        path: folder of the files.
        samples: the files.
        guess: roles of their columns.
    """
    log = _file_settings(samples, samples[0].names, {})
    if guess.time:
        log += [Setting("time", guess.time, "rows are split by it"), Setting("time_unit", guess.time_unit)]
    features = [Setting(name, kind) for name, kind in guess.features.items()]
    features += [Setting(name, kind, guess.unused[name], is_active=False) for name, kind in guess.others.items()]
    return [
        Block("", (Setting("problem", ROWS, "rows with features and labels, without users and items"),)),
        Block("[data]", (Setting("reader", "table"), Setting("path", path, "folder of the files"))),
        Block("[data.log]", log),
        Block(
            "[data.log.tasks]",
            [Setting(name, label) for name, label in guess.tasks.items()],
            ("labels: columns with 0 and 1, or comparisons; numbers are named in [tasks] kinds",),
        ),
        Block("[data.log.context]", features, ("features of a row; none that is written after the labels are known",)),
        *budget_blocks(),
    ]


def _dialects(samples: Sequence[Sample]) -> str:
    """How the files are written, in words."""
    kinds: dict[str, list[str]] = {}
    for sample in samples:
        kinds.setdefault(str(sample.dialect), []).append(sample.name)
    if len(kinds) == 1:
        return next(iter(kinds))
    return "; ".join(f"{in_words(names, 3)}: {kind}" for kind, names in kinds.items())


def _file_settings(samples: Sequence[Sample], columns: Sequence[str], parts: Mapping[str, Any]) -> list[Setting]:
    names = [sample.name for sample in samples]
    dialect = _dialects(samples)
    out = [Setting("parts", parts, dialect)] if parts else [Setting("files", names, dialect)]
    if form := next((sample.form for sample in samples if sample.form and not sample.is_of_lists), ""):
        out.append(Setting("format", form, FORMS[form]))
    if broken := next((sample.broken for sample in samples if sample.broken), ""):
        out.append(Setting(broken, "drop", f'{BROKEN[broken]} are dropped and counted; "refuse" = refuse them'))
    if not samples[0].has_header and columns:
        out.append(Setting("columns", columns, "the file has no header line; any names"))
    return out


def _log_blocks(logs: Sequence[LogFiles]) -> list[Block]:
    first = logs[0]
    guess, values = first.guess, first.values
    if first.samples[0].is_of_lists:
        in_order = any(has_word(sample.name, SEQUENCES) for sample in first.samples)
        forms = [Setting("format", form, meaning) for form, meaning in LISTS.items()]
        forms = forms if in_order else forms[::-1]
        return [
            Block(
                "[data.log]",
                (
                    *_file_settings(first.samples, guess.columns, first.parts),
                    forms[0],
                    replace(forms[1], is_active=False),
                ),
            )
        ]
    is_single = len(logs) == 1
    settings = _file_settings(first.samples, guess.columns, first.parts) if is_single else []
    if is_single:
        settings += _column_settings(first)
    settings += [
        Setting("missing_ids", "drop", 'rows without a user or an item are dropped and counted; "refuse" = refuse them')
    ]
    if any(log.guess.lacks_times for log in logs):
        settings.append(
            Setting("missing_times", "drop", 'rows without a time are dropped and counted; "refuse" = refuse them')
        )
    if _repeats(first):
        same = "user, item" + ", time" * bool(guess.time) + ", kind of event" * bool(guess.kinds)
        settings.append(Setting("duplicates", "first", f'rows that repeat {same} are read once; "keep" = read all'))
    blocks = [Block("[data.log]", settings)]
    tasks = [
        Setting(name, label, guess.notes.get(name, ""), is_active=name not in guess.unwanted)
        for name, label in guess.tasks.items()
    ]
    events = {log.event: f"event == {quoted_text(log.event)}" for log in logs if log.event}
    tasks += [Setting(name, label) for name, label in events.items()]
    if tasks:
        blocks.append(Block("[data.log.tasks]", tasks, ("labels of a row: columns with 0 and 1, or comparisons",)))
    context = [Setting(name, kind) for name, kind in guess.context.items()]
    numbers = [name for name in guess.undecided if values[name].is_number and values[name].n_values > 1]
    further = [
        Setting(name, "numeric" if name in numbers else "categorical", is_active=False)
        for name in guess.undecided
        if not values[name].is_list and values[name].n_values > 1
    ]
    if context or further:
        comment = "features of the moment; only columns that are known when a list is requested"
        blocks.append(Block("[data.log.context]", (*context, *further), (comment,)))
    if guess.kinds or events:
        by = [guess.session] if guess.session and guess.session != guess.user else []
        pivot = (
            [Setting("session_gap_s", SESSION_GAP_S, "pause that ends a session, in seconds")]
            if guess.time and not by
            else [Setting("by", by or [guess.user, guess.item])]
        )
        comment = "rows are events: those of a user and an item in a session become a row with all their labels"
        blocks.append(Block("[data.log.pivot]", pivot, (comment,)))
    if not is_single:
        blocks += [
            Block(
                "[[data.log.sources]]",
                (
                    *_file_settings(log.samples, log.guess.columns, {}),
                    *_column_settings(log),
                    Setting("event", log.event, "of all rows of these files"),
                ),
            )
            for log in logs
        ]
    return blocks


def _column_settings(log: LogFiles) -> list[Setting]:
    guess = log.guess
    out = [Setting("user", guess.user), Setting("item", guess.item)]
    if guess.time:
        out.append(Setting("time", guess.time))
        if guess.time_unit != "auto":
            out.append(Setting("time_unit", guess.time_unit))
        if guess.marks:
            default = FilesConfig.model_fields["missing"].default
            out.append(Setting("missing", [*default, *guess.marks], "texts that mean a missing value"))
        out += [Setting("time_unit", unit, "fits all times, too", is_active=False) for unit in guess.other_units]
        if not guess.has_zone:
            out.append(
                Setting("time_zone", "Europe/Berlin", "the times have no zone and are read as UTC", is_active=False)
            )
    else:
        out.append(Setting("time", "", "no column of times was found", is_active=False))
    return out


def _repeats(log: LogFiles) -> bool:
    """Whether rows repeat user, item and time of an earlier row, and its kind of event, or else all its values."""
    guess = log.guess
    names = [name for name in (guess.user, guess.item, guess.time, guess.event) if name]
    frame = pl.DataFrame({name: values.texts for name, values in log.values.items()}).drop_nulls(names)
    n_different = frame.select(names).n_unique()
    return n_different < frame.height and (bool(guess.kinds) or n_different == frame.n_unique())


def _entity_blocks(samples: Sequence[Sample], guess: EntityGuess) -> list[Block]:
    side = guess.side
    settings = [
        *_file_settings(samples, samples[0].names, {}),
        Setting("key", guess.key, f"ids of {side}, as in the log"),
    ]
    if guess.marks:
        default = FilesConfig.model_fields["missing"].default
        settings.append(Setting("missing", [*default, *guess.marks], "texts that mean a missing value"))
    if guess.lacks_ids:
        settings.append(
            Setting("missing_ids", "drop", 'rows without an id are dropped and counted; "refuse" = refuse them')
        )
    if guess.repeats:
        settings.append(Setting("duplicates", "first", "ids with several rows: the first counts"))
    if guess.separators:
        settings.append(Setting("separators", guess.separators, "between the values of a list"))
    if guess.texts:
        settings.append(Setting("texts", guess.texts))
    if guess.content:
        settings.append(Setting("content", guess.content, "features whose distance measures the diversity of lists"))
    comments = (
        [f"left out: {in_words([f'{name} ({why})' for name, why in guess.left_out.items()])}"] if guess.left_out else []
    )
    blocks = [Block(f"[data.{side}]", settings, comments)]
    if guess.features:
        blocks.append(Block(f"[data.{side}.features]", [Setting(name, kind) for name, kind in guess.features.items()]))
    if guess.texts:
        blocks.append(Block("[data.content.text]", (Setting("kind", "text"), Setting("columns", guess.texts))))
    return blocks


def task_blocks(guess: LogGuess, evidence: Evidence) -> list[Block]:
    """``[split]`` and ``[tasks]``."""
    meaning = {
        "time": "the last 10 % of the rows are test, the 10 % before them validation",
        "leave_last_out": "the last row of a user is test, the row before it validation",
        "random": "rows drawn at random; overestimates every metric where the log has an order",
        "given": "as the files of the log say",
    }
    split = [Setting("kind", evidence.split, meaning[evidence.split])]
    if evidence.split != "given":
        split += [
            Setting(name, default, text, is_active=False)
            for name, default, text in (
                ("validation_share", 0.1, "share of the rows"),
                ("test_share", 0.1, "share of the rows"),
            )
            if evidence.split != "leave_last_out"
        ]
    others = [kind for kind in meaning if kind not in (evidence.split, "given")]
    split += [Setting("kind", kind, meaning[kind], is_active=False) for kind in others if guess.time]
    tasks = [
        Setting("ranked", evidence.ranked, "labels that the ranker learns"),
        Setting("target", evidence.target, "label whose positives are retrieved and counted by recall"),
    ]
    comments = [f"not ranked: {name}, {why}" for name, why in evidence.unranked.items()]
    if not evidence.ranked:
        comments.append(
            "without labels, retrieval alone is searched; to rank against items drawn at random, set ranked to the "
            "target, sampled_negatives = 4, and objectives with accuracy"
        )
    return [Block("[split]", split), Block("[tasks]", tasks, comments)]


def budget_blocks() -> list[Block]:
    """Settings that decide how long a search takes, as comments with their meaning."""
    config = RecommenderConfig()
    meaning = {key.name: key.meaning for key in keys(config)}
    sections: dict[str, list[Setting]] = {}
    for name in BUDGET:
        section, _, key = name.rpartition(".")
        value = getattr(getattr(config, section), key)
        sections.setdefault(section, []).append(Setting(key, value, meaning[name], is_active=False))
    return [Block(f"[{section}]", settings) for section, settings in sections.items()]
