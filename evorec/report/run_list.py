"""The runs in a folder, for a list: nothing is changed, and no code that a run names is imported."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, final

from evorec.objectives import Constraint, Objective
from evorec.report.record import hypervolume_by_generation
from evorec.run.directory import RunDirectory

State = Literal["running", "interrupted", "finished", "finalized", "damaged"]


@final
@dataclass(frozen=True)
class ListedRun:
    """A run in a list.

    Attributes:
        folder: name of the run directory.
        state: interrupted = not finished, and no process works on it.
        started: local time, from the date of the manifest.
        name: given by a person.
        problem, evaluations, hypervolume: as far as they are known.
        fault: why it is damaged.
    """

    folder: str
    state: State
    started: str
    name: str | None = None
    problem: str | None = None
    evaluations: int | None = None
    hypervolume: float | None = None
    fault: str | None = None


def list_runs(folder: Path) -> list[ListedRun]:
    """All runs directly in a folder, by folder name; links and other folders are left out."""
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    return [
        _listed(Path(entry.path))
        for entry in entries
        if entry.is_dir(follow_symlinks=False) and os.path.lexists(os.path.join(entry.path, "manifest.json"))
    ]


def _listed(path: Path) -> ListedRun:
    folder = os.fsencode(path.name).decode(errors="replace")
    started = ""
    try:
        written = os.lstat(path / "manifest.json").st_mtime
        started = datetime.fromtimestamp(written).astimezone().strftime("%Y-%m-%d %H:%M")
        if not RunDirectory.has_begun(path):
            return ListedRun(folder, "running" if RunDirectory.is_held(path) else "interrupted", started, evaluations=0)
        with RunDirectory.open(path, read_only=True) as run:
            problem, summary, final = run.read_problem(), run.read_summary(), run.read_final()
            evaluations = run.ledger.evaluations()
            if summary is None:
                objectives = [Objective(**stored) for stored in problem["objectives"]]
                constraints = [Constraint(**stored) for stored in problem["constraints"]]
                shares = hypervolume_by_generation(evaluations, objectives, constraints)
            else:
                shares = [float(share) for share in summary["hypervolume_share"]]
            state: State = "finalized" if final is not None else "finished" if summary is not None else "interrupted"
            return ListedRun(
                folder,
                "running" if RunDirectory.is_held(path) else state,
                started,
                run.name,
                str(problem.get("name", "")),
                len(evaluations),
                shares[-1] if shares else None,
            )
    except (
        Exception
    ) as error:  # a folder of another user may contain anything, and the other runs are listed all the same
        text = str(error) or type(error).__name__
        return ListedRun(folder, "damaged", started, fault=text.splitlines()[0])
