"""The model card that goes with a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evorec.config import TasksConfig, task_in_words


def model_card(manifest: Mapping[str, Any]) -> str:
    """Markdown that says what the model is, what it was trained on and how good it is.

    Args:
        manifest: the bundle's manifest.
    """
    data, tested = manifest["data"], manifest["metrics"]["test"]
    lines = [
        f"# Recommender {manifest['member']} ({manifest['problem']})",
        "",
        f"Multi-task recommender for {_tasks(manifest)}; lists are made for {manifest['target']}.",
        f"Trained on {data['training_rows']:,} rows ({manifest['fit']}) of {data['name']}: {data['users']:,} users, "
        f"{data['items']:,} items. Data SHA-256 `{data['sha256']}`.",
        "",
        "```python",
        "from pathlib import Path",
        "import evorec",
        "",
        'model = evorec.load_bundle(Path("."))',
        f"model.recommend([USER_ID], k={manifest['k']})  # [[(item, score), ...]]",
        "```",
        "",
        "## Figures",
        "",
        "Validation figures were used to choose this model, so they flatter it."
        + ("" if tested else " The test was not opened for it (`evorec finalize`)."),
        "",
        "| metric | validation |" + (" test, mean ± sd over seeds |" if tested else ""),
        "|---|---|" + ("---|" if tested else ""),
    ]
    for name, value in sorted(manifest["metrics"]["validation"].items()):
        row = f"| {name} | {value:.6g} |"
        if tested:
            found = tested.get(name)
            row += f" {found['mean']:.6g} ± {found['sd']:.2g} |" if found else " |"
        lines.append(row)
    if manifest["against"]:
        lines += [
            "",
            "## Against baselines on the test",
            "",
            "| baseline | difference | 95 % interval |",
            "|---|---|---|",
        ]
        for name, found in manifest["against"].items():
            interval = f"{found['low']:+.4f} .. {found['high']:+.4f}"
            lines.append(f"| {name} | {found['metric']} {found['mean_difference']:+.4f} | {interval} |")
    lines += ["", "## Settings", "", "| gene | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in manifest["spec"].items()]
    lines += [
        "",
        "An unknown user gets the list of a user without a past. The licence of the data applies to the model.",
        "",
    ]
    return "\n".join(lines)


def _tasks(manifest: Mapping[str, Any]) -> str:
    """The tasks, with what their labels are where these are numbers, and which of them are better low."""
    tasks = TasksConfig(ranked=tuple(manifest["tasks"]), kinds=manifest["kinds"])
    lower = manifest.get("lower_is_better", ())
    return ", ".join(
        task_in_words(task, kind) + (" (lower is better)" if task in lower else "")
        for task, kind in tasks.kind_of_each().items()
    )
