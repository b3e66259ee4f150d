"""The commands `promote` and `rollback`: which bundle of a folder is served."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evorec.cli.app import SHIP, command
from evorec.cli.bundles import Bundle
from evorec.cli.output import Output
from evorec.errors import ConfigError

if TYPE_CHECKING:
    from evorec.deploy.gate import Decision
    from evorec.serving.model_folder import ModelFolder

Folder = Annotated[Path, typer.Argument(metavar="MODELS", help="Folder of bundles and their champion.")]
Reason = Annotated[str, typer.Option(help="Why, for the log.")]


@command(
    panel=SHIP,
    order=56,
    examples=(
        "evorec promote bundles/knee models --reason 'first model'",
        "evorec promote bundles/knee models --against friday --guard ndcg@20",
    ),
)
def promote(
    output: Output,
    bundle: Bundle,
    models: Folder,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Finalized run on whose test the bundle must beat the champion.", show_default=False
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="METRIC", help="Metric that must improve; default recall.", show_default=False)
    ] = None,
    guard: Annotated[
        list[str] | None, typer.Option(metavar="METRIC", help="Metric that must not fall; repeatable.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Promote whatever the verdict is; needs --reason.")] = False,
    reason: Reason = "",
    keep: Annotated[int, typer.Option(min=2, help="Champions to keep, this one included; older are removed.")] = 10,
) -> None:
    """Copy a bundle into a folder of models and make it the champion, in one step for a server that follows it.

    With --against, only if it is better than the champion beyond the noise of users and seeds, and no guard falls; else
    the champion stays. Without a champion it must beat the baselines. A damaged bundle is refused.
    """
    from evorec.run.directory import RunDirectory
    from evorec.serving.model_folder import CHAMPION, ModelFolder
    from evorec.tracking.observers import track_model
    from evorec.tracking.tracker import CHAMPION as CHAMPION_ALIAS

    if force and not reason:
        raise ConfigError("--force needs --reason, which the log keeps.")
    if against is None and (target or guard):
        raise ConfigError("--target and --guard need --against RUN.")
    folder = ModelFolder(models)
    facts: dict[str, Any] = {}
    if against is not None:
        from evorec.deploy.gate import Verdict

        decision = _decision(output, folder, bundle, against, target, guard or ())
        facts = {"decision": decision.to_json(), "forced": force and decision.verdict is not Verdict.PROMOTE}
        text = f"{decision.verdict}: {'; '.join(decision.reasons)}"
        if decision.verdict is not Verdict.PROMOTE and not force:
            folder.refuse(bundle, facts)
            output.result({"champion": folder.champion, "removed": [], **facts}, text=text)
            return
        output.note(text)
    name = folder.promote(bundle, reason=reason, facts=facts)
    if against is not None:
        with RunDirectory.open(against, read_only=True) as opened:
            track_model(opened, bundle, CHAMPION_ALIAS, say=partial(output.note, style="yellow"))
    removed = folder.retain(keep)
    output.result({"champion": name, "removed": removed, **facts}, text=f"{name} is the champion of {models}")
    output.next_step("evorec", "serve", models / CHAMPION)
    output.next_step("evorec", "rollback", models)


def _decision(
    output: Output, folder: ModelFolder, bundle: Path, run: Path, target: str | None, guards: Sequence[str]
) -> Decision:
    from evorec.cli.ship import build_rec_problem
    from evorec.deploy.window import against
    from evorec.run.directory import RunDirectory
    from evorec.serving.model_folder import CHAMPION
    from evorec.serving.recommender import load_bundle

    with RunDirectory.open(run, read_only=True) as opened:
        output.note(f"reading the data of {opened.config.problem_name}")
        problem = build_rec_problem(opened.config)
        champion = None if folder.champion is None else load_bundle(folder.path / CHAMPION)
        metric = target or f"recall@{problem.config.evaluation.k}"
        return against(champion, load_bundle(bundle), opened, problem, target=metric, guards=guards)


@command(
    panel=SHIP,
    order=57,
    examples=("evorec rollback models --reason 'complaints'",),
)
def rollback(output: Output, models: Folder, reason: Reason = "") -> None:
    """Make the champion before the current one the champion again."""
    from evorec.serving.model_folder import ModelFolder

    name = ModelFolder(models).rollback(reason=reason)
    output.result({"champion": name}, text=f"{name} is the champion of {models} again")
