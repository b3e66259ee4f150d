import polars as pl
from worlds import correlation, flat, rate


def strong_and_mild() -> pl.DataFrame:
    return flat("treatment").with_columns(strong=pl.col("strength") > 0)


def test_strong_treatments_help_more_and_harm_more() -> None:
    log = strong_and_mild()
    for label in ("efficacy", "side_effect"):
        found = rate(log, label, "strong")
        assert found[True] > 1.2 * found[False], label


def test_strength_harms_the_frail_most_and_helps_them_least() -> None:
    harm, help_ = (rate(strong_and_mild(), label, "group", "strong") for label in ("side_effect", "efficacy"))
    added = {group: harm[group, True] - harm[group, False] for group in ("robust", "average", "frail")}
    assert added["robust"] < added["average"] < added["frail"]
    gained = {group: help_[group, True] - help_[group, False] for group in ("robust", "frail")}
    assert gained["frail"] < gained["robust"]


def test_satisfaction_follows_from_both() -> None:
    log = flat("treatment")
    assert log["satisfaction"].is_in([1.0, 2.0, 3.0, 4.0, 5.0]).all()
    found = rate(log, "satisfaction", "efficacy", "side_effect")
    # 3 + 1 - 1.5, rounded after noise of 0.6; cut at 1 and 5 where it matters little
    for (helped, harmed), mean in found.items():  # type: ignore[misc]
        assert abs(mean - (3 + helped - 1.5 * harmed)) < 0.15
    assert correlation(log, "satisfaction", "efficacy") > 0


def test_habit_does_not_know_the_groups() -> None:
    """Who gets what depends on the condition alone, so efficacy by group is not confounded."""
    given = rate(flat("treatment"), "strength", "group")
    assert max(given.values()) - min(given.values()) < 0.1
