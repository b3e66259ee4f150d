"""The commands `promote` and `rollback`: which bundle of a folder is served."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evorec.cli.app import SHIP, command
from evorec.cli.bundles import Bundle
from evorec.cli.output import Output

Folder = Annotated[Path, typer.Argument(metavar="MODELS", help="Folder of bundles and their champion.")]
Reason = Annotated[str, typer.Option(help="Why, for the log.")]


@command(panel=SHIP, order=56)
def promote(
    output: Output,
    bundle: Bundle,
    models: Folder,
    reason: Reason = "",
    keep: Annotated[int, typer.Option(min=2, help="Champions to keep, this one included; older are removed.")] = 10,
) -> None:
    """Copy a bundle into a folder of models and make it the champion, in one step for a server that follows it.

    A bundle that is damaged is refused, and the old champion stays.
    """
    from evorec.serving.model_folder import CHAMPION, ModelFolder

    folder = ModelFolder(models)
    name = folder.promote(bundle, reason=reason)
    removed = folder.retain(keep)
    output.result({"champion": name, "removed": removed}, text=f"{name} is the champion of {models}")
    output.next_step("evorec", "serve", models / CHAMPION)
    output.next_step("evorec", "rollback", models)


@command(panel=SHIP, order=57)
def rollback(output: Output, models: Folder, reason: Reason = "") -> None:
    """Make the champion before the current one the champion again."""
    from evorec.serving.model_folder import ModelFolder

    name = ModelFolder(models).rollback(reason=reason)
    output.result({"champion": name}, text=f"{name} is the champion of {models} again")
