"""A configuration for the files of a log: roles, labels and features are guessed, split and tasks rest on counts."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, final

from evorec.config import DataConfig, merge, parse_config, problem_definition
from evorec.data.catalogue import CATALOGUE
from evorec.data.guess.blocks import budget_blocks, data_blocks, row_blocks, task_blocks, top_block
from evorec.data.guess.entities import EntityGuess, Side, find_key, guess_entities
from evorec.data.guess.evidence import Evidence, SplitKind, weigh
from evorec.data.guess.files import LogFiles
from evorec.data.guess.log import LogGuess, guess_log
from evorec.data.guess.roles import STEPS, Role, has_word, words
from evorec.data.guess.rows import guess_rows
from evorec.data.guess.sample import Sample, merged, read_samples
from evorec.data.guess.writing import Block, document, in_words
from evorec.data.readers import READERS, read_with_origin
from evorec.data.tables import Tables
from evorec.data.tabular.sources import Source, find_sources
from evorec.errors import ConfigError, DataError, EvorecError

PROBLEM: Final = "feed"
"""Problem whose defaults the configuration has."""
ABOUT: Final = re.compile(r"\.|readme|licen[cs]e|.*\.(md|toml|html|pdf|py|ipynb)$", re.IGNORECASE)
"""Names of files in a folder that are no data."""
TITLE: Final = (
    "Guessed by `evorec init` from the files. A line behind # is an alternative: remove the # to use it.",
    "All keys with their meaning: evorec validate --keys",
)
FAR: Final = "../../.."
"""A folder this far from the configuration is named by its absolute path."""


@final
@dataclass(frozen=True)
class Draft:
    """A guessed configuration.

    Attributes:
        text: TOML with comments.
        roles: role -> column or files, for people.
        remarks: guesses that a person should check, and everything that could not be guessed.
    """

    text: str
    roles: Mapping[str, str]
    remarks: tuple[str, ...]


def draft(paths: Sequence[Path], given: Mapping[Role, str], *, out: Path) -> Draft:
    """Guess the configuration of a log.

    The data are read once with it, so that the split and the tasks rest on counts of all rows.

    Args:
        paths: files of the log and of tables of users and items, or folders with them.
        given: roles of columns that are known.
        out: file of the configuration; relative paths begin at its folder.
    Raises:
        ConfigError: no file is a log with a user and an item, or a given column does not exist.
        DataError: a file does not exist, or none can be read.
    """
    folder, sources = _find(paths)
    samples, unread = read_samples(sources)
    if not samples:
        raise DataError("\n".join(unread.values()))
    path = os.path.relpath(folder, out.resolve().parent)
    path = Path(folder if path.startswith(FAR) else path).as_posix()
    try:
        logs = _logs(samples, given)
    except ConfigError:
        if (found_rows := None if given else _rows_draft(samples, unread, path)) is None:
            raise
        return found_rows
    of_log = {sample.name for log in logs for sample in log.samples}
    tables, unused = _tables([sample for sample in samples if sample.name not in of_log], logs[0])
    remarks = [f"{name} is left out: {why}" for name, why in (unread | unused).items()]
    remarks += dict.fromkeys(remark for log in logs for remark in log.guess.remarks)
    guess, target = logs[0].guess, logs[0].guess.target or logs[0].event
    if published := _published_reader(folder):
        remarks.append(
            f"data.reader = {published!r} knows these files ({READERS[published].text}): [data] with this reader and "
            "the path, and without log, users and items, gives the features and labels of the published data set"
        )
    data = data_blocks(path, logs, tables, published)
    try:
        found = _read(data, folder)
        evidence = weigh(found, target=target, unwanted=guess.unwanted, given=bool(logs[0].parts))
    except EvorecError as error:
        remarks.append(f"the files cannot be read with this configuration yet: {error}")
        split: SplitKind = "given" if logs[0].parts else "time" if guess.time else "random"
        evidence = Evidence(split, target, ranked=tuple(guess.tasks))
    if evidence.why:
        remarks.append(f"split = {evidence.split}: {evidence.why}")
    has_content = "items" in tables and bool(tables["items"][1].content or tables["items"][1].texts)
    blocks = [
        top_block(PROBLEM, evidence, has_content=has_content),
        *data,
        *task_blocks(guess, evidence),
        *budget_blocks(),
    ]
    roles: dict[str, str] = {
        "log": in_words(sorted(of_log)),
        **{role: name for role in ("user", "item", "time", "event", "rating") if (name := getattr(guess, role))},
        **{side: f"{in_words([sample.name for sample in same])}, by {own.key}" for side, (same, own) in tables.items()},
        "split": evidence.split,
        "ranked": in_words(evidence.ranked) or "none",
        "target": evidence.target,
    }
    return Draft(document(TITLE, blocks), roles, tuple(remarks))


def _rows_draft(samples: Sequence[Sample], unread: Mapping[str, str], path: str) -> Draft | None:
    """The configuration of a table of rows without users and items; ``None`` = no label can be recognised."""
    first = max(samples, key=lambda sample: sample.n_rows)
    same = [sample for sample in samples if sample.names == first.names]
    values = merged(same)
    if not first.has_header:
        return None
    guess = guess_rows(values, guess_log(values, {}, has_header=True))
    if guess is None:
        return None
    names = [sample.name for sample in same]
    remarks = [f"{name} is left out: {why}" for name, why in unread.items()]
    remarks += [f"{sample.name} is left out: it has other columns" for sample in samples if sample not in same]
    remarks.append(
        "no column identifies items, so this is a table of rows without users and items (problem rows): labels are "
        f"{in_words(list(guess.tasks))}; --user and --item name the columns of a log"
    )
    roles = {
        "rows": in_words(names),
        "labels": in_words(list(guess.tasks)),
        "features": in_words(list(guess.features)),
        "split": "time" if guess.time else "random",
    }
    return Draft(document(TITLE, row_blocks(path, same, guess)), roles, tuple(remarks))


def _find(paths: Sequence[Path]) -> tuple[Path, dict[str, Source]]:
    """The folder that all files are in, and the files by their names in it; folders are searched."""
    found: list[Source] = []
    for path in paths:
        if path.is_dir():
            names = sorted(entry.name for entry in path.iterdir() if entry.is_file())
            inside = [name for name in names if not ABOUT.match(name)]
            if not inside:
                raise DataError(f"{path} has no files; name the files of the log.")
            found += find_sources(path, inside, "init")
        else:
            found += find_sources(path.parent, [path.name], "init")
    folder = Path(os.path.commonpath([source.path.resolve().parent for source in found]))
    return folder, {_name(source, folder): source for source in found}


def _published_reader(folder: Path) -> str:
    """The reader of a published data set that can read a folder; empty = there is none."""
    for name in dict.fromkeys(data_set.reader for data_set in CATALOGUE.values()):
        with suppress(EvorecError):
            READERS[name].read(DataConfig(reader=name, path=str(folder)))
            return name
    return ""


def _name(source: Source, folder: Path) -> str:
    """Name of a file as ``files`` of a configuration has it."""
    name = source.path.resolve().relative_to(folder).as_posix()
    return f"{name}/{source.member}" if source.member else name


def _logs(samples: Sequence[Sample], given: Mapping[Role, str]) -> list[LogFiles]:
    """The files of the log: those with the same columns as its largest file, or a group for each kind of event.

    Raises:
        ConfigError: no file has a user and an item.
    """
    lists = tuple(sample for sample in samples if sample.is_of_lists)
    if lists and not given:
        return [LogFiles(lists, merged(lists), LogGuess(user="user", item="item"))]
    known = {name for sample in samples for name in sample.names}
    for role, name in given.items():
        if name not in known:
            raise ConfigError(
                f"--{role} must name a column of the files, got {name!r}; they have {in_words(sorted(known), 20)}."
            )
    groups: dict[tuple[str, ...], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((*sample.names, str(sample.has_header)), []).append(sample)
    found = []
    for same in groups.values():
        values = merged(same)
        guess = guess_log(values, given, has_header=same[0].has_header)
        if guess.is_complete:
            values = dict(zip(guess.columns or values.keys(), values.values(), strict=True))
            found.append(LogFiles(tuple(same), values, guess))
    if not found:
        raise ConfigError(_no_log(samples, given))
    if not any(log.guess.tasks for log in found) and (split := _by_event(found)):
        return split
    return [max(found, key=lambda log: (bool(log.guess.tasks), log.n_rows))]


def _no_log(samples: Sequence[Sample], given: Mapping[Role, str]) -> str:
    listed = "; ".join(f"{sample.name} has {in_words(sample.names, 20)}" for sample in samples)
    missing = [role for role in ("user", "item") if role not in given]
    options = " and ".join(f"--{role} COLUMN" for role in missing)
    return (
        f"no file has both a column of users and a column of items that can be recognised: {listed}. "
        f"Name them with {options}."
        if missing
        else f"no file has both of the columns {in_words(list(given.values()))}: {listed}."
    )


def _by_event(logs: Sequence[LogFiles]) -> list[LogFiles]:
    """A group of files for each kind of event that the names of the files say; empty = they say none."""
    steps = tuple(word for step in STEPS for word in step)
    out: dict[str, LogFiles] = {}
    for log in logs:
        for sample in log.samples:
            if not (event := next((word for word in words(Path(sample.name).stem) if has_word(word, steps)), "")):
                return []
            same = (*out[event].samples, sample) if event in out else (sample,)
            values = dict(zip(log.values, merged(same).values(), strict=True))
            out[event] = replace(log, samples=same, values=values, event=event)
    if len(out) == 1:
        return []
    return sorted(out.values(), key=lambda log: next(n for n, step in enumerate(STEPS) if has_word(log.event, step)))


def _tables(
    samples: Sequence[Sample], log: LogFiles
) -> tuple[dict[Side, tuple[list[Sample], EntityGuess]], dict[str, str]]:
    """The tables of users and items with their files, and the reasons why other files are left out."""
    best: dict[Side, tuple[list[Sample], EntityGuess]] = {}
    unused: dict[str, str] = {}
    groups: dict[tuple[str, ...], list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.names, []).append(sample)
    for same in groups.values():
        names = [sample.name for sample in same]
        values = merged(same)
        found = find_key(same, values, log)
        if found is None:
            is_log = guess_log(values, {}, has_header=same[0].has_header).is_complete
            why = "a further log, which [[data.log.sources]] can read" if is_log else "no column has the ids of the log"
            unused |= dict.fromkeys(names, why)
            continue
        guess = guess_entities(values, *found)
        side = guess.side
        if side in best and best[side][1].size >= guess.size:
            unused |= dict.fromkeys(names, f"a further table of {side}; data.{side} reads a single table")
            continue
        if side in best:
            further = [sample.name for sample in best[side][0]]
            unused |= dict.fromkeys(further, f"a further table of {side}; data.{side} reads a single table")
        best[side] = (same, guess)
    return best, unused


def _read(data: Sequence[Block], folder: Path) -> Tables:
    """The tables that some blocks describe, without the vectors of content."""
    given = tomllib.loads(document((), data))
    given["data"] = {**given["data"], "path": str(folder), "content": {}}
    given["split"] = {"kind": "given"} if "parts" in given["data"]["log"] else {}
    config = parse_config(merge(problem_definition(PROBLEM).defaults, given), source="evorec init")
    return read_with_origin(config.data)[0]
