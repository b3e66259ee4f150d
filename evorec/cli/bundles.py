"""Commands around bundles: export and recommend."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evorec.cli.app import SHIP, Member, Run, command
from evorec.cli.output import Output
from evorec.cli.ship import ShippedData, build_rec_problem, find_shipped
from evorec.errors import ConfigError

if TYPE_CHECKING:
    from evorec.data.ids import Id
    from evorec.deploy.bundle.export import ExportOptions
    from evorec.run.directory import RunDirectory
    from evorec.serving.queries import ListOptions, User
    from evorec.serving.recommender import Recommender

Bundle = Annotated[Path, typer.Argument(help="Bundle, as `evorec export` wrote it.", show_default=False)]


@command(
    panel=SHIP,
    order=40,
    examples=(
        "evorec export runs/feed-0123456789ab knee --out bundles/knee",
        "evorec export runs/feed-0123456789ab best:recall --variant int8 --show title",
    ),
)
def export(
    output: Output,
    run: Run,
    member: Member,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; default bundles/MEMBER.", show_default=False)
    ] = None,
    formula: Annotated[
        str | None,
        typer.Option(
            help="List score instead of the member's own: an id of `evorec fuse`, knee, best:METRIC, or a formula such "
            "as 'retrieval + p_click**0.5'.",
            show_default=False,
        ),
    ] = None,
    mmr: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Weight of re-ranking for diversity; default that of the formula, or 0."),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Further graph for small devices, fp16 or int8; repeatable."),
    ] = None,
    max_loss: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the listed items that a variant may change.")
    ] = 0.02,
    show: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN", help="Column of the items table that lists can show, such as a title; repeatable."
        ),
    ] = None,
    on: Annotated[
        ShippedData,
        typer.Option(
            help="Model to export: test = trained without the test if finalized; all-data = trained on all rows."
        ),
    ] = ShippedData.TEST,
    triton: Annotated[
        Path | None, typer.Option(help="Also write a Triton model repository to this folder.", show_default=False)
    ] = None,
) -> None:
    """Write the bundle of one member or one ensemble: weights, ONNX graphs, ids, encoders, metrics and a model card.

    The bundle is written only if its lists agree with those of the trained member.
    """
    from evorec.deploy.bundle.export import export_bundle
    from evorec.deploy.bundle.triton import write_triton
    from evorec.report.record import read_record
    from evorec.run.directory import RunDirectory
    from evorec.tracking.observers import track_model
    from evorec.tracking.tracker import CHALLENGER

    key = find_shipped(read_record(run), member)
    target = out or Path("bundles") / key
    with RunDirectory.open(run, read_only=True) as opened:
        output.note(f"reading the data of {opened.config.problem_name}", level=1)
        options = replace(
            _options(opened, key, formula, mmr, tuple(variant or ()), max_loss),
            show=tuple(dict.fromkeys(show or ())),
            all_data=on is ShippedData.ALL_DATA,
        )
        problem = build_rec_problem(opened.config)
        export_bundle(opened, problem, key, target, options=options, progress=output.note)
        track_model(opened, target, CHALLENGER, say=partial(output.note, style="yellow"))
    if triton is not None:
        write_triton(target, triton)
    output.result({"member": key, "bundle": str(target)}, text=str(target))
    if problem.data.dataset.has_items:
        output.next_step("evorec", "recommend", target, "--user", problem.data.dataset.user_ids[0])
    else:
        output.next_step("evorec", "score", target, "--rows", "ROWS.csv", "--out", "scores.csv")
    output.next_step("evorec", "serve", target)


def _options(
    run: RunDirectory, member: str, formula: str | None, mmr: float | None, variants: tuple[str, ...], max_loss: float
) -> ExportOptions:
    from evorec.config import recommender_config
    from evorec.deploy.bundle.export import ExportOptions
    from evorec.deploy.fusion.formula import Formula, variable_names
    from evorec.deploy.fusion.pick import pick_formula

    tasks = recommender_config(run.config).tasks.ranked
    chosen, weight, source = None, 0.0, ""
    if formula is not None and any(name in formula for name in variable_names(tasks)):
        chosen, source = Formula.parse(formula, tasks), "given by hand"
    elif formula is not None:
        chosen, weight = pick_formula(run, member, formula, tasks)
        source = f"evolved on validation, {formula} of member {member}"
    return ExportOptions(
        formula=chosen,
        mmr=weight if mmr is None else mmr,
        formula_source=source,
        variants=variants,
        largest_loss=max_loss,
    )


@command(
    panel=SHIP,
    order=50,
    examples=(
        "evorec recommend bundles/knee --user 17 -k 5",
        "evorec recommend bundles/knee --liked 41 --liked 7 --where genre=drama",
        "evorec recommend bundles/knee --users users.csv --out lists.parquet",
    ),
)
def recommend(
    output: Output,
    bundle: Bundle,
    user: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="User to recommend to; repeatable.", show_default=False)
    ] = None,
    liked: Annotated[
        list[str] | None, typer.Option(metavar="ITEM", help="Item that a new user liked, latest first; repeatable.")
    ] = None,
    feature: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Feature of a user or of the context; repeatable.")
    ] = None,
    k: Annotated[
        int | None, typer.Option("--k", "-k", min=1, help="Length of each list; default that of the evaluation.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Required feature of listed items; repeated values are combined with OR."
        ),
    ] = None,
    items: Annotated[
        list[str] | None, typer.Option(metavar="ITEM", help="Item to choose from; repeatable; default all.")
    ] = None,
    seen: Annotated[bool, typer.Option("--seen", metavar="", help="Also list items of the user's history.")] = False,
    mmr: Annotated[
        float | None, typer.Option(min=0, max=1, help="Weight of re-ranking for diversity; default that of the bundle.")
    ] = None,
    show: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Column of the items, as exported with --show; repeatable."),
    ] = None,
    users: Annotated[
        Path | None,
        typer.Option(
            help="CSV, TSV, JSON lines or Parquet with a column user (or liked), for many users; needs --out.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help=".parquet, .csv, .tsv or .jsonl to write for --users.", show_default=False)
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Parallel calls for --users.")] = 2,
) -> None:
    """Recommend items from a bundle: to known users, to new users by their liked items, or to a table of users."""
    from evorec.serving.queries import ListOptions, User
    from evorec.serving.recommender import load_bundle

    if users is not None and (user or liked or feature):
        raise ConfigError("--users reads its table only; leave --user, --liked and --feature out.")
    if (users is None) != (out is None):
        raise ConfigError("--users and --out go together.")
    if users is None and not (user or liked or feature):
        raise ConfigError(
            "recommend needs --user ID, --liked ITEM or --feature NAME=VALUE, or --users FILE --out FILE."
        )
    recommender = load_bundle(bundle, threads=threads)
    options = ListOptions(k=k, seen=seen, where=pairs(where or []), only=items or None, mmr=mmr)
    shown = tuple(dict.fromkeys(show or ()))
    if users is not None and out is not None:
        _note_unknown(output, recommender, [User()], options)
        _recommend_table(output, recommender, users, out, options, shown)
        return
    of_user: dict[str, Any] = {}
    of_context: dict[str, Any] = {}
    for name, values in pairs(feature or []).items():
        if name not in recommender.user_features | recommender.context_features:
            known = ", ".join(sorted(recommender.user_features | recommender.context_features)) or "none"
            raise ConfigError(f"--feature {name}: the model has no such feature of users or context; it has {known}.")
        value = values if len(values) > 1 else values[0]
        (of_user if name in recommender.user_features else of_context)[name] = value
    names: dict[str, str | None] = {name: name for name in user or ()} or {"new": None}
    for name in user or ():
        if not recommender.knows(name):
            output.note(f"user {name} is not in the training data; only the given description is used", style="yellow")
    described = [User(id_, tuple(liked or ()), of_user, of_context) for id_ in names.values()]
    _note_unknown(output, recommender, described, options)
    best = dict(zip(names, recommender.recommend(described, **vars(options)), strict=True))
    _show_lists(output, recommender, best, options, shown)


def _note_unknown(output: Output, recommender: Recommender, users: list[User], options: ListOptions) -> None:
    """Name the given items and values that the model does not know, which lists ignore."""
    for what, values in recommender.unknown(users, options).items():
        field, _, feature = what.partition(".")
        option = {"liked": "--liked", "only": "--items", "where": f"--where {feature}"}[field]
        names = ", ".join(map(repr, values))
        kind = "no item has the value" if feature else "the catalogue has no item"
        output.note(f"{option}: {kind} {names}", style="yellow")


def _show_lists(
    output: Output,
    recommender: Recommender,
    best: dict[str, list[tuple[Id, float]]],
    options: ListOptions,
    shown: Sequence[str],
) -> None:
    """Lists as tables; a sentence instead of an empty table."""
    from evorec.data.ids import json_id
    from evorec.report.table import Column, Row, Table

    value: dict[str, list[dict[str, Any]]] = {}
    tables = []
    for name, pairs in best.items():
        more = recommender.show([item for item, _ in pairs], shown)
        value[name] = [
            {"item": json_id(item), "score": score, **({"shown": own} if shown else {})}
            for (item, score), own in zip(pairs, more, strict=True)
        ]
        columns = (Column("item"), Column("score"), *(Column(column, title=column) for column in shown))
        rows = [
            Row(str(rank), (*pair, *(_cell(own[column]) for column in shown)))
            for rank, (pair, own) in enumerate(zip(pairs, more, strict=True), start=1)
        ]
        if pairs:
            tables.append(Table(f"User {name}", "rank", columns, tuple(rows)))
        elif options.where or options.only is not None:
            output.note(f"user {name}: no item that --where and --items allow is left", style="yellow")
        else:
            output.note(f"user {name} has met all {recommender.n_items} items; --seen lists them", style="yellow")
    output.result(value, *tables)


def _cell(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _recommend_table(
    output: Output, recommender: Recommender, users: Path, out: Path, options: ListOptions, shown: Sequence[str]
) -> None:
    from evorec.serving.batch import LIKED, USER, recommend_table

    start = time.perf_counter()
    counts = recommend_table(
        recommender, users, out, options, show=shown, progress=lambda done: output.note(f"{done:,} users", level=1)
    )
    seconds = time.perf_counter() - start
    for n_unknown, n, what, where in (
        (counts.unknown, counts.users - counts.without_id, USER, "in the training data"),
        (counts.liked_unknown, counts.liked, LIKED, "in the catalogue"),
    ):
        kind = "users" if what == USER else "liked items"
        names = ", ".join(map(repr, counts.examples[what]))
        if n_unknown and n_unknown == n:
            output.note(
                f"warning: none of the {n:,} {kind} is {where} (the first are {names}): column {what} of {users} must "
                "have the ids of the log",
                style="bold red",
            )
        elif n_unknown:
            output.note(f"{n_unknown:,} of {n:,} {kind} are not {where} (the first are {names})", style="yellow")
    if counts.without_id:
        output.note(f"{counts.without_id:,} of {counts.users:,} users have no id; they are new users", style="yellow")
    if counts.empty:
        hint = "" if options.seen else "; --seen lists items that they met"
        output.note(f"{counts.empty:,} of {counts.users:,} users have no item left to list{hint}", style="yellow")
    output.note(f"{counts.users:,} lists in {seconds:.1f} s, {counts.users / seconds:,.0f} per second")
    value = {
        "lists": counts.users, "unknown_users": counts.unknown, "users_without_id": counts.without_id,
        "unknown_liked": counts.liked_unknown, "empty_lists": counts.empty, "out": str(out),
    }  # fmt: skip
    output.result(value, text=str(out))


def pairs(texts: list[str]) -> dict[str, list[Any]]:
    """``NAME=VALUE`` texts as values by name."""
    out: dict[str, list[Any]] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise ConfigError(f"expected NAME=VALUE, got {text!r}.")
        out.setdefault(name, []).append(value)
    return out
