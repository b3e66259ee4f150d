"""Time and memory of a training as the work grows: each size varies while the others keep the value in `BASE`.

    python experiments/bench_scaling.py                                  # every axis, up to 10^6 items and 10^7 rows
    python experiments/bench_scaling.py --axes items,batch --limit 3     # the three smallest values of two axes

Every point runs in a fresh process with a single thread and measures

* the CPU time per member of a step, and of the parts before the first and after the last step;
* the peak memory beyond the data and the arranged batches;
* the time of the simulator, of the encoding and of arranging a step.

Users grow with the interactions. Slopes belong to straight lines through the logarithms (1 = proportional, 0 =
constant): over all points, and between the two largest values. Writes experiments/results/bench_scaling.json and a
picture next to it (SVG where kaleido is installed, else HTML).
"""

from __future__ import annotations

import importlib.util
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, final

import numpy as np
import plotly.graph_objects as go
import torch
import typer
from bench_setup import (
    FULL,
    TrainingTime,
    clocked,
    fresh,
    machine,
    plain_specs,
    settled_rss,
    simulated,
    status_bytes,
)
from plotly.subplots import make_subplots
from results_file import write_results

from evorec.config import RecommenderConfig
from evorec.data.simulator import simulate
from evorec.recommender.trainers import StackTrainer

HERE = Path(__file__).parent
INTERACTIONS_PER_USER: Final = 50
AT_LEAST_USERS: Final = 2000
STEPS, REPEATS = 20, 3
"""Steps of a run, and how often it is timed."""


@final
@dataclass(frozen=True)
class Work:
    """Sizes of a point; embeddings of 16, three layers of which two are shared, three tasks."""

    members: int = 16
    items: int = 4000
    interactions: int = 200_000
    batch: int = 1024
    width: int = 64


BASE: Final = Work()
AXES: Final[Mapping[str, tuple[int, ...]]] = {
    "members": (8, 16, 32, 64, 128, 256),
    "items": (1000, 10_000, 100_000, 1_000_000),
    "interactions": (100_000, 1_000_000, 10_000_000),
    "batch": (256, 512, 1024, 2048, 4096, 8192),
    "width": (16, 32, 64, 128, 256),
}
SHOWN: Final = {"ms_per_member_step": "ms per member and step", "working_mib": "MiB beyond data"}


def configured(work: Work) -> RecommenderConfig:
    """Configuration of a point."""
    users = max(AT_LEAST_USERS, work.interactions // INTERACTIONS_PER_USER)
    world = replace(FULL, n_users=users, n_items=work.items, n_interactions=work.interactions, steps=STEPS)
    config = simulated("standard", world)
    training = config.training.model_copy(update={"batch_size": work.batch})
    return config.model_copy(update={"training": training, "space": {**config.space, "width": work.width}})


def point(work: Mapping[str, int]) -> dict[str, float]:
    """Figures of a point, measured in this process."""
    torch.set_num_threads(1)
    sizes = Work(**work)
    config, start = configured(sizes), time.perf_counter()
    tables = simulate(config.data.simulator)
    simulated_at = time.perf_counter()
    trainer = StackTrainer.of(tables, config, fit="train", seed=0, at_most=100)
    encoded_at = time.perf_counter()
    del tables
    for index in range(STEPS):
        trainer.plan.step(index)
    planned_at = time.perf_counter()
    models = plain_specs(config, sizes.members)
    trainer.with_steps(1).train(models[:1])  # the libraries' own memory
    data_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    before = settled_rss()
    turns = [clocked(trainer, models) for _ in range(REPEATS)]
    taken = TrainingTime.median(turns)
    return {
        "ms_per_member_step": 1e3 * taken.step / sizes.members,
        "start_and_end_s_per_member": taken.rest / sizes.members,
        "working_mib": (status_bytes("VmHWM") - before) / 2**20,
        "data_mib": before / 2**20,
        "data_peak_mib": data_peak,
        "simulator_s": simulated_at - start,
        "encoding_s": encoded_at - simulated_at,
        "laying_out_a_step_ms": 1e3 * (planned_at - encoded_at) / STEPS,
        "n_rows": trainer.data.dataset.n_rows,
    }


def slopes(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """Slope of log y over log x: of all points, and between the last two."""
    if len(x) < 2:
        return {}
    log_x, log_y = np.log(x), np.log(np.maximum(y, 1e-9))
    last = (log_y[-1] - log_y[-2]) / (log_x[-1] - log_x[-2])
    return {"all": float(np.polyfit(log_x, log_y, 1)[0]), "last": float(last)}


def picture(axes: Mapping[str, Any]) -> go.Figure:
    """Panels: time in the first row, memory in the second, a column per axis; a row shares its scale."""
    figure = make_subplots(
        rows=len(SHOWN), cols=len(axes), horizontal_spacing=0.02, vertical_spacing=0.16, shared_yaxes=True
    )
    for column, (axis, found) in enumerate(axes.items(), start=1):
        for row, (name, title) in enumerate(SHOWN.items(), start=1):
            y = [values[name] for values in found["points"]]
            slope = found["slopes"][name].get("all")
            figure.add_trace(
                go.Scatter(x=found["values"], y=y, mode="lines+markers", showlegend=False, line_color="#2a6f97"),
                row=row,
                col=column,
            )
            text = axis if slope is None else f"{axis}, slope {slope:.2f}"
            figure.update_xaxes(type="log", dtick=1, title=text, row=row, col=column)
            figure.update_yaxes(type="log", dtick=1, title=title if column == 1 else None, row=row, col=column)
    margin = {"t": 20, "r": 20}
    return figure.update_layout(width=260 * len(axes), height=560, template="plotly_white", margin=margin)


def main(
    axes: Annotated[str, typer.Option(help=f"some of {','.join(AXES)}")] = ",".join(AXES),
    limit: Annotated[int, typer.Option(min=1, help="number of values per axis, smallest first")] = 100,
    quick: Annotated[bool, typer.Option(help="a quick trial with two tiny points per axis")] = False,
    out: Annotated[Path, typer.Option(help="file of the figures")] = HERE / "results" / "bench_scaling.json",
) -> None:
    """Measure every point, print it with the slopes, write figures and picture."""
    if unknown := sorted(set(axes.split(",")) - set(AXES)):
        raise typer.BadParameter(f"{unknown} is not among {', '.join(AXES)}")
    base = Work(members=2, items=60, interactions=3000, batch=64, width=16) if quick else BASE
    found: dict[str, Any] = {}
    document = {"machine": machine(), "base": asdict(base), "steps": STEPS, "axes": found}
    for axis in axes.split(","):
        own = getattr(base, axis)
        values = [own, 2 * own][:limit] if quick else list(AXES[axis][:limit])
        points = []
        for value in values:
            work = asdict(replace(base, **{axis: value}))
            points.append(fresh("bench_scaling", "point", work=work))
            figures = "  ".join(f"{name} {figure:.4g}" for name, figure in points[-1].items())
            print(f"{axis} {value:,}: {figures}", flush=True)
        lines = {name: slopes(values, [row[name] for row in points]) for name in SHOWN}
        found[axis] = {"values": values, "points": points, "slopes": lines}
        for name, slope in lines.items():
            print(f"{axis}: slope of {name}: {', '.join(f'{key} {value:.2f}' for key, value in slope.items())}")
        write_results(out, document)
    figure = picture(found)
    if importlib.util.find_spec("kaleido"):
        figure.write_image(out.with_suffix(".svg"))
    else:
        figure.write_html(out.with_suffix(".html"), include_plotlyjs="cdn")


if __name__ == "__main__":
    typer.run(main)
