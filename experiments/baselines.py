"""The pick of best recall against every tuned baseline, on the test of each built-in problem with lists.

Each problem is searched with a small budget. The member of best recall on validation is trained again on train and
validation with a fresh seed. The baselines have the settings that were chosen on validation. Both list items for the
users of the test, and the paired difference gets a bootstrap interval over users. The check fails if the pick is
significantly below a baseline, which is marked "below".

    python experiments/baselines.py                       # all problems, about an hour on two quiet cores
    python experiments/baselines.py feed public:lastfm    # problems; of `public`, a split
    python experiments/baselines.py feed --set search.generations=8
    python experiments/baselines.py --tuning              # no search: recall of fixed and of chosen settings, a minute

Writes experiments/results/baselines.json, and with --tuning baselines_tuning.json, whose figures are on validation.
Problems without data or without lists are left out and named.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from results_file import write_results

from evorec.config import installed_problems, load_config, recommender_config
from evorec.errors import ConfigError, DataError
from evorec.recommender.problem import build_problem

HERE = Path(__file__).parent
BUDGET: Final = ("search.population=16", "search.generations=2")
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
    arguments.add_argument("--tuning", action="store_true", help="only measure what the choice of settings changes")
    arguments.add_argument("--out", type=Path, help="file of the figures")
    options = arguments.parse_args()
    out = options.out or HERE / "results" / f"baselines{'_tuning' * options.tuning}.json"
    results: dict[str, Any] = json.loads(out.read_text()) if out.is_file() else {}
    for name in options.problems:
        try:
            results[name] = (tuned if options.tuning else compared)(name, options.settings)
        except (LeftOut, ConfigError, DataError) as error:
            print(f"{name} is left out: {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
            continue
        write_results(out, results)
        print((tuning_row if options.tuning else row)(name, results[name]), flush=True)
    below = [name for name in options.problems if results.get(name, {}).get("verdict") == "below"]
    sys.exit(f"below a baseline: {', '.join(below)}" if below else 0)


def tuned(name: str, settings: Sequence[str]) -> dict[str, Any]:
    """Recall on validation of each baseline with fixed and with chosen settings, and the seconds of the choice."""
    problem_name, _, dataset = name.partition(":")
    given = [*([f"dataset={dataset}"] if dataset else []), "constraints=[]", *settings]
    config = recommender_config(load_config(None, problem=problem_name, overrides=given))
    problem = build_problem(config)
    metric, own, out = f"recall@{config.k}", problem.data.baselines, dict[str, Any]()
    fixed = problem.data.with_settings({}).baselines
    if metric not in own.measure("popularity").values:
        raise LeftOut("its members have no lists")
    for baseline in own.names:
        start = time.perf_counter()
        chosen = own.settings_of(baseline)
        seconds = time.perf_counter() - start
        recalls = {kind: found.measure(baseline).values[metric] for kind, found in (("fixed", fixed), ("tuned", own))}
        out[baseline] = {**recalls, "settings": dict(chosen), "seconds": seconds}
    return out


def tuning_row(name: str, found: Mapping[str, Any]) -> str:
    """A row of the table in experiments/README.md."""
    cells = [f"{one['fixed']:.4f} → {one['tuned']:.4f}" for key, one in found.items() if key != "popularity"]
    seconds = sum(one["seconds"] for one in found.values())
    return f"| {name} | {found['popularity']['tuned']:.4f} | {' | '.join(cells)} | {seconds:.1f} |"


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
