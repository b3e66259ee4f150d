"""How much of a front is luck: members claimed with one seed, chosen again by means over more, judged by fresh seeds.

A search claims a front with one training per genome. `evorec.confirm` trains its members with six fresh seeds. The last
four judge: a member of a front holds if no member of the claimed front dominates it in the means over these seeds and
it keeps the constraints. Three fronts are judged: as claimed; of the means over the first two fresh seeds (what
`evorec confirm` and `finalize` use); and of the means over these two and the claimed value. No judging seed chose
anything. Validation only; test rows are not read.

    python experiments/confirm.py feed --seeds 3                           # problem seeds 0..2, default search
    EVOREC_DATA=data python experiments/confirm.py experiments/kuairand.toml --seeds 3 \\
        --set training.steps=100 --set search.population=16 --set search.generations=4

Searches and trainings are kept in runs/confirm, so a call that was interrupted continues. Writes
experiments/results/confirm.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from results_file import write_results

from evorec.archive.confirmed import ConfirmedFront, confirmed_front
from evorec.archive.indicators import hypervolume_share
from evorec.config import load_config
from evorec.objectives import Metrics
from evorec.problem import Problem, load_problem
from evorec.run.directory import RunDirectory, run_path
from evorec.search.confirm import confirm
from evorec.search.engine import search
from evorec.search.executor_choice import executor_for

HERE = Path(__file__).parent
CHOOSE, JUDGE = 2, 4
"""Fresh seeds that choose the members of a front, and that judge them."""
FIGURES = ("members", "share", "claimed", "judged")


def main() -> None:
    """Search, confirm and summarise each world."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("problem", help="name of a problem, or a TOML file")
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments.add_argument("--runs", type=Path, default=Path("runs/confirm"))
    arguments.add_argument("--out", type=Path, default=HERE / "results" / "confirm.json")
    options = arguments.parse_args()
    name = Path(options.problem).stem
    found = []
    for seed in range(options.seeds):
        found.append(of_world(options.problem, seed, options.set, options.runs / f"{name}-{seed}"))
        results = json.loads(options.out.read_text()) if options.out.is_file() else {}
        results[name] = {"settings": options.set, "worlds": found}
        write_results(options.out, results)
        print(json.dumps(found[-1]), flush=True)
    for kind in found[0]["fronts"]:
        figures = {figure: [world["fronts"][kind][figure] for world in found] for figure in FIGURES}
        shown = (f"{key} {median(v):.3f} [{min(v):.3f}, {max(v):.3f}]" for key, v in figures.items())
        print(f"{kind}: {', '.join(shown)}")


def of_world(problem_name: str, seed: int, overrides: Sequence[str], root: Path) -> dict[str, Any]:
    """Figures of a search and of its fronts; a search of another world leaves it no memory.

    Args:
        problem_name: or a TOML file.
        seed: of the run, and of the world if it is simulated.
        overrides: of the configuration.
        root: of its run.
    """
    is_file = problem_name.endswith(".toml")
    own = [*overrides, f"search.seed={seed}", *([] if is_file else [f"data.simulator.seed={seed}"])]
    config = load_config(
        Path(problem_name) if is_file else None, problem=None if is_file else problem_name, overrides=own
    )
    problem = load_problem(config)
    config = getattr(problem, "config", config).sized("cpu")
    fingerprint, executor = config.fingerprint(problem.data_sha256), executor_for(config.run, device="cpu")
    path = run_path(root, config, fingerprint)
    environment = problem.environment
    run = (
        RunDirectory.open(path)
        if RunDirectory.exists(path)
        else RunDirectory.create(root, config=config, fingerprint=fingerprint, environment=environment)
    )
    with run:
        if not run.finished:
            search(problem, config.search, run=run, executor=executor, chunk=config.run.chunk)
        confirm(run, problem, seeds=CHOOSE + JUDGE, executor=executor, chunk=config.run.chunk, progress=print)
        members = {member.key: member.metrics or {} for member in run.members()}
        evaluations = run.ledger.evaluations()
        fresh = {key: run.fresh()[key] for key in members}
    trained = [e for e in evaluations if e.metrics is not None]
    return {"seed": seed, "evaluations": len(trained), "fronts": fronts(members, fresh, problem)}


def fronts(
    claimed: Mapping[str, Metrics], fresh: Mapping[str, Sequence[Metrics | str]], problem: Problem
) -> dict[str, dict[str, float]]:
    """Number of members, share that holds, claimed and judged hypervolume of each front."""
    objectives, constraints = problem.objectives, problem.constraints

    def front_of(rows: Mapping[str, Sequence[Metrics | str]]) -> ConfirmedFront:
        found = confirmed_front(claimed, rows, objectives, constraints)
        assert found is not None
        return found

    judge = front_of({key: runs[CHOOSE:] for key, runs in fresh.items()})
    two = front_of({key: runs[:CHOOSE] for key, runs in fresh.items()})
    three = front_of({key: [claimed[key], *runs[:CHOOSE]] for key, runs in fresh.items()})
    chosen = {"claimed": dict(claimed), "two fresh": two.front, "claimed and two fresh": three.front}
    out = {}
    for kind, front in chosen.items():
        holds = [key for key in front if key in judge.front]
        feasible = [judge.members[key] for key in front]
        means = [member.means for member in feasible if member.standing in ("member", "dominated")]
        out[kind] = {
            "members": len(front),
            "share": len(holds) / len(front) if front else 0.0,
            "claimed": hypervolume_share([*front.values()], objectives),
            "judged": hypervolume_share(means, objectives),
        }
    return out


if __name__ == "__main__":
    main()
