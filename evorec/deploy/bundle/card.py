"""The model card of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evorec.config import TasksConfig, task_in_words
from evorec.run.directory import machines_text

LIMITS = (
    "The model knows only its training data. An unknown id is answered from features, liked items and content; a user "
    "without any description gets the list of an unknown user, which is close to the most popular items.",
    "Lists are made for the most frequent context of training unless a request gives another; statistics of users and "
    "items are those of the end of training and do not change until the next export.",
    "Filters by a number are not possible: numbers are kept in bins.",
    "The hashes detect damage, not forgery: take a bundle from a source that you trust.",
)

ROW_LIMITS = (
    "The model knows only its training data. A value that training did not have counts as unknown, and a number outside"
    " the range of training as the nearest end of it.",
    "The hashes detect damage, not forgery: take a bundle from a source that you trust.",
)

STANDING = {
    "member": "No member of the front dominates it in these means.",
    "dominated": "Another member of the front dominates it in these means.",
    "infeasible": "It does not keep the constraints of the search in these means.",
    "failed": "A training failed.",
}

ALL_DATA = (
    " This model was trained on the rows of the test, too, after the test was opened: the test metrics are those of "
    "the same configuration and number of steps, trained without these rows. Nothing measures this model itself."
)


def model_card(manifest: Mapping[str, Any]) -> str:
    """Markdown about the model: purpose, training data, metrics, checks, limits and settings.

    Args:
        manifest: the bundle's manifest.
    """
    data, metrics, formula, mmr = manifest["data"], manifest["metrics"], manifest["formula"], manifest["mmr"]
    better, tested = {"max": "high", "min": "low"}, metrics["test"]
    goals = ", ".join(f"{goal['name']} ({better[goal['better']]})" for goal in manifest["objectives"])
    tasks = TasksConfig(ranked=tuple(manifest["tasks"]), kinds=manifest["kinds"])
    lower = manifest.get("lower_is_better", ())
    names = ", ".join(
        task_in_words(task, kind) + (" (lower is better)" if task in lower else "")
        for task, kind in tasks.kind_of_each().items()
    )
    goals_text = f"A trade-off that a search found between {goals}."
    of_rows = manifest.get("rows") is True
    start = [_rows_start(manifest, names, goals_text)] if of_rows else [f"""\
# Recommender {manifest["member"]} ({manifest["problem"]})

{f"Multi-task recommender for {names}" if names else "Retrieval model"}; lists are made for {manifest["target"]}.
{goals_text}

Trained on {data["training_rows"]:,} rows ({manifest["fit"]}) of {data["name"]}: {data["users"]:,} users, \
{data["items"]:,} items, {data.get("listed_items", data["items"]):,} of which can be listed: they have a \
training row or a row in the item table. Data SHA-256 `{data["sha256"]}`.

```python
import evorec

model = evorec.load_bundle("PATH OF THIS FOLDER")  # needs only numpy and onnxruntime
model.recommend([USER_ID], k={manifest["k"]})  # [[(item, score), ...]]
model.recommend([evorec.User(liked=[ITEM_ID])])  # a new user
```
"""]  # fmt: skip
    parts = [*start, f"""\
## Metrics

Validation metrics were used to choose this model, so they are optimistic.\
{"" if tested else " The test was not opened for it (`evorec finalize`)."}\
{ALL_DATA if manifest["fit"] == "train+validation+test" else ""}
"""]  # fmt: skip
    rows = []
    if fresh := metrics.get("fresh"):
        seeds = f"{fresh['seeds']} fresh seed{'s' * (fresh['seeds'] != 1)}"
        parts.append(
            f"The member was trained again from scratch with {seeds}, on the rows of the search; these values are not "
            f"optimistic. {STANDING[fresh['standing']]}\n"
        )
    for name, value in sorted(metrics["validation"].items()):
        row = [name, f"{value:.6g}"]
        if fresh:
            row.append(f"{fresh['means'][name]:.6g} ± {fresh['sds'][name]:.2g}" if name in fresh["means"] else "")
        if tested:
            row.append(f"{tested[name]['mean']:.6g} ± {tested[name]['sd']:.2g}" if name in tested else "")
        rows.append(row)
    headings = ["metric", "validation", *(["fresh seeds, mean ± sd"] if fresh else [])]
    parts.append(_table([*headings, *(["test, mean ± sd over seeds"] if tested else [])], rows))
    if manifest["against"]:
        rows = [
            [
                _with_settings(name, row.get("settings", {})),
                f"{row['metric']} {row['mean_difference']:+.4f}",
                f"{row['low']:+.4f} .. {row['high']:+.4f}",
            ]
            for name, row in manifest["against"].items()
        ]
        parts += ["## Against baselines on the test\n", _table(["baseline", "difference", "95 % interval"], rows)]
    if ensemble := manifest.get("ensemble"):
        rows = [
            [row["key"], f"{row['tasks']:.3g}", f"{row['lists']:.3g}", str(row["steps"])] for row in ensemble["members"]
        ]
        about = (
            "The outputs of the tasks are averaged with the first shares. Of the lists the preferences over the "
            "catalogue are averaged with the second: the softmax of the retrieval score, and what the ranker adds.\n"
        )
        parts += ["## Members\n", about, _table(["member", "share of tasks", "share of lists", "steps"], rows)]
    if not of_rows:
        parts.append(f"""\
## List score

`{formula["short"]}` ({formula["source"]}), over the best {manifest["candidates"]:,} items of retrieval.

`retrieval` is the retrieval score\
{", `z_TASK` the ranker's output for a task, `p_TASK` its probability" if names else ""}.\
{f" Lists are re-ranked for diversity (MMR) with weight {mmr:g}." if mmr else ""}
""")
    parts.append("## Description\n")
    parts.append(_bullets(manifest["words"]))
    if manifest["neighbours"]:
        parts += ["Nearest members of the front, on validation:\n", _bullets(manifest["neighbours"])]
    parts += ["## Checks at export\n", _bullets(_checks(manifest)), "## Limits and licence\n"]
    origins = [text] if (text := machines_text(manifest.get("machines", ()))) else []
    if memory := manifest.get("memory"):
        origins.append(f"The search started from {memory}.")
    licence = data["licence"] or "that of your own data"
    parts.append(
        _bullets(
            [
                *data.get("remarks", []),
                *origins,
                *(ROW_LIMITS if of_rows else LIMITS),
                f"Licence of the data, which applies to the model: {licence}.",
            ]
        )
    )
    if ensemble := manifest.get("ensemble"):
        specs = {row["key"]: row["spec"] for row in ensemble["members"]}
        genes = dict.fromkeys(name for spec in specs.values() for name in spec)
        rows = [[name, *(str(spec.get(name, "")) for spec in specs.values())] for name in genes]
        return "\n".join([*parts, "## Settings\n", _table(["gene", *specs], rows)])
    parts += ["## Settings\n", _table(["gene", "value"], [[name, str(v)] for name, v in manifest["spec"].items()])]
    return "\n".join(parts)


def _with_settings(name: str, settings: Mapping[str, float]) -> str:
    """A baseline with the settings that were chosen for it on validation."""
    return name + (f" ({', '.join(f'{key} {value:g}' for key, value in settings.items())})" if settings else "")


def _rows_start(manifest: Mapping[str, Any], names: str, goals: str) -> str:
    """Purpose, training data and use of a model of rows."""
    data = manifest["data"]
    return f"""\
# Model of rows {manifest["member"]} ({manifest["problem"]})

Multi-task model that predicts {names} from the features of a row.
{goals}

Trained on {data["training_rows"]:,} rows ({manifest["fit"]}) of {data["name"]}. Data SHA-256 `{data["sha256"]}`.

```python
import evorec

model = evorec.load_rows("PATH OF THIS FOLDER")  # needs only numpy and onnxruntime
model.score([{{"FEATURE": VALUE, "ANOTHER FEATURE": VALUE}}])  # [{{"TASK": prediction, ...}}]
```
"""


def _checks(manifest: Mapping[str, Any]) -> list[str]:
    graphs = f"Graphs against PyTorch: largest relative difference {max(manifest['parity'].values()):.1g}."
    if predictions := manifest.get("predictions"):
        return [
            f"Predictions of {predictions['n_rows']:,} held-out rows compared with the trained member: they differ by "
            f"at most {predictions['largest_difference']:.1g}.",
            graphs,
        ]
    lists = manifest["lists"]
    out = [
        f"Lists of {lists['n_users']:,} users compared with the trained member: {lists['n_equal']:,} equal item by "
        f"item; the others differ among items whose scores differ by at most {lists['largest_difference']:.1g}.",
        graphs,
    ]
    for kind, found in manifest.get("variants", {}).items():
        out.append(
            f"`{found['file']}` ({kind}): {found['bytes']:,} bytes instead of {found['bytes_of_full']:,}; "
            f"{found['list_loss']:.2%} of the listed items change."
        )
    return out


def _bullets(lines: list[str]) -> str:
    return "".join(f"- {line}\n" for line in lines)


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(row)} |\n" for row in [header, *rows]]
    return "".join([lines[0], f"|{'---|' * len(header)}\n", *lines[1:]])
