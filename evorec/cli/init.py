"""The command init: a configuration from files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evorec.cli.app import DEFINE, command
from evorec.cli.output import Output, fact_table
from evorec.errors import ConfigError


@command(
    panel=DEFINE,
    order=5,
    examples=(
        "evorec init ~/my-shop",
        "evorec init ~/my-shop --out shop.toml",
    ),
)
def init(
    output: Output,
    files: Annotated[
        list[Path],
        typer.Argument(help="Files of the log and of tables of users and items, or their folder.", show_default=False),
    ],
    out: Annotated[
        Path | None, typer.Option(help="File to write; default: the name of the file or folder.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", metavar="", help="Replace the file.")] = False,
    user: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of the user's id.")] = None,
    item: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of the item's id.")] = None,
    time: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of the time.")] = None,
    event: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column with kinds of events.")] = None,
) -> None:
    """Write a configuration for the files of a log: columns, labels, features, split and tasks are guessed.

    The file has a comment for each guess and each alternative; it can be searched with as it is.
    """
    from evorec.data.guess.draft import draft
    from evorec.run.atomic import write_atomic

    target = out or Path(f"{_stem(files)}.toml")
    if target.is_dir():
        raise ConfigError(f"--out must be a file, and {target} is a folder; e.g. --out {target / 'my.toml'}")
    if target.exists() and not force:
        raise ConfigError(f"{target} exists already; give another --out, or --force to replace it.")
    roles = {"user": user, "item": item, "time": time, "event": event}
    found = draft(files, {role: name for role, name in roles.items() if name is not None}, out=target)  # type: ignore[misc]
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, found.text.encode())
    for remark in found.remarks:
        output.note(f"check: {remark}", style="yellow")
    value = {"config": str(target), "roles": dict(found.roles), "remarks": list(found.remarks)}
    output.result(value, fact_table(f"{target} describes", found.roles))
    for words in (("data", "describe"), ("validate",), ("search",)):
        output.next_step("evorec", *words, target)


def _stem(files: list[Path]) -> str:
    """Name of the only file without its endings, or of the folder of the files."""
    if len(files) == 1 and not files[0].is_dir():
        return files[0].name.partition(".")[0] or "my"
    folder = files[0] if files[0].is_dir() else files[0].parent
    return folder.resolve().name or "my"
