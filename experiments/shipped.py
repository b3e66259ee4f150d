"""Compares served lists with those of the archive's member, user by user.

    evorec export RUN knee --out bundles/knee
    python experiments/shipped.py RUN bundles/knee

Starts ``evorec serve`` on the bundle and requests the lists of known users (2,000 spread over all, or ``--users N``).
The expected lists are computed from the run with the code that measured the member: from the final model if the member
was finalized, else from the search's model. Writes experiments/results/shipped.json.
"""

from __future__ import annotations

import argparse
import json
import urllib.request
from pathlib import Path
from typing import Any, Final

import numpy as np
from results_file import write_results
from served_bundle import served

from evorec.cli.ship import build_rec_problem
from evorec.data.held_out import RankingUsers, masked_items
from evorec.deploy.final.finalize import shipped_model
from evorec.models.spec import ModelSpec
from evorec.run.directory import RunDirectory
from evorec.serving.bundle import read_bundle
from evorec.training.evaluate import member_lists

RESULT: Final = Path(__file__).parent / "results" / "shipped.json"
AT_ONCE: Final = 100
Lists = list[list[tuple[int | str, float]]]


def of_the_member(path: Path, member: str, n_users: int) -> tuple[list[int | str], Lists]:
    """Users, and the lists of the run's member for them in PyTorch."""
    with RunDirectory.open(path, read_only=True) as run:
        problem = build_rec_problem(run.config)
        encoded, weights, _ = shipped_model(run, problem, member)
        spec = ModelSpec.from_genes(next(row.spec for row in run.members() if row.key == member))
    dataset, evaluation = encoded.dataset, encoded.config.evaluation
    ids = np.arange(dataset.n_users)[:: max(1, dataset.n_users // n_users)]
    users = RankingUsers(ids, masked_items(dataset, evaluation).select(ids), dataset.relevant.select(ids))
    found = member_lists(encoded.stack([spec], [weights]), dataset, encoded.tensors, users, evaluation)
    items = dataset.item_ids.tolist()
    lists = [
        [(items[item], float(score)) for item, score in zip(*pair, strict=True) if item >= 0]
        for pair in zip(found.final[0], found.scores[0], strict=True)
    ]
    return dataset.user_ids[ids].tolist(), lists


def served_lists(bundle: Path, users: list[int | str]) -> Lists:
    """Lists of the users, requested over HTTP."""
    out: Lists = []
    with served(bundle) as (url, _):
        for start in range(0, len(users), AT_ONCE):
            body = json.dumps({"users": [{"id": user} for user in users[start : start + AT_ONCE]], "mmr": 0})
            request = urllib.request.Request(f"{url}/recommend", body.encode(), {"Content-Type": "application/json"})
            with urllib.request.urlopen(request) as answer:
                lists = json.load(answer)["lists"]
            out += [[(row["item"], row["score"]) for row in found["items"]] for found in lists]
    return out


def main() -> None:
    """Compare the lists and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--users", type=int, default=2000)
    arguments = parser.parse_args()
    manifest = read_bundle(arguments.bundle).manifest
    users, expected = of_the_member(arguments.run, manifest["member"], arguments.users)
    found = served_lists(arguments.bundle, users)
    equal = sum([item for item, _ in a] == [item for item, _ in b] for a, b in zip(expected, found, strict=True))
    worst = max(abs(x - y) for a, b in zip(expected, found, strict=True) for (_, x), (_, y) in zip(a, b, strict=True))
    result: dict[str, Any] = {
        "problem": manifest["problem"], "member": manifest["member"], "fit": manifest["fit"],
        "formula": manifest["formula"]["short"], "users": len(users), "equal_lists": equal,
        "largest_difference_of_scores": worst,
    }  # fmt: skip
    print(json.dumps(result))
    write_results(RESULT, result)


if __name__ == "__main__":
    main()
