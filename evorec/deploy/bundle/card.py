"""The model card that goes with a bundle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evorec.config import TasksConfig, task_in_words

LIMITS = (
    "It knows what its training data knew. An id that it never saw is answered from features, liked items and "
    "content; somebody of whom nothing is told gets the list of an unknown user, which is close to what is popular.",
    "Lists are made for the usual context of training unless a request tells another one; statistics of users and "
    "items are those of the end of training and do not move until the next export.",
    "Filters by a number are not possible: numbers are kept in bins.",
    "The hashes tell damage, not origin: take a bundle from where you trust it to come from.",
)


def model_card(manifest: Mapping[str, Any]) -> str:
    """Markdown that says what the model is, what it was trained on, how good it is and what it cannot do.

    Args:
        manifest: the bundle's manifest.
    """
    parts = (_what(manifest), _use(manifest), _figures(manifest), _against(manifest), _score(manifest),
             _words(manifest), _checked(manifest), _limits(manifest), _settings(manifest))  # fmt: skip
    return "\n".join(line for part in parts for line in (*part, ""))


def _what(manifest: Mapping[str, Any]) -> Iterator[str]:
    data = manifest["data"]
    yield f"# Recommender {manifest['member']} ({manifest['problem']})"
    yield ""
    yield f"Multi-task recommender for {_tasks(manifest)}; lists are made for {manifest['target']}."
    better = {"max": "high", "min": "low"}
    goals = [f"{one['name']} ({better[one['better']]})" for one in manifest["objectives"]]
    yield f"One of the trade-offs that a search found between {', '.join(goals)}."
    yield ""
    yield (
        f"Trained on {data['training_rows']:,} rows ({manifest['fit']}) of {data['name']}: {data['users']:,} users, "
        f"{data['items']:,} items. Data SHA-256 `{data['sha256']}`."
    )


def _use(manifest: Mapping[str, Any]) -> Iterator[str]:
    yield "```python"
    yield "import evorec"
    yield ""
    yield 'model = evorec.load_bundle("PATH OF THIS FOLDER")  # numpy and onnxruntime are enough'
    yield f"model.recommend([USER_ID], k={manifest['k']})  # [[(item, score), ...]]"
    yield "model.recommend([evorec.User(liked=[ITEM_ID])])  # somebody new"
    yield "```"


def _figures(manifest: Mapping[str, Any]) -> Iterator[str]:
    tested = manifest["metrics"]["test"]
    yield "## Figures"
    yield ""
    yield "Validation figures were used to choose this model, so they flatter it." + (
        "" if tested else " The test was not opened for it (`evorec finalize`)."
    )
    yield ""
    yield "| metric | validation |" + (" test, mean ± sd over seeds |" if tested else "")
    yield "|---|---|" + ("---|" if tested else "")
    for name, value in sorted(manifest["metrics"]["validation"].items()):
        row = f"| {name} | {value:.6g} |"
        if tested:
            found = tested.get(name)
            row += f" {found['mean']:.6g} ± {found['sd']:.2g} |" if found else " |"
        yield row


def _against(manifest: Mapping[str, Any]) -> Iterator[str]:
    if not manifest["against"]:
        return
    yield "## Against baselines on the test"
    yield ""
    yield "| baseline | difference | 95 % interval |"
    yield "|---|---|---|"
    for name, found in manifest["against"].items():
        interval = f"{found['low']:+.4f} .. {found['high']:+.4f}"
        yield f"| {name} | {found['metric']} {found['mean_difference']:+.4f} | {interval} |"


def _score(manifest: Mapping[str, Any]) -> Iterator[str]:
    formula, mmr = manifest["formula"], manifest["mmr"]
    yield "## List score"
    yield ""
    yield f"`{formula['short']}` ({formula['source']}), over the best {manifest['candidates']:,} items of retrieval."
    yield ""
    yield (
        "`retrieval` is the score of the first stage, `z_TASK` what the ranker gives for a task, `p_TASK` its "
        "probability." + (f" Lists are re-ranked for diversity (MMR) with weight {mmr:g}." if mmr else "")
    )


def _words(manifest: Mapping[str, Any]) -> Iterator[str]:
    yield "## In words"
    yield ""
    yield from (f"- {sentence}" for sentence in manifest["words"])
    if manifest["neighbours"]:
        yield ""
        yield "Beside it on the front, on validation:"
        yield ""
        yield from (f"- {sentence}" for sentence in manifest["neighbours"])


def _checked(manifest: Mapping[str, Any]) -> Iterator[str]:
    lists, parity, latency = manifest["lists"], manifest["parity"], manifest.get("latency")
    yield "## Checked when it was exported"
    yield ""
    yield (
        f"- Lists of {lists['n_users']:,} users compared with the trained member: {lists['n_equal']:,} equal item by "
        f"item, the others differ among items whose scores differ by {lists['largest_difference']:.1g} at most."
    )
    yield f"- Graphs against PyTorch: largest relative difference {max(parity.values()):.1g}."
    if latency:
        yield (
            f"- One list for one user: {latency['p50_ms']:.2f} ms (median), {latency['p99_ms']:.2f} ms (99 % of "
            f"{latency['requests']} requests); {latency['lists_per_second']:,.0f} lists per second in batches; one "
            f"thread, {latency['machine']}."
        )
    for kind, found in manifest.get("variants", {}).items():
        yield (
            f"- `{found['file']}` ({kind}): {found['bytes']:,} bytes instead of {found['bytes_of_full']:,}; "
            f"{found['list_loss']:.2%} of the places of the lists change, {found['latency']['p50_ms']:.2f} ms a list."
        )


def _limits(manifest: Mapping[str, Any]) -> Iterator[str]:
    licence = manifest["data"]["licence"]
    yield "## Limits and licence"
    yield ""
    yield from (f"- {limit}" for limit in LIMITS)
    yield "- Licence of the data, which applies to the model: " + (licence or "that of your own data") + "."


def _settings(manifest: Mapping[str, Any]) -> Iterator[str]:
    yield "## Settings"
    yield ""
    yield "| gene | value |"
    yield "|---|---|"
    yield from (f"| {name} | {value} |" for name, value in manifest["spec"].items())


def _tasks(manifest: Mapping[str, Any]) -> str:
    """The tasks, with what their labels are where these are numbers, and which of them are better low."""
    tasks = TasksConfig(ranked=tuple(manifest["tasks"]), kinds=manifest["kinds"])
    lower = manifest.get("lower_is_better", ())
    return ", ".join(
        task_in_words(task, kind) + (" (lower is better)" if task in lower else "")
        for task, kind in tasks.kind_of_each().items()
    )
