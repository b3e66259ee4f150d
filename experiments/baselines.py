"""The pick of best recall against every tuned baseline, on the test of each built-in problem with lists.

Each problem is searched with a small budget, in a space that has item-item scores (`space.item_item = "search"`). The
member of best recall on validation is trained again on train and validation with a fresh seed. The baselines have the
settings that were chosen on validation. Both list items for the users of the test, and the paired difference gets a
bootstrap interval over users. The check fails if the pick is significantly below a baseline, which is marked "below".

    python experiments/baselines.py                       # all problems, about an hour on two quiet cores
    python experiments/baselines.py feed public:lastfm    # problems; of `public`, a split
    python experiments/baselines.py feed --set search.generations=8

Writes experiments/results/baselines.json. Problems without data or without lists are left out and named.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from results_file import write_results

from evorec.config import installed_problems

HERE = Path(__file__).parent
BUDGET: Final = ("search.population=16", "search.generations=2", 'space.item_item="search"')
FINAL: Final = ("finalize.seeds=1", 'finalize.steps="search"', "finalize.boosting=false")
SPLITS: Final = ("lastfm", "beauty", "toys")


class LeftOut(Exception):
    """A problem that cannot be searched or compared; the reason is its text."""


def main() -> None:
    """Search, compare, print the table of experiments/README.md, and fail where a pick is below a baseline."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    everything = [name for name in installed_problems() if name not in ("analytic", "public", "tabular")]
    arguments.add_argument("problems", nargs="*", default=[*everything, *(f"public:{name}" for name in SPLITS)])
    arguments.add_argument("--set", action="append", default=[], dest="settings", help="setting of every problem")
    arguments.add_argument("--out", type=Path, default=HERE / "results" / "baselines.json")
    options = arguments.parse_args()
    results: dict[str, Any] = json.loads(options.out.read_text()) if options.out.is_file() else {}
    for name in options.problems:
        try:
            results[name] = compared(name, options.settings)
        except LeftOut as error:
            print(f"{name} is left out: {error}", file=sys.stderr, flush=True)
            continue
        write_results(options.out, results)
        print(row(name, results[name]), flush=True)
    below = [name for name in options.problems if results.get(name, {}).get("verdict") == "below"]
    sys.exit(f"below a baseline: {', '.join(below)}" if below else 0)


def compared(name: str, settings: Sequence[str]) -> dict[str, Any]:
    """The pick, the baselines and the paired differences of a problem, on the test."""
    problem, _, dataset = name.partition(":")
    given = [*BUDGET, *FINAL, *([f"dataset={dataset}"] if dataset else []), *settings]
    with tempfile.TemporaryDirectory() as folder:
        words = [word for text in (*given, f"run.output={folder}") for word in ("--set", text)]
        path = evorec("search", "--problem", problem, *words)["run"]
        report = evorec("finalize", path, "--pick", "best:recall@k")
    (pick,) = report["picks"]
    if not pick["against"]:
        raise LeftOut("no baseline has recall")
    metric = next(iter(pick["against"].values()))["metric"]
    known = {baseline: row[metric] for baseline, row in report["baselines"].items() if metric in row}
    against = {
        baseline: {
            "recall": known[baseline],
            "difference": found["mean_difference"],
            "low": found["low"],
            "high": found["high"],
            "settings": found["settings"],
        }
        for baseline, found in pick["against"].items()
    }
    is_below = any(found["high"] < 0 for found in against.values())
    best = max(known, key=lambda baseline: known[baseline])
    return {
        "metric": metric,
        "users": report["rows"]["ranking_users"],
        "recall": pick["shipped"][metric],
        "item_item": pick["spec"].get("item_item", "none"),
        "alone": not pick["spec"].get("item_item_blend", True),
        "best": best,
        "verdict": "below" if is_below else "above" if against[best]["low"] > 0 else "not shown to differ",
        "baselines": against,
    }


def evorec(*words: str) -> dict[str, Any]:
    """The result of a command, as JSON.

    Raises:
        LeftOut: it failed.
    """
    command = [sys.executable, "-m", "evorec", *words, "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LeftOut(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def row(name: str, found: Mapping[str, Any]) -> str:
    """A row of the table in experiments/README.md."""
    best = found["baselines"][found["best"]]
    recalls = " / ".join(f"{one['recall']:.4f}" for one in found["baselines"].values())
    family = found["item_item"] if found["item_item"] == "none" else f"{found['item_item']}{' alone' * found['alone']}"
    interval = f"{best['difference']:+.4f} [{best['low']:+.4f}, {best['high']:+.4f}]"
    return (
        f"| {name} | {found['recall']:.4f} ({family}) | {recalls} | {found['best']}: {interval} | {found['verdict']} |"
    )


if __name__ == "__main__":
    main()
