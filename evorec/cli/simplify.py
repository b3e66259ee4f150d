"""The command `simplify`: the simplest genome within the noise of a member."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evorec.cli.app import SHIP, Member, Overrides, Run, check_file, command
from evorec.cli.output import Output
from evorec.cli.ship import find_member
from evorec.report.table import Column, Table, show

if TYPE_CHECKING:
    from evorec.config import RunConfig
    from evorec.objectives import Objective
    from evorec.search.simplify import SimplerGenome


@command(
    panel=SHIP,
    order=25,
    examples=("evorec simplify runs/feed-0123456789ab knee --out simple.toml",),
)
def simplify(
    output: Output,
    run: Run,
    member: Member,
    seeds: Annotated[
        int, typer.Option(min=2, max=100, help="Fresh seeds for the noise and the choice; as many compare the result.")
    ] = 5,
    out: Annotated[
        Path | None,
        typer.Option(
            help="TOML file to write, in which every gene is fixed; `evorec search` trains it.", show_default=False
        ),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Set the genes of a member back to their defaults while no objective falls beyond its seed noise.

    Noise is one standard deviation of the member over fresh seeds. The run is only read; of the settings, run.* can be
    changed.
    """
    from evorec.config import reset_config
    from evorec.outputs import write_output
    from evorec.problem import load_problem
    from evorec.report.record import read_record
    from evorec.search.executor_choice import executor_for
    from evorec.search.simplify import simplify as run_simplify

    if out is not None:
        check_file("--out", out, "simple.toml")
    record = read_record(run)
    key = find_member(record, member)
    config = reset_config(record.config, overrides or [], sections=("run",))
    output.note(f"problem {config.problem_name}: reading the data")
    problem = load_problem(config)
    spec = next(member.spec for member in record.members if member.key == key)
    executor = executor_for(config.run, device=problem.device_type)
    found = run_simplify(problem, spec, n_seeds=seeds, executor=executor, chunk=config.run.chunk, progress=output.note)
    value: dict[str, Any] = {"member": key, "seeds": seeds, **asdict(found)}
    if out is not None:
        write_output(out, fixed_config(record.config, found.spec, record.objectives).encode())
        value["config"] = str(out)
    output.result(value, *_tables(key, found), text=_verdict(found, seeds))
    if out is not None:
        output.next_step("evorec", "search", out)


def _tables(key: str, found: SimplerGenome) -> list[Table]:
    def spread(values: tuple[float, float]) -> str:
        return "{:.4g} ± {:.2g}".format(*values)

    resets = [(reset.gene, show(reset.was), show(reset.now)) for reset in found.resets]
    means = [
        (one.objective, spread(one.before), spread(one.after), f"{one.noise:.2g}", "yes" if one.within else "no")
        for one in found.comparisons
    ]
    title = f"\nMean ± standard deviation over other seeds; {found.n_trainings} trainings in all"
    tables = [
        Table.of(f"Genes of {key} set back", ("gene", "was", "now"), resets),
        Table.of(title, ("objective", "member", "simplest", "noise", Column("within", title="within noise")), means),
    ]
    return tables if resets else tables[1:]


def _verdict(found: SimplerGenome, n_seeds: int) -> str:
    outside = [one.objective for one in found.comparisons if not one.within]
    text = f"{len(found.resets)} genes changed, {len(found.left)} still differ from their defaults"
    text += f": {', '.join(found.left)}. " if found.left else ". "
    if outside:
        return f"{text}With {n_seeds} other seeds {', '.join(outside)} fell beyond the noise: chance chose the resets."
    return f"{text}No objective fell beyond the noise with {n_seeds} other seeds."


def fixed_config(config: RunConfig, spec: Mapping[str, Any], objectives: Sequence[Objective]) -> str:
    """A configuration in TOML whose search trains a single genome.

    Args:
        config: of the run.
        spec: decoded genome.
        objectives: of the run; their box is kept, because a cost has no range in a space of a single genome.
    """
    from evorec.config import RecommenderConfig
    from evorec.config.listing import as_toml, toml_key

    settings = config.model_dump(exclude_none=True)
    settings["space"] |= spec
    if isinstance(config, RecommenderConfig):
        settings["box"] = {axis.metric: {"ideal": axis.ideal, "worst": axis.worst} for axis in objectives}
    settings["search"] |= {
        "algorithm": "nsga2", "options": {}, "weights": (), "surrogate": "none", "memory": "none", "population": 4,
        "generations": 1, "evaluations": 0, "flops": 0.0, "gain": 0.0, "minutes": 0.0,
    }  # fmt: skip
    plain = {name: value for name, value in settings.items() if not isinstance(value, Mapping)}
    lines = [f"{toml_key(name)} = {as_toml(value)}" for name, value in plain.items()]
    for name, section in settings.items():
        if name not in plain and section:
            lines += ["", f"[{toml_key(name)}]"]
            lines += [f"{toml_key(key)} = {as_toml(value)}" for key, value in section.items()]
    return "\n".join(lines) + "\n"
