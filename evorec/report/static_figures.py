"""Static figures of runs for papers and slides, drawn by matplotlib: SVG, PNG or PDF, without a browser.

matplotlib is imported when a figure is drawn. Colours are those of Okabe and Ito (2008), which people with any kind of
colour blindness can tell apart; kinds of points also differ in shape.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast, final

import numpy as np

from evorec.archive.indicators import hypervolume_share
from evorec.errors import ConfigError, DataError, command, guess
from evorec.objectives import FloatArray, Metrics, Objective
from evorec.outputs import write_output
from evorec.report.frames import evaluations_until
from evorec.report.record import RunRecord, check_same_goals, hypervolume_by_generation
from evorec.report.table import show_metric
from evorec.report.verdict import names_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442",
)  # fmt: skip
RUNS: Final = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
"""Colours of runs, and of objectives."""
MARKERS: Final = "osv^DP"
"""Markers of runs."""
EVALUATED, INK, FAINT, BROWN = "#b8c0cc", "#1f2933", "#8a94a3", "#8a5a00"
STYLE: Final[Any] = {
    "font.family": ["DejaVu Sans"], "font.size": 9, "axes.titlesize": 10, "axes.labelsize": 9, "legend.fontsize": 8.5,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": FAINT, "xtick.color": INK, "ytick.color": INK,
    "axes.grid": True, "grid.color": "#e5e9ee", "grid.linewidth": 0.7, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    "text.parse_math": False,  # a $ in the name of a metric is a dollar
    "svg.hashsalt": "evorec", "pdf.fonttype": 42,
}  # fmt: skip
KINDS: Final = (".svg", ".png", ".pdf")
"""Endings of the files that a figure is saved to."""
DPI: Final = 200
MOST_BARS: Final = 12
MOST_RUNS: Final = len(RUNS)


@final
class StaticFigure:
    """A drawn figure, which a notebook shows.

    Attributes:
        figure: that of matplotlib, for changes before it is saved.
    """

    def __init__(self, figure: Figure) -> None:
        self.figure = figure

    def __repr__(self) -> str:
        width, height = self.figure.get_size_inches()
        return f"StaticFigure({width:.1f} x {height:.1f} inches)"

    def _repr_png_(self) -> bytes:
        return self._content(".png", dpi=100)

    def save(self, path: Path | str, *, dpi: int = DPI) -> Path:
        """Write the figure; equal figures give equal files.

        Args:
            path: file that ends with .svg, .png or .pdf.
            dpi: dots per inch of a PNG.
        Raises:
            ConfigError: the path has another ending.
        """
        path = Path(path)
        write_output(path, self._content(check_kind("path", path), dpi=dpi))
        return path

    def _content(self, kind: str, *, dpi: int) -> bytes:
        buffer = io.BytesIO()
        # No date and no version of the library: a figure that is drawn again is the same file.
        metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {"Software": None}}[kind]
        with _style():
            self.figure.savefig(buffer, format=kind[1:], dpi=dpi, metadata=metadata)
        return buffer.getvalue()


def check_kind(option: str, path: Path) -> str:
    """The ending of a file that a figure can be saved to.

    Raises:
        ConfigError: there is no such kind of figure.
    """
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise ConfigError(f"{option} must end with {', '.join(KINDS[:-1])} or {KINDS[-1]}, got {path.name}")
    return kind


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # A name in a script that the font does not have is drawn as boxes; the figure is still right.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ ", category=UserWarning)
        yield


def front_figure(records: Sequence[RunRecord], objectives: Sequence[str] = ()) -> StaticFigure:
    """Every pair of objectives: the front, the baselines, and for a single run the other evaluations.

    Args:
        records: runs with the same objectives.
        objectives: names of those to draw; by default all.
    Raises:
        ConfigError: the runs have other objectives, or there is no objective of a name.
    """
    axes = _axes(records, objectives)
    pairs = list(combinations(axes, 2)) or [(axes[0], axes[0])]
    n_columns = min(3, len(pairs))
    n_rows = -(-len(pairs) // n_columns)
    with _style():
        figure = _new(1.0 + 3.3 * n_columns if n_columns > 1 else 5.6, 0.6 + 3.0 * n_rows if n_columns > 1 else 4.4)
        panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for panel in panels[len(pairs) :]:
            panel.remove()
        labels: list[tuple[Axes, float, float, str, str]] = []
        for panel, (down, across) in zip(panels, pairs, strict=False):
            _scaled(panel, across, down)
            for record, colour, marker in _runs(records):
                if len(records) == 1:
                    members = {member.key for member in record.members}
                    others = [e.metrics for e in record.finished if e.metrics is not None and e.key not in members]
                    _points(panel, others, across, down, c=EVALUATED, s=12, label="evaluated")
                name = "front" if len(records) == 1 else record.shown.name
                front = [member.metrics for member in record.members]
                _points(
                    panel, front, across, down, c=colour, marker=marker, s=26, label=name, edgecolors="white", lw=0.4
                )
            named = [(name, found, "#00517f") for name, found in notable(records[0]).items() if len(records) == 1]
            for name, found, colour in _baselines(records):
                _points(
                    panel, [found], across, down, c=colour, marker="D", s=34, label="baselines", edgecolors=INK, lw=0.6
                )
                if colour in (ORANGE, RUNS[0]):  # those of further runs have the same names
                    named.append((name, found, BROWN))
            labels += [
                (panel, found[across.metric], found[down.metric], name, colour)
                for name, found, colour in named
                if {across.metric, down.metric} <= found.keys()
            ]
        _legend(figure)
        _place(figure, labels)
    return StaticFigure(figure)


def parallel_figure(records: Sequence[RunRecord], objectives: Sequence[str] = ()) -> StaticFigure:
    """A line per member across the objectives, every axis oriented so that up is better; baselines are dashed.

    Args:
        records: runs with the same objectives.
        objectives: names of those to draw, in this order; by default all.
    Raises:
        ConfigError: the runs have other objectives, or there is no objective of a name.
    """
    axes = _axes(records, objectives)
    baselines = _baselines(records)
    fronts = [[member.metrics for member in record.members] for record in records]
    values = _values([*(row for front in fronts for row in front), *(found for _, found, _ in baselines)], axes)
    low, high = np.fmin.reduce(values, initial=np.inf), np.fmax.reduce(values, initial=-np.inf)
    low, high = np.where(low <= high, (low, high), [[0.0], [1.0]])  # 0 to 1 where no row has a value
    bad, good = np.where([axis.direction == "max" for axis in axes], (low, high), (high, low))

    def heights(rows: Sequence[Metrics]) -> FloatArray:
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = (_values(rows, axes) - bad) / (good - bad)
        found: FloatArray = np.where((good == bad) & ~np.isnan(_values(rows, axes)), 0.5, shares)
        return found

    x, last = np.arange(len(axes)), len(axes) - 1
    with _style():
        figure = _new(2.6 + 1.7 * len(axes), 4.4)
        panel = figure.subplots()
        for (record, colour, marker), front in zip(_runs(records), fronts, strict=True):
            label = "front" if len(records) == 1 else record.shown.name
            for row in heights(front):
                panel.plot(x, row, color=colour, marker=marker, ms=3, lw=0.9, alpha=0.45, label=label)
                label = ""
        for number, (name, found) in enumerate(notable(records[0]).items() if len(records) == 1 else ()):
            colour = RUNS[1 + number % (len(RUNS) - 1)]
            (row,) = heights([found])
            panel.plot(x, row, color=colour, marker="o", ms=4, lw=2.2, label=name)
        kinds = list(dict.fromkeys(name for record in records for name in record.baselines))
        for name, found, colour in baselines:
            (row,) = heights([found])
            known = np.flatnonzero(~np.isnan(row))
            kind, is_first = kinds.index(name), colour in (ORANGE, RUNS[0])
            panel.plot(
                known, row[known], color=INK if colour == ORANGE else colour, marker="DXPh*<"[kind % 6], ms=5.5,
                mec=INK, mew=0.6, lw=1.1, ls=("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))[kind % 4],
                label=name if is_first else "",
            )  # fmt: skip
        for index, axis in enumerate(axes):
            panel.vlines(index, 0, 1, color=FAINT, lw=0.9, zorder=0)
            for y, offset, end in ((1.0, 7, good[index]), (0.0, -7, bad[index])):
                text = show_metric(float(10**end if axis.log10 else end))
                panel.annotate(
                    text, (index, y), (0, offset), textcoords="offset points", ha="center",
                    va="bottom" if offset > 0 else "top", color="#52606d", fontsize=8,
                )  # fmt: skip
        panel.set_xticks(x, [_title(axis, "\n") for axis in axes])
        panel.xaxis.tick_top()
        panel.tick_params(axis="x", length=0, pad=12)
        panel.set_yticks([])
        panel.set_ylim(-0.1, 1.1)
        panel.set_xlim(-0.35, last + 0.35)
        panel.grid(visible=False)
        for spine in panel.spines.values():
            spine.set_visible(False)
        _legend(figure, "outside right upper")
    return StaticFigure(figure)


def hypervolume_figure(records: Sequence[RunRecord], objectives: Sequence[str] = ()) -> StaticFigure:
    """Share of the box that the archive dominates, over the evaluations; the box is that of the first run.

    Raises:
        ConfigError: the runs have other objectives, or `objectives` are given: the box has all of them.
        DataError: no generation is complete.
    """
    if objectives:
        raise ConfigError("the hypervolume is that of all objectives; leave --objective out")
    check_same_goals(records)
    if not any(record.hypervolume for record in records):
        raise DataError(f"{records[0].shown} has no complete generation yet; draw it when the first has ended")
    with _style():
        figure = _new(5.6, 3.6)
        panel = figure.subplots()
        for record, colour, marker in _runs(records):
            shares = list(record.hypervolume)
            if record.objectives != records[0].objectives:
                shares = hypervolume_by_generation(
                    record.evaluations, records[0].objectives, record.constraints, complete=len(shares)
                )
            panel.plot(
                evaluations_until(record), shares, color=colour, marker=marker, ms=4, lw=1.6, label=record.shown.name
            )
        panel.set_xlabel("evaluations")
        panel.set_ylabel("hypervolume (share of the box)")
        panel.set_ylim(0, 1.1 * panel.get_ylim()[1])
        panel.set_xlim(left=0)
        if len(records) > 1:
            _legend(figure)
        for name, share in _baseline_shares(records[0]).items():
            panel.axhline(share, color=BROWN, lw=1, ls="--")
            panel.annotate(
                name, (1, share), (-2, 2), xycoords=("axes fraction", "data"), textcoords="offset points", ha="right",
                color=BROWN, fontsize=8,
            )  # fmt: skip
    return StaticFigure(figure)


def importance_figure(records: Sequence[RunRecord], objectives: Sequence[str] = ()) -> StaticFigure:
    """The most important genes of a run: the share of each objective's variance that depends on them.

    Raises:
        ConfigError: there are several runs, or there is no objective of a name.
        DataError: the run has too few evaluations, or no objective can be predicted.
    """
    from evorec.report.gene_tables import importance_notes, importance_table, run_genes

    if len(records) != 1:
        raise ConfigError("the importance of genes is that of a single run; name one run")
    found, _ = run_genes(records[0], objectives)
    table = importance_table(found)
    if not table.rows:
        raise DataError(f"no gene can be shown: {' '.join(importance_notes(found))}")
    rows, n = table.rows[:MOST_BARS], len(table.columns)
    thick = 0.8 / n
    with _style():
        figure = _new(6.4, 1.0 + (0.11 * n + 0.12) * len(rows))
        panel = figure.subplots()
        for index, column in enumerate(table.columns):
            panel.barh(
                [row + (index - (n - 1) / 2) * thick for row in range(len(rows))],
                [row.values[index] for row in rows],
                height=thick * 0.92, color=RUNS[index % len(RUNS)], label=column.key,
                hatch=(None, "////", "....", "xxxx", "----", "++++")[index % 6], edgecolor="white", lw=0,
            )  # fmt: skip
        panel.set_yticks(range(len(rows)), [row.name for row in rows])
        panel.set_ylim(len(rows) - 0.5, -0.5)
        panel.grid(visible=False, axis="y")
        panel.set_xlabel("share of the variance of the objective")
        panel.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
        _legend(figure)
    return StaticFigure(figure)


def confirmed_figure(records: Sequence[RunRecord], objectives: Sequence[str] = ()) -> StaticFigure:
    """What the search claimed of each member against the mean of its fresh seeds, where the seed makes a difference.

    Points under the diagonal of an objective that is maximised, and over it of one that is minimised, were luck.

    Raises:
        ConfigError: there are several runs, there is no objective of a name, or the run has no fresh seeds.
        DataError: no value depends on the seed.
    """
    if len(records) != 1:
        raise ConfigError("claimed and confirmed values are those of a single run; name one run")
    (record,), axes = records, _axes(records, objectives)
    if (confirmed := record.confirmed) is None:
        raise ConfigError(
            f"{record.shown} has no fresh seeds; {command('confirm', record.shown)} trains its front again"
        )
    members = [member for member in confirmed.members.values() if member.means]
    axes = [axis for axis in axes if any(not np.isclose(m.means[axis.metric], m.claimed[axis.metric], rtol=1e-9, atol=0)
                                         for m in members)]  # fmt: skip
    if not axes:
        raise DataError(
            f"no objective of {record.shown} depends on the seed, so claimed and confirmed values are equal"
        )
    looks = {"member": (BLUE, "o", "still non-dominated"), "dominated": (VERMILION, "v", "dominated"),
             "infeasible": (PURPLE, "X", "infeasible")}  # fmt: skip
    with _style():
        n_columns = min(3, len(axes))
        n_rows = -(-len(axes) // n_columns)
        figure = _new(0.4 + 3.4 * n_columns, 0.7 + 3.2 * n_rows)
        panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for panel in panels[len(axes) :]:
            panel.remove()
        for panel, axis in zip(panels, axes, strict=False):
            _scaled(panel, axis, axis)
            for standing, (colour, marker, label) in looks.items():
                own = [member for member in members if member.standing == standing]
                if own:
                    panel.errorbar(
                        [m.claimed[axis.metric] for m in own], [m.means[axis.metric] for m in own],
                        yerr=[m.sds[axis.metric] for m in own], fmt=marker, color=colour, ms=5, lw=0.8, label=label,
                        mec="white", mew=0.4,
                    )  # fmt: skip
            panel.axline((0.5, 0.5), slope=1, color=FAINT, lw=1, ls="--", transform=panel.transAxes)
            ends = [*panel.get_xlim(), *panel.get_ylim()]
            panel.set_xlim(min(ends), max(ends))
            panel.set_ylim(min(ends), max(ends))
            panel.set_box_aspect(1)
            panel.set_title(_title(axis, "\n"))
            panel.set_xlabel("claimed by the search")
            panel.set_ylabel(f"mean ± sd of {confirmed.n_seeds} fresh seeds")
        _legend(figure)
    return StaticFigure(figure)


FIGURES: Final[Mapping[str, Callable[[Sequence[RunRecord], Sequence[str]], StaticFigure]]] = {
    "front": front_figure,
    "parallel": parallel_figure,
    "hypervolume": hypervolume_figure,
    "importance": importance_figure,
    "confirmed": confirmed_figure,
}
"""The figures of runs by name."""


def notable(record: RunRecord) -> dict[str, Metrics]:
    """Members with a role, by the name that the page of the run gives them: knee, best in an objective, cheapest."""
    metrics = {member.key: member.metrics for member in record.members}
    return {own.name: metrics[key] for key, own in names_of(record).items() if own.roles}


def _axes(records: Sequence[RunRecord], names: Sequence[str]) -> list[Objective]:
    """The objectives with these names, or all.

    Raises:
        ConfigError: there is no such objective, or the runs have different objectives.
    """
    check_same_goals(records)
    first = records[0]
    if len(records) > MOST_RUNS:
        raise ConfigError(
            f"a figure shows at most {MOST_RUNS} runs, got {len(records)}; `evorec compare` takes any number"
        )
    known = {name: axis for axis in first.objectives for name in (axis.metric, axis.name)}
    for name in names:
        if name not in known and first.resolve(name) not in known:
            raise ConfigError(
                f"{name!r} is not an objective of {first.shown}{guess(name, [axis.name for axis in first.objectives])}"
            )
    chosen = [known[name if name in known else first.resolve(name)] for name in names]
    return list(dict.fromkeys(chosen)) or list(first.objectives)


def _runs(records: Sequence[RunRecord]) -> Iterator[tuple[RunRecord, str, str]]:
    """Runs with their colours and markers."""
    yield from zip(records, RUNS, MARKERS, strict=False)


def _baselines(records: Sequence[RunRecord]) -> list[tuple[str, Metrics, str]]:
    """Name, metrics and colour of every baseline: `ORANGE` if all runs have the same, else the colours of the runs."""
    measured = {axis.metric for axis in records[0].objectives}

    def own(record: RunRecord) -> list[tuple[str, dict[str, float]]]:
        return [(name, {k: v for k, v in m.items() if k in measured}) for name, m in record.baselines.items()]

    if all(own(record) == own(records[0]) for record in records):
        return [(name, metrics, ORANGE) for name, metrics in records[0].baselines.items()]
    return [
        (name, metrics, colour) for record, colour, _ in _runs(records) for name, metrics in record.baselines.items()
    ]


def _baseline_shares(record: RunRecord) -> dict[str, float]:
    """Hypervolume of each baseline by itself, of those that have every objective."""
    needed = {axis.metric for axis in record.objectives}
    known = {name: own for name, own in record.baselines.items() if needed <= own.keys()}
    return {name: hypervolume_share([own], record.objectives) for name, own in known.items()}


def _values(rows: Sequence[Metrics], axes: Sequence[Objective]) -> FloatArray:
    """Values ``(N, M)``, NaN where a row has none, logarithms on logarithmic axes."""
    values = np.array([[row.get(axis.metric, np.nan) for axis in axes] for row in rows], dtype=np.float64)
    values = values.reshape(-1, len(axes))
    is_log = [axis.log10 for axis in axes]
    values[:, is_log] = np.log10(np.maximum(values[:, is_log], 1e-300))
    return values


def _new(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.06))  # inches
    FigureCanvasAgg(figure)  # measures texts, without the state of pyplot
    return figure


def _title(axis: Objective, gap: str = " ") -> str:
    """An objective with its unit, and an arrow that points to its good end."""
    unit = f" [{axis.unit}]" if axis.unit else ""
    return f"{axis.name}{unit}{gap}({'↑ more' if axis.direction == 'max' else '↓ less'} is better)"


def _scaled(panel: Axes, across: Objective, down: Objective) -> None:
    """Titles, scales and ticks of a panel."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    panel.set_xlabel(_title(across))
    panel.set_ylabel(_title(down))
    for objective, axis, scale in (
        (across, panel.xaxis, panel.set_xscale),
        (down, panel.yaxis, panel.set_yscale),
    ):
        if objective.log10:
            scale("log", nonpositive="clip")
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=7))
            axis.set_minor_formatter(NullFormatter())
        if objective.log10 or max(abs(objective.ideal), abs(objective.worst)) >= 1000:
            axis.set_major_formatter(EngFormatter(sep=" "))


def _points(panel: Axes, rows: Sequence[Metrics], across: Objective, down: Objective, **look: Any) -> None:
    known = [row for row in rows if {across.metric, down.metric} <= row.keys()]
    if known:
        panel.scatter([row[across.metric] for row in known], [row[down.metric] for row in known], **look)


def _legend(
    figure: Figure, where: Literal["outside upper center", "outside right upper"] = "outside upper center"
) -> None:
    """What the shapes and colours of all panels mean."""
    found: dict[str, Any] = {}
    for panel in figure.axes:
        found |= {label: handle for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    if found:
        figure.legend(list(found.values()), list(found), loc=where, ncols=1 if "right" in where else min(4, len(found)))


def _place(figure: Figure, labels: Sequence[tuple[Axes, float, float, str, str]]) -> None:
    """Write names beside points, where they cover least of other names and points, and stay inside of their panel.

    Args:
        figure: with its panels filled.
        labels: panel, position, text and colour.
    """
    from matplotlib.patheffects import withStroke
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()  # now the panels have their size
    renderer = cast("FigureCanvasAgg", figure.canvas).get_renderer()  # type: ignore[no-untyped-call]
    taken: dict[Axes, list[Any]] = {}
    for panel in dict.fromkeys(panel for panel, *_ in labels):
        size = 2.5 * figure.dpi / 72
        dots = [panel.transData.transform(cloud.get_offsets()) for cloud in panel.collections]
        taken[panel] = [Bbox.from_extents(x - size, y - size, x + size, y + size) for x, y in np.vstack(dots)]
    near = [(6, 0), (-6, 0), (0, 8), (0, -8), (7, 9), (-7, 9), (7, -9), (-7, -9)]
    far = [
        (dx * r, dy * r) for r in (1, 2) for dx, dy in ((10, 18), (-10, 18), (10, -18), (-10, -18), (0, 20), (0, -20))
    ]
    spots = [(dx, dy, "left" if dx > 0 else "right" if dx else "center") for dx, dy in (*near, *far)]
    for panel, x, y, text, colour in labels:
        best: tuple[float, Annotation, Any] | None = None
        for dx, dy, side in spots:
            note = panel.annotate(
                text, (x, y), (dx, dy), textcoords="offset points", ha=side, va="center", fontsize=7.5, color=colour,
                annotation_clip=False,
                arrowprops={"arrowstyle": "-", "lw": 0.5, "color": colour, "shrinkA": 0, "shrinkB": 2},
                path_effects=[withStroke(linewidth=2, foreground="white", alpha=0.8)],
            )  # fmt: skip
            note.set_in_layout(False)
            note.update_positions(renderer)
            box = Text.get_window_extent(note, renderer).expanded(1.02, 1.1)  # without its line
            covered = sum(_overlap(box, other) for other in taken[panel])
            covered += 2 * (box.width * box.height - _overlap(box, panel.bbox))
            if best is None or covered < best[0]:
                if best is not None:
                    best[1].remove()
                best = (covered, note, box)
            else:
                note.remove()
            if best[0] <= 1e-6:
                break
        assert best is not None
        taken[panel].append(best[2])


def _overlap(box: Any, other: Any) -> float:
    """Area that two boxes share, in pixels."""
    width = min(box.x1, other.x1) - max(box.x0, other.x0)
    height = min(box.y1, other.y1) - max(box.y0, other.y0)
    return float(max(width, 0.0) * max(height, 0.0))
