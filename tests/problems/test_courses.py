from itertools import pairwise

import polars as pl
from worlds import flat, rate

STEPS = ("enrol", "finish", "rated_well")


def progress() -> pl.DataFrame:
    """Each visit with the learner's level in the course's subject, worked out from what was finished before."""
    log = flat("courses").with_row_index("row")
    done = pl.when(pl.col("finish") == 1).then(pl.col("level")).otherwise(0)
    best = done.cum_max().shift(1, fill_value=0).over("user_id", "subject", order_by="row")
    return log.with_columns(reached=best).with_columns(ahead=pl.col("level") - pl.col("reached"))


def test_a_step_needs_the_step_before() -> None:
    log = flat("courses")
    assert not (log["finish"] > log["enrol"]).any()
    assert not (log["rated_well"] > log["finish"]).any()
    rates = [log[step].mean() for step in STEPS]
    assert all(0.05 < later < 0.9 * earlier for earlier, later in pairwise(rates))  # type: ignore[operator]


def test_the_next_level_is_preferred_and_a_harder_level_is_rarely_finished() -> None:
    log = progress().with_columns(pl.col("ahead").clip(0, 2))
    assert rate(log, "enrol", "ahead")[1] > rate(log, "enrol", "ahead")[2]
    finished = rate(log.filter(pl.col("enrol") == 1), "finish", "ahead")
    assert finished[2] < 0.75 * finished[1]


def test_learners_reach_higher_levels_over_time() -> None:
    log = flat("courses")
    first, last = log[: log.height // 4], log[-log.height // 4 :]
    assert last["level"].mean() > first["level"].mean() + 0.5  # type: ignore[operator]
    assert last["stage"].mean() > first["stage"].mean() + 1  # type: ignore[operator]


def test_the_stage_is_the_highest_level_finished_before() -> None:
    log = flat("courses").with_row_index("row")
    done = pl.when(pl.col("finish") == 1).then(pl.col("level")).otherwise(0)
    best = log.with_columns(best=done.cum_max().shift(1, fill_value=0).over("user_id", order_by="row"))
    assert (best["best"] == best["stage"]).all()
