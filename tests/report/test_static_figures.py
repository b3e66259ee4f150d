from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from example_record import FRONT, OBJECTIVES, record
from matplotlib.text import Text

from evorec.archive.confirmed import confirmed_front
from evorec.errors import ConfigError, DataError
from evorec.report.static_figures import (
    FIGURES,
    confirmed_figure,
    front_figure,
    hypervolume_figure,
    importance_figure,
    notable,
    parallel_figure,
)

FRESH = {key: [{**own, "accuracy": own["accuracy"] - 0.01}, own] for key, own in FRONT.items()}
CONFIRMED = record(confirmed=confirmed_front(FRONT, FRESH, OBJECTIVES, ()))


def test_members_with_a_role_have_the_names_of_the_page() -> None:
    # aaaa is the cheapest and lies between the others in accuracy and recall
    assert {name: found["training_flops"] for name, found in notable(record()).items()} == {
        "knee": 2e7, "best accuracy": 5e7, "best recall@20": 8e7,
    }  # fmt: skip


def test_every_pair_of_objectives_has_a_panel_with_the_front_and_the_baselines_that_have_both() -> None:
    figure = front_figure([record(failures=("no memory",))]).figure
    assert len(figure.axes) == 3
    panel = figure.axes[0]  # accuracy over recall: the baselines have no accuracy
    (front,) = [cloud for cloud in panel.collections if cloud.get_label() == "front"]
    assert np.asarray(front.get_offsets()).tolist() == [[0.12, 0.70], [0.11, 0.75], [0.16, 0.65]]
    assert [panel.get_xscale() for panel in figure.axes] == ["linear", "log", "log"]
    assert {text.get_text() for text in panel.texts} == {"knee", "best accuracy", "best recall@20"}


def test_names_stay_inside_of_their_panel() -> None:
    figure = front_figure([record()]).figure
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    for panel in figure.axes:
        for text in panel.texts:
            box = Text.get_window_extent(text, renderer)
            assert panel.bbox.x0 <= box.x0 + 1, text
            assert box.x1 <= panel.bbox.x1 + 1, text


def test_objectives_can_be_chosen_by_name_or_metric() -> None:
    figure = front_figure([record()], ["recall@20", "cost"]).figure
    (panel,) = figure.axes
    assert panel.get_xlabel() == "cost [FLOP] (↓ less is better)"
    with pytest.raises(ConfigError, match=r"'recal' is not an objective of .*did you mean 'recall@20'"):
        front_figure([record()], ["recal"])


def test_parallel_axes_point_up_to_the_good_end() -> None:
    (panel,) = parallel_figure([record()]).figure.axes
    lines = {line.get_label(): np.asarray(line.get_ydata()).tolist() for line in panel.lines}
    # accuracy 0.65..0.75; recall 0.10 (popularity)..0.16; cost 8e7 (bad)..2e7 (good), on log10
    assert lines["knee"] == pytest.approx([0.5, 1 / 3, 1.0])
    assert lines["best recall@20"] == pytest.approx([0.0, 1.0, 0.0])
    assert lines["popularity"] == pytest.approx([0.0])


def test_several_runs_are_drawn_over_each_other() -> None:
    first = record()
    second = replace(first, name="again", hypervolume=(0.3,))
    (panel,) = hypervolume_figure([first, second]).figure.axes
    drawn = {line.get_label(): np.asarray(line.get_ydata()).tolist() for line in panel.lines}
    assert drawn == {"feed-0123456789ab": [0.1, 0.2], "again": [0.3]}
    figure = front_figure([first, second], ["recall@20", "accuracy"]).figure
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["feed-0123456789ab", "again"]


def test_claimed_values_stand_against_the_means_of_fresh_seeds() -> None:
    (panel,) = confirmed_figure([CONFIRMED]).figure.axes  # accuracy alone depends on the seed
    points = [line for line in panel.lines if len(np.atleast_1d(line.get_xdata())) == 3]
    assert np.asarray(points[0].get_xdata()).tolist() == [0.70, 0.75, 0.65]
    assert np.asarray(points[0].get_ydata()).tolist() == pytest.approx([0.695, 0.745, 0.645])


@pytest.mark.parametrize(("kind", "magic"), [(".svg", b"<?xml"), (".png", b"\x89PNG"), (".pdf", b"%PDF")])
def test_a_figure_drawn_again_is_the_same_file_of_its_kind(kind: str, magic: bytes, tmp_path: Path) -> None:
    draw = FIGURES["hypervolume"]
    data = [draw([record()], ()).save(tmp_path / f"{turn}{kind}").read_bytes() for turn in (1, 2)]
    assert data[0].startswith(magic)
    assert data[0] == data[1]


def test_what_cannot_be_drawn_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"path must end with .svg, .png or .pdf, got front.gif"):
        front_figure([record()]).save(tmp_path / "front.gif")
    with pytest.raises(ConfigError, match=r"has no fresh seeds; `evorec confirm runs/feed-0123456789ab`"):
        confirmed_figure([record()])
    with pytest.raises(DataError, match="no complete generation yet"):
        hypervolume_figure([record(hypervolume=())])
    with pytest.raises(ConfigError, match="those of a single run"):
        confirmed_figure([CONFIRMED, CONFIRMED])
    with pytest.raises(ConfigError, match="that of a single run"):
        importance_figure([record(), record()])
    with pytest.raises(ConfigError, match="runs to compare must have the same objectives"):
        front_figure([record(), record(objectives=OBJECTIVES[:2])])
    with pytest.raises(DataError):
        importance_figure([record()])  # three genomes


@pytest.mark.parametrize("n", [0, 1])
def test_figures_of_an_empty_or_single_front_can_be_drawn(n: int) -> None:
    few = record(dict(list(FRONT.items())[:n]), baselines={})
    for draw, names in ((front_figure, ["accuracy", "cost"]), (parallel_figure, []), (hypervolume_figure, [])):
        assert draw([few], names)._repr_png_()


def test_a_dollar_and_a_foreign_letter_in_a_name_are_text() -> None:
    axes = (replace(OBJECTIVES[0], name="Gewinn in $ je 1 $"), replace(OBJECTIVES[1], name="再現率"), OBJECTIVES[2])
    assert front_figure([record(objectives=axes)], [axes[1].name, axes[0].name])._repr_png_()
