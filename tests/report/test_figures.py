import pytest
from example_record import FRONT, record

from evorec.report.figures import hypervolume_figure, parallel_figure, scatter_figure


def test_parallel_axes_point_up_to_the_good_end() -> None:
    lines = {trace.name: list(trace.y) for trace in parallel_figure(record()).data}
    # accuracy 0.65..0.75; recall 0.10 (popularity)..0.16; cost 8e7 (bad)..2e7 (good), on log10
    assert lines["aaaa"] == pytest.approx([0.5, 1 / 3, 1.0])
    assert lines["bbbb"][0] == 1.0
    assert lines["cccc"] == pytest.approx([0.0, 1.0, 0.0])
    assert lines["popularity"] == pytest.approx([0.0])  # the one objective it has: recall, the worst of all


def test_every_pair_of_objectives_has_a_panel_with_front_and_baselines() -> None:
    figure = scatter_figure(record(failures=("no memory",)))
    assert len(figure.data) == 3 * 3  # 3 pairs of 3 objectives, 3 kinds of points
    by_name = [trace for trace in figure.data if trace.name == "front"]
    assert all(len(trace.x) == 3 for trace in by_name)
    assert sum(bool(trace.showlegend) for trace in by_name) == 1


def test_hypervolume_is_drawn_from_the_first_generation() -> None:
    (line,) = hypervolume_figure(record()).data
    assert (list(line.x), list(line.y)) == ([1, 2], [0.1, 0.2])


@pytest.mark.parametrize("n", [0, 1])
def test_figures_of_an_empty_or_single_front_can_be_drawn(n: int) -> None:
    few = record(dict(list(FRONT.items())[:n]), baselines={})
    for figure in (parallel_figure(few), scatter_figure(few), hypervolume_figure(few)):
        assert figure.layout.height


def test_dropped_genomes_are_in_no_figure() -> None:
    """Values of a rung beside values of a whole training would say nothing."""
    with_dropped, without = record(dropped=(100, 100, 200)), record()
    for draw in (scatter_figure, parallel_figure, hypervolume_figure):
        assert draw(with_dropped) == draw(without)
