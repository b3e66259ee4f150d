"""The command `finalize`, and functions that commands on members share."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from evorec.cli.app import SHIP, Overrides, Run, command, complete_pick
from evorec.cli.output import Output
from evorec.errors import ConfigError

if TYPE_CHECKING:
    from evorec.config import RunConfig
    from evorec.recommender.problem import RecProblem
    from evorec.report.record import RunRecord


class ShippedData(StrEnum):
    """Rows behind a shipped model: those before the test, which then measures it, or all of them."""

    TEST = "test"
    ALL_DATA = "all-data"


@command(
    panel=SHIP,
    order=10,
    examples=(
        "evorec finalize runs/feed-0123456789ab --pick all",
        "evorec finalize friday --pick knee --set finalize.seeds=5",
        "evorec finalize runs/feed-0123456789ab --on all-data",
    ),
)
def finalize(
    output: Output,
    run: Run,
    pick: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PICK",
            autocompletion=complete_pick,
            help="As for `evorec front`, or all, or a prefix of a member's key; repeatable. Default: finalize.picks.",
            show_default=False,
        ),
    ] = None,
    on: Annotated[
        ShippedData,
        typer.Option(
            help="test = measure the picks on the test; all-data = afterwards, train the picked members on all rows, "
            "the test included, to export them."
        ),
    ] = ShippedData.TEST,
    overrides: Overrides = None,
) -> None:
    """Choose members and training steps on validation, train with fresh seeds, measure once on test.

    The test is opened once, for the picks of the first call; --pick all measures every member of the front.
    Picks, steps and seeds come from finalize.* and can be changed, e.g. --pick knee --pick best:recall,cost<=1e12
    --set finalize.seeds=5.
    """
    from evorec.config import recommender_config, reset_config
    from evorec.deploy.final.all_data import train_on_all_data
    from evorec.deploy.final.finalize import finalize as run_finalize
    from evorec.report.final_tables import final_notes, final_tables
    from evorec.report.record import read_record
    from evorec.run.directory import RunDirectory

    if on is ShippedData.ALL_DATA:
        if pick or overrides:
            raise ConfigError("--on all-data trains the members and steps of the test; leave --pick and --set out.")
        with RunDirectory.open(run) as opened:
            report = train_on_all_data(opened, build_rec_problem(opened.config), progress=output.note)
        output.result(report, text=f"{len(report['steps'])} members trained on {report['rows']:,} rows")
        for key in report["steps"]:
            output.next_step("evorec", "export", run, key, "--on", "all-data")
        return
    picks = [f"finalize.picks={json.dumps(pick)}"] if pick else []
    with RunDirectory.open(run) as opened:
        stored = recommender_config(opened.config)
        config = reset_config(stored, [*(overrides or []), *picks], sections=("finalize", "run"))
        # Picks may be keys of members, which only a finished run knows, not its problem.
        problem = build_rec_problem(config.model_copy(update={"finalize": stored.finalize}))
        if opened.finished and opened.read_final() is None and "all" not in config.finalize.picks:
            output.note(
                "the test is opened once per run, and no other pick can be measured afterwards; --pick all measures "
                "every member of the front",
                style="yellow",
            )
        run_finalize(opened, problem, config.finalize, progress=output.note)
    record = read_record(run)
    output.result(record.final, *final_tables(record), text=final_notes(record))
    output.next_step("evorec", "report", run)
    final = record.final or {}
    shipped = [entry["member"] for entry in final.get("picks", ())]
    for key in dict.fromkeys([*shipped, *(entry["ensemble"] for entry in final.get("ensembles", ()))]):
        output.next_step("evorec", "export", run, key)


def build_rec_problem(config: RunConfig) -> RecProblem:
    """The problem of a run that trains recommenders.

    Raises:
        ConfigError: its problem is of another kind.
    """
    from evorec.config import recommender_config
    from evorec.problem import load_problem
    from evorec.recommender.problem import RecProblem

    problem = load_problem(recommender_config(config))
    if not isinstance(problem, RecProblem):
        raise ConfigError(f"problem {config.problem!r} trains no recommender, so there is nothing to ship.")
    return problem


def find_member(record: RunRecord, text: str) -> str:
    """The key of the single member that a text names.

    A pick that was finalized is the member that it chose then, on all validation users; the search saw a sample.

    Args:
        record: the run.
        text: a key, a unique prefix of a key, or a pick (`evorec.archive.decide.pick`).
    Raises:
        ConfigError: no member or several members match, and it is not a pick.
    """
    from evorec.archive.decide import choose
    from evorec.archive.ensemble import PREFIX

    if text.startswith(PREFIX):
        raise ConfigError(
            f"{text} is an ensemble, and this command is for a single member: {', '.join(_of(record, text))}"
        )
    finalized = {entry["pick"]: str(entry["member"]) for entry in (record.final or {}).get("picks", ())}
    if text in finalized:
        return finalized[text]
    members = [member.key for member in record.members]
    try:
        chosen = choose(
            [text], record.eligible, record.objectives, record.config.k, baselines=record.baselines, also=members
        )
    except ConfigError as error:
        known = ", ".join(members) or "none"
        raise ConfigError(f"{text!r} is neither a member (known: {known}) nor a pick: {error}") from None
    if len(found := set(chosen.values())) > 1:
        raise ConfigError(f"{text!r} names {len(found)} members, and this command is for a single member.")
    return found.pop()


def find_shipped(record: RunRecord, text: str) -> str:
    """The key of the member or of the ensemble that a text names.

    Args:
        record: the run.
        text: see `find_member`; or the key of an ensemble, or a unique prefix of it.
    Raises:
        ConfigError: nothing matches, or several do.
    """
    from evorec.archive.ensemble import PREFIX

    if not text.startswith(PREFIX):
        return find_member(record, text)
    found = [ensemble.key for ensemble in record.ensembles if ensemble.key.startswith(text)]
    if len(found) != 1:
        known = ", ".join(ensemble.key for ensemble in record.ensembles) or "none; `evorec ensemble` selects some"
        raise ConfigError(f"{text!r} names {len(found)} ensembles; there are: {known}.")
    return found[0]


def _of(record: RunRecord, text: str) -> list[str]:
    """Keys of the members of the ensembles that begin with a text."""
    found = (ensemble for ensemble in record.ensembles if ensemble.key.startswith(text))
    return sorted({key for ensemble in found for key in ensemble.ensemble.members}) or ["it has none of that key"]
