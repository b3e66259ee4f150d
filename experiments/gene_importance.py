"""Which genes matter in the shipped memory, across its data sets: the tables of docs/what-matters.md.

    python experiments/gene_importance.py
    python experiments/gene_importance.py --chance   # skills of values without any relation, for the thresholds

The text of the page is written by hand; the script replaces the tables between the marks ``<!-- table: NAME -->`` and
``<!-- end -->``, and writes all shares to results/gene_importance.json. Everything is determined by the memory.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from results_file import write_results

from evorec.objectives import Objective
from evorec.report.gene_tables import front_notes
from evorec.search.front_rules import front_rules
from evorec.search.gene_importance import GeneImportance, gene_importance
from evorec.search.memory.genes import USUAL, memory_genes
from evorec.search.memory.library import SHIPPED
from evorec.search.memory.table import Memory

PAGE = Path(__file__).parents[1] / "docs/what-matters.md"
NAMES = {
    "accuracy": "accuracy", "recall@k": "recall@20", "intra_list_distance@k": "diversity",
    "catalogue_coverage@k": "coverage@20", "training_flops": "cost",
}  # fmt: skip
LEAST, LEAST_OF_PROBLEM = 0.05, 0.15
"""A table has the genes with so large a share in all problems together, or in a single problem."""
FRONT = ("accuracy", "recall@k", "catalogue_coverage@k", "training_flops")
"""Objectives of the fronts; with diversity, too, five of six genomes are on the front of their search."""


def main() -> None:
    """Analyse the memory, all problems and each world; rewrite the tables of the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", type=Path, default=SHIPPED)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--chance", action="store_true", help="print the skill on random values instead")
    arguments = parser.parse_args()
    memory = Memory.read(arguments.memory)
    if arguments.chance:
        print_chance(memory)
        return
    importance, _ = memory_genes(memory, USUAL)
    _, front = memory_genes(memory, FRONT)
    whole = by_metric(importance)
    unseen_problem = by_metric(memory_genes(Memory(memory.frame.with_columns(world=pl.col("problem"))), USUAL)[0])
    problems, worlds = (parts(memory, column) for column in ("problem", "world"))
    tables = {"skill": skill_table(whole, unseen_problem, problems, worlds)}
    tables["front"] = "\n".join(f"* {text.rstrip('.')}." for text in front_notes(front))
    tables |= {NAMES[metric]: share_table(metric, whole[metric], problems, worlds) for metric in USUAL}
    text = arguments.page.read_text(encoding="utf-8")
    for name, table in tables.items():
        mark = f"<!-- table: {name} -->"
        assert mark in text, f"{arguments.page} has no {mark}"
        text = re.sub(f"{mark}.*?<!-- end -->", f"{mark}\n{table}\n<!-- end -->", text, flags=re.DOTALL)
    arguments.page.write_text(text, encoding="utf-8")
    print(*(f"{name}\n{table}\n" for name, table in tables.items()), sep="\n")
    write_results(
        Path(__file__).parent / "results/gene_importance.json",
        {
            "rows": len(memory), "worlds": len(worlds), "front_skill": front.skill,
            "skill_on_unseen_worlds": {NAMES[metric]: found.skill for metric, found in whole.items()},
            "skill_on_unseen_problems": {NAMES[metric]: found.skill for metric, found in unseen_problem.items()},
            "all": {NAMES[metric]: large(found) for metric, found in whole.items()},
            "by_problem": {
                name: {NAMES[metric]: {"skill": found.skill, **large(found)} for metric, found in own.items()}
                for name, own in problems.items()
            },
        },
    )  # fmt: skip


def print_chance(memory: Memory, n: int = 200) -> None:
    """Skill of both analyses on 64 genomes of a search whose values, or whose front, are random."""
    specs, rng = [json.loads(text) for text in memory.frame["spec"][:64]], np.random.default_rng(0)
    objective = Objective("value", "value", "max", "", ideal=3.0, worst=-3.0)
    chance: dict[str, list[float]] = {"rank correlation": [], "balanced accuracy": []}
    for seed in range(n):
        (found,) = gene_importance(specs, [{"value": value} for value in rng.normal(size=64)], [objective], seed=seed)
        chance["rank correlation"].append(found.skill or 0.0)
        rules = front_rules(specs, (rng.permutation(64) < 26).tolist(), seed=seed)
        chance["balanced accuracy"].append(rules.skill or 0.0)
    for name, skills in chance.items():
        print(f"{name} by chance, 50th, 95th, 99th percentile and maximum:", np.quantile(skills, (0.5, 0.95, 0.99, 1)))


def parts(memory: Memory, column: str) -> dict[str, dict[str, GeneImportance]]:
    """Importance in each problem, or each world, by metric."""
    groups = memory.frame.group_by(column, maintain_order=True)
    return {str(name): by_metric(memory_genes(Memory(frame), USUAL)[0]) for (name,), frame in groups}


def by_metric(found: Sequence[GeneImportance]) -> dict[str, GeneImportance]:
    """Importance by the metric of the memory."""
    return {own.objective: own for own in found}


def large(found: GeneImportance) -> dict[str, float]:
    """Shares of the genes that matter."""
    return {name: round(share, 3) for name, share in found.shares.items() if share >= LEAST}


def skill_table(
    whole: Mapping[str, GeneImportance],
    unseen_problem: Mapping[str, GeneImportance],
    problems: Mapping[str, Mapping[str, GeneImportance]],
    worlds: Mapping[str, Mapping[str, GeneImportance]],
) -> str:
    """Rank correlations: on genomes, worlds and problems that a model did not see."""
    head = ["", *(NAMES[metric] for metric in USUAL)]
    own = [sorted(world[metric].skill or 0.0 for world in worlds.values()) for metric in USUAL]
    rows = [
        ["other genomes of the same search, median (lowest)", *(f"{v[len(v) // 2]:.2f} ({v[0]:.2f})" for v in own)],
        ["other data sets of the six problems", *(f"{whole[metric].skill:.2f}" for metric in USUAL)],
        ["other problems", *(f"{unseen_problem[metric].skill:.2f}" for metric in USUAL)],
        *(
            [f"other data sets of `{name}`", *(f"{found[m].skill:.2f}" for m in USUAL)]
            for name, found in problems.items()
        ),
    ]
    return markdown(head, rows)


def share_table(
    metric: str,
    whole: GeneImportance,
    problems: Mapping[str, Mapping[str, GeneImportance]],
    worlds: Mapping[str, Mapping[str, GeneImportance]],
) -> str:
    """Shares of the important genes: all worlds, each problem, and the range over the worlds."""
    head = ["gene", "all", "best values", *(f"`{name}`" for name in problems), "single searches"]
    rows = []
    for gene, share in whole.shares.items():
        of_problems = [found[metric].shares.get(gene) for found in problems.values()]
        if share < LEAST and max(own or 0.0 for own in of_problems) < LEAST_OF_PROBLEM:
            continue
        of_worlds = [s for own in worlds.values() if (s := own[metric].shares.get(gene)) is not None]
        spread = f"{percent(min(of_worlds))} to {percent(max(of_worlds))}" if of_worlds else "–"
        best = whole.best.get(gene, "–")
        rows.append([f"`{gene}`", percent(share), best, *(percent(own) for own in of_problems), spread])
    return markdown(head, rows)


def percent(share: float | None) -> str:
    """A share without decimals; a dash where the gene does not exist or nothing can be said."""
    return "–" if share is None else f"{100 * share:.0f} %"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; numbers are on the right."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
