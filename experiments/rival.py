"""The rival of a search: one model that answers every preference, trained once, against an evolved front.

    python experiments/rival.py --problem feed --seeds 5        # 64 trainings of 200 steps
    python experiments/rival.py --problem kuairand --seeds 5    # 24 trainings of 100 steps

Both sides have the same data, batches, optimisers, validation rows and users, and the same FLOPs of training in all.

* **evolved**: NSGA-II with a surrogate, from the shipped memory (which knows neither these worlds nor KuaiRand) and
  without it (``cold``).
* **rival**: conditioned members (`preference_member`), with as many FLOPs as the more expensive of the two searches. A
  random search draws mechanism, widths, rates, weights and the like from the same space as the evolution, and the
  cosine penalty, the rank of the heads, the concentration of the preferences and the number of steps (a quarter to
  twice those of the search); the first trial is the default genome. Each trained trial is measured at 16 preferences
  and serving settings. Preferences and serving settings (weight, smoothing and half-life of popularity,
  popularity of new items, re-ranking and its weight) of the trial with the largest hypervolume are then evolved by
  NSGA-II with a surrogate: at least 80 more evaluations, which train nothing. All points of this trial are the front of
  the **one model**; its cost is that of its training. The points of all trials together are shown too.

Written down for each seed (of world and run): the hypervolume of the box on validation, the same without the objective
cost, for which the rival is chosen anew, how many different points each side has on the joint front, and how far the
preference alone moves the metrics of the one model (``span``: the range over equal losses and over K preferences that
give the other losses a fifth of their equal share, serving settings at their defaults), beside the range of the evolved
front. Seeds that the file has are not run again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import moocore
import numpy as np
import torch
import typer
from bench_search import Recorded
from bench_trainings import feasible
from pictures import panels, save
from preference_member import (
    Arrays,
    Conditioning,
    PreferencePlan,
    at_preference,
    can_be_conditioned,
    conditioned,
    train_conditioned,
    training_flops,
)
from results_file import write_results

from evorec.archive.indicators import hypervolume_share, normalised
from evorec.config import SearchConfig, load_config
from evorec.models.choice import MECHANISMS
from evorec.models.mechanism import Mechanism
from evorec.models.spec import ModelSpec
from evorec.objectives import Objective
from evorec.problem import Outcome, Problem, Spec, load_problem
from evorec.recommender.problem import RecProblem
from evorec.search.engine import search
from evorec.search.memory.library import SHIPPED
from evorec.search.memory.table import Memory
from evorec.seeds import generator
from evorec.space.genes import Simplex
from evorec.space.space import SearchSpace
from evorec.training.plan import BatchPlan

HERE = Path(__file__).parent
DESIGN = 16
"""Evaluations of each trial of the rival."""
SERVING = (
    "popularity_weight", "popularity_smoothing", "popularity_half_life", "new_item_popularity", "rerank", "rank_blend",
)  # fmt: skip
"""Genes that change nothing in training."""
LENGTHS = (0.25, 0.5, 1.0, 2.0)
"""Steps of a trial, in units of those of the search."""
TRIES = 30
"""Draws after which no trial fits the FLOPs that are left."""

Rows = list[dict[str, float]]


@dataclass(frozen=True)
class Setting:
    """A comparison.

    Attributes:
        population, generations: of the evolved search.
        config: file of the problem, or ``None`` = its defaults.
        overrides: of the configuration.
    """

    population: int
    generations: int
    config: Path | None
    overrides: tuple[str, ...]


SETTINGS = {
    "feed": Setting(16, 4, None, ()),
    "kuairand": Setting(8, 3, HERE / "kuairand.toml", ("training.steps=100", "evaluation.max_users=1000")),
}


def problem_of(name: str, seed: int) -> RecProblem:
    """The problem of a seed; a simulated world has the same seed."""
    setting = SETTINGS[name]
    own = [f"search.seed={seed}", *setting.overrides]
    if setting.config is None:
        config = load_config(problem=name, overrides=[*own, f"data.simulator.seed={seed}"])
    else:
        config = load_config(setting.config, overrides=own)
    problem = load_problem(config)
    assert isinstance(problem, RecProblem)
    return problem


def evolved(problem: RecProblem, setting: Setting, memory: Memory) -> Rows:
    """Metrics of all trainings of a search."""
    recorded = Recorded(problem)
    recorded.constraints = problem.constraints
    config = SearchConfig(population=setting.population, generations=setting.generations, seed=problem.seed)
    search(recorded, config, memory=memory, chunk=8)
    return recorded.rows


class ServedPreferences(Problem):
    """A trained conditioned member, searched over its preferences and the settings of serving.

    Args:
        problem: whose data, objectives and constraints count.
        base: the ordinary member that it was made from.
        arrays: of the conditioned member.
        flops: of its training.
    """

    def __init__(self, problem: RecProblem, base: ModelSpec, arrays: Arrays, flops: float) -> None:
        self._problem, self._base, self._arrays, self._flops = problem, base, arrays, flops
        self.name, self.seed, self.data_sha256 = "served", problem.seed, problem.data_sha256
        self.objectives, self.constraints = problem.objectives, problem.constraints
        self.space = serving_space(problem)
        self.rows: Rows = []

    def shape_key(self, spec: Spec) -> tuple[()]:
        """All points are of the same shape."""
        return ()

    def evaluate(self, specs: Sequence[Spec], *, seed: int, **_: Any) -> list[Outcome]:
        """Measures the ordinary members that the model is at these preferences."""
        problem, members = self._problem, []
        for spec in specs:
            serving = {name: spec[name] for name in SERVING if name in spec and name != "rerank"}
            serving["rank_blend"] = spec.get("rank_blend", 0.0) if spec.get("rerank") else 0.0
            found = at_preference(self._base, self._arrays, spec["preference"], problem.data.dataset, **serving)
            members.append(found)
        population = problem.data.stack(*zip(*members, strict=True))
        out = []
        for (made, _), measured in zip(members, problem.data.measure(population), strict=True):
            if isinstance(measured, Exception):
                out.append(Outcome(None, str(measured)))
                continue
            counted = problem.trainer.cost(made) | {"training_flops": self._flops}
            out.append(Outcome(measured.metrics | counted))
        self.rows += [dict(outcome.metrics or {}) for outcome in out]
        return out

    def baselines(self) -> Mapping[str, Mapping[str, float]]:
        """None: the constraints have their bounds already."""
        return {}


def serving_space(problem: RecProblem) -> SearchSpace:
    """Preferences over all losses, and the genes that change nothing in training."""
    parts = (*problem.config.tasks.ranked, "retrieval")
    genes = [gene for gene in problem.space.genes if gene.name in SERVING]
    return SearchSpace((Simplex("preference", parts, text="weight of each loss"), *genes))


def design(space: SearchSpace, seed: int) -> list[Spec]:
    """The same points for every trial: equal losses, K points at which one loss outweighs the others, random points."""
    rows = space.sample(generator(seed, "rival design"), DESIGN)
    of_preference = space.slices["preference"]
    n = of_preference.stop - of_preference.start
    rows[: n + 1] = space.default()
    rows[1 : n + 1, of_preference] = 0.2 + (n - 0.2 * n) * np.eye(n)
    return [space.decode(row) for row in space.snap(rows)]


@dataclass(frozen=True)
class Trial:
    """A trained conditioned member.

    Attributes:
        conditioning: its own settings.
        mechanism: of the member.
        served: its points, and the means to find more.
        flops: of its training.
    """

    conditioning: Conditioning
    mechanism: str
    served: ServedPreferences
    flops: float


def trials(problem: RecProblem, budget: float) -> list[Trial]:
    """Random search of the rival until its FLOPs are used up."""
    rng = generator(problem.seed, "rival")
    known = [MECHANISMS[name] for name in MECHANISMS]
    allowed = tuple(one.name for one in known if isinstance(one, Mechanism) and can_be_conditioned(one))
    overrides = {"mechanism": allowed, "balancing": "fixed", "task_weights": (1.0,) * len(problem.config.tasks.ranked)}
    space = problem.space.with_overrides(overrides, "rival")
    points, steps = design(serving_space(problem), problem.seed), problem.config.training.steps
    base_plan = problem.trainer.with_steps(round(max(LENGTHS) * steps)).plan
    out: list[Trial] = []
    left, tries = budget, 0
    while tries < TRIES:
        genes = space.default() if not out else space.snap(space.sample(rng, 1))[0]
        conditioning = Conditioning(
            penalty=float(rng.choice([0.0, 10 ** rng.uniform(-2, 1)])) if out else 0.1,
            rank=int(rng.choice([1, 2, 4])) if out else 2,
            concentration=float(rng.choice([0.3, 1.0, 3.0])) if out else 1.0,
            steps=round(steps * (float(rng.choice(LENGTHS)) if out else 1.0)),
        )
        trial = trained(problem, ModelSpec.from_genes(space.decode(genes)), conditioning, base_plan, left)
        tries += 1
        if trial is not None:
            trial.served.evaluate(points, seed=problem.seed)
            out.append(trial)
            left, tries = left - trial.flops, 0
    return out


def trained(
    problem: RecProblem, base: ModelSpec, conditioning: Conditioning, base_plan: BatchPlan, left: float
) -> Trial | None:
    """A trained member, or ``None`` where its training would cost more FLOPs than are left."""
    trainer = problem.trainer
    plan = PreferencePlan(
        base_plan,
        trainer.data.tensors,
        steps=conditioning.steps,
        concentration=conditioning.concentration,
        seed=trainer.seed,
    )
    with conditioned(base, conditioning) as spec:
        flops = training_flops(trainer, spec, plan)
        if flops > left:
            return None
        arrays = train_conditioned(trainer, [spec], plan).population.member_arrays(0)
    return Trial(conditioning, base.mechanism, ServedPreferences(problem, base, arrays, flops), flops)


def more_points(trial: Trial, seed: int) -> None:
    """Evolves preferences and serving settings of a trial by 80 evaluations."""
    search(
        trial.served,
        SearchConfig(population=16, generations=5, seed=seed, memory="none"),
        memory=Memory.empty(),
        chunk=8,
    )


def without_cost(objectives: Sequence[Objective]) -> list[Objective]:
    """The objectives other than the cost of training."""
    return [objective for objective in objectives if objective.name != "cost"]


def front(rows: Rows, objectives: Sequence[Objective]) -> Rows:
    """The different non-dominated rows."""
    return joint_front([rows], objectives)[0]


def joint_front(sides: Sequence[Rows], objectives: Sequence[Objective]) -> list[Rows]:
    """Of each side the different rows that no row of any side dominates."""
    rows = [row for side in sides for row in side]
    if not rows:
        return [[] for _ in sides]
    kept = moocore.is_nondominated(normalised(rows, objectives), keep_weakly=False)
    bounds = np.cumsum([0, *map(len, sides)])
    return [
        [row for row, keep in zip(side, kept[first:], strict=False) if keep]
        for side, first in zip(sides, bounds, strict=False)
    ]


def compared(name: str, seed: int, memory: Memory) -> dict[str, Any]:
    """Both sides for a seed."""
    problem, setting = problem_of(name, seed), SETTINGS[name]
    assert problem.data_sha256 not in set(memory.frame["data_sha256"]), "the memory knows these data"
    objectives, seconds = problem.objectives, {}
    sides: dict[str, Rows] = {}
    for side, rows in (("evolved", memory), ("evolved, cold", Memory.empty())):
        start = time.process_time()
        sides[side] = evolved(problem, setting, rows)
        seconds[side] = time.process_time() - start
        print(f"{name} {seed} {side}: {seconds[side]:.0f} s", flush=True)
    flops = {side: sum(row.get("training_flops", 0.0) for row in rows) for side, rows in sides.items()}
    start = time.process_time()
    tried = trials(problem, max(flops.values()))
    seconds["rival"] = time.process_time() - start
    print(f"{name} {seed} rival: {len(tried)} trials, {seconds['rival']:.0f} s", flush=True)
    chosen = {}
    for what, goals in (("rival, one model", objectives), ("no cost", without_cost(objectives))):
        chosen[what] = max(tried, key=lambda one: hypervolume_share(feasible(problem, one.served.rows), goals))
    for one in {id(trial): trial for trial in chosen.values()}.values():
        more_points(one, seed)
    best = chosen["rival, one model"]
    sides["rival, one model"] = best.served.rows
    sides["rival, all models"] = [row for trial in tried for row in trial.served.rows]
    flops |= dict.fromkeys(("rival, one model", "rival, all models"), sum(trial.flops for trial in tried))
    kept = {side: feasible(problem, rows) for side, rows in sides.items()}
    of_cost_free = kept | {"rival, one model": feasible(problem, chosen["no cost"].served.rows)}
    out: dict[str, Any] = {"seed": seed, "sides": {}}
    for side, rows in kept.items():
        other = "evolved" if side.startswith("rival") else "rival, one model"
        goals = without_cost(objectives)
        out["sides"][side] = {
            "hypervolume": hypervolume_share(rows, objectives),
            "hypervolume_without_cost": hypervolume_share(of_cost_free[side], goals),
            "points": len(front(rows, objectives)),
            "on_joint_front": len(joint_front([rows, kept[other]], objectives)[0]),
            "on_joint_front_without_cost": len(joint_front([of_cost_free[side], of_cost_free[other]], goals)[0]),
            "evaluations": len(sides[side]),
            "trainings": len(tried) if side.startswith("rival") else len(sides[side]),
            "training_flops": flops[side],
            "front": [{one.metric: row[one.metric] for one in objectives} for row in front(rows, objectives)],
        }
    model = best.conditioning
    out["model"] = {
        "mechanism": best.mechanism, "penalty": model.penalty, "rank": model.rank, "steps": model.steps,
        "concentration": model.concentration, "training_flops": best.flops,
    }  # fmt: skip
    corners = [row for row in best.served.rows[: len(problem.config.tasks.ranked) + 2] if row]
    for side, rows in (("span", corners), ("range_of_front", front(kept["evolved"], objectives))):
        out[side] = {one.metric: float(np.ptp([row[one.metric] for row in rows])) for one in without_cost(objectives)}
    out["cpu_s"] = seconds
    return out


def picture(results: Mapping[str, Sequence[Mapping[str, Any]]], problems: Mapping[str, list[str]], path: Path) -> None:
    """Both fronts of the first seed of each problem: accuracy and recall, and recall and the third objective."""
    shown = [name for name in problems if results.get(name)]
    figure, axes = panels(2 * len(shown), width=3.4, height=3.0)
    styles = {"evolved": ("o", "tab:blue"), "rival, one model": ("x", "tab:red")}
    for at, name in enumerate(shown):
        accuracy, recall, third = problems[name][:3]
        for axis, (across, up) in zip(axes[2 * at :], ((accuracy, recall), (third, recall)), strict=False):
            for side, (marker, colour) in styles.items():
                rows = results[name][0]["sides"][side]["front"]
                axis.scatter(
                    [row[across] for row in rows], [row[up] for row in rows], s=14, marker=marker, c=colour, label=side
                )
            axis.set_xlabel(across)
            axis.set_ylabel(up)
            axis.set_title(name, fontsize=9)
        axes[2 * at].legend(fontsize=7)
    save(figure, path)


def main(
    problem: Annotated[str, typer.Option(help=f"of {', '.join(SETTINGS)}")] = "feed",
    seeds: int = 5,
    out: Path = HERE / "results" / "rival.json",
) -> None:
    """Compare both sides on seeds 0, 1, ..., write each as it is done, print the medians and draw the fronts."""
    torch.set_num_threads(1)
    results: dict[str, Any] = json.loads(out.read_text()) if out.is_file() else {}
    memory, known = Memory.read(SHIPPED), results.setdefault(problem, [])
    for seed in range(seeds):
        if seed not in {one["seed"] for one in known}:
            found = compared(problem, seed, memory)
            if seed:  # the fronts of the first seed are enough for the picture
                for side in found["sides"].values():
                    del side["front"]
            known.append(found)
            known.sort(key=lambda one: one["seed"])
            write_results(out, results)
    for side in known[0]["sides"]:
        parts = []
        for figure in ("hypervolume", "hypervolume_without_cost", "points", "on_joint_front", "trainings"):
            low, middle, high = np.percentile([one["sides"][side][figure] for one in known], [25, 50, 75])
            parts.append(f"{figure} {middle:.4g} ({low:.4g}..{high:.4g})")
        print(f"{problem} {side:18s}", "  ".join(parts))
    names = {name: list(runs[0]["sides"]["evolved"]["front"][0]) for name, runs in results.items()}
    picture(results, names, out.with_suffix(".svg"))


if __name__ == "__main__":
    typer.run(main)
