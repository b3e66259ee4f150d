import pytest
from example_record import EASE, FRONT, OBJECTIVES, POPULARITY, metrics, record

from evorec.archive.confirmed import confirmed_front
from evorec.errors import ConfigError
from evorec.report.run_page import page
from evorec.report.run_tables import (
    confirmed_table,
    dropped_table,
    dropped_text,
    failure_table,
    front_table,
    gene_table,
    settings_table,
    verdict,
)
from evorec.report.table import show, show_metric


def test_front_is_sorted_by_the_first_objective_and_ends_with_the_baselines() -> None:
    table = front_table(record())
    assert [row.name for row in table.rows] == ["bbbb", "aaaa", "cccc", "ease", "popularity"]
    assert [row.kind for row in table.rows] == ["member"] * 3 + ["baseline"] * 2


def test_a_long_front_is_shortened_to_the_best_of_each_objective_and_a_spread() -> None:
    front = {f"m{i:02}": metrics(i / 100, 0.5 - i / 100, 1e6 * (1 + i % 7), (i * 37 % 50) / 50) for i in range(50)}
    table = front_table(record(front=front))
    short = front_table(record(front=front), most=12)
    members = [row.name for row in short.rows if row.kind == "member"]
    assert short.title == "Front on validation data: 12 of 50 members"
    assert len(members) == 12
    assert {"m49", "m00"} <= set(members)  # best accuracy and best recall
    assert any(front[key]["training_flops"] == 1e6 for key in members)
    assert [row.name for row in short.rows] == [
        row.name for row in table.rows if row.name in members or row.kind != "member"
    ]
    assert front_table(record(front=front), most=50) == table
    with pytest.raises(ConfigError, match="--most must be at least 3, the best member of each objective, got 2"):
        front_table(record(front=front), most=2)


def test_a_cost_is_sorted_upwards() -> None:
    assert [row.name for row in front_table(record(), "cost").rows][:3] == ["aaaa", "bbbb", "cccc"]


def test_baselines_without_the_metric_come_last_and_show_a_dash() -> None:
    table = front_table(record(baselines={"early": {}, "popularity": POPULARITY}), "recall@k")
    assert table.rows[-1].name == "early"
    assert {show_metric(value) for value in table.rows[-1].values} == {"–"}


def test_coverage_is_shown_though_it_is_no_objective() -> None:
    assert [column.key for column in front_table(record()).columns] == [
        "accuracy", "recall@20", "training_flops", "catalogue_coverage@20",
    ]  # fmt: skip


def test_the_best_value_is_that_of_a_member_in_the_good_direction() -> None:
    table = front_table(record())
    assert [table.best(index) for index in range(4)] == [0.75, 0.16, 2e7, 0.30]  # EASE covers 0.40, and is no member


def test_json_keeps_metric_names_and_unrounded_values() -> None:
    assert front_table(record()).as_json()[1] == {"member": "aaaa", "kind": "member", **FRONT["aaaa"]}


def test_an_unknown_sort_column_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'ndcg@k'; the columns are accuracy, recall@20, training_flops"):
        front_table(record(), "ndcg@k")


def test_without_members_the_least_infeasible_are_shown() -> None:
    full = record()
    table = front_table(record({}, least_infeasible=full.members[:1]))
    assert table.title.startswith("No member")
    assert (table.rows[0].name, table.rows[0].kind) == ("aaaa", "infeasible")


def test_verdict_counts_members_above_popularity_on_recall_and_coverage() -> None:
    # recall: all three > 0.10; coverage > 0.01: aaaa and cccc; recall > 0.15 (EASE): cccc
    assert verdict(record()) == (
        "2 of 3 members beat popularity (recall@20 0.1000, catalogue_coverage@20 0.0100) on both; "
        "1 beats the strongest baseline, ease, on recall@20 (0.1500). "
        "These are validation figures, which also chose the members."
    )


def test_verdict_says_when_only_recall_is_beaten() -> None:
    text = verdict(record({"bbbb": FRONT["bbbb"]}, baselines={"popularity": POPULARITY}))
    assert text.startswith(
        "1 of 1 members beat popularity (recall@20 0.1000, catalogue_coverage@20 0.0100) on recall@20, none"
    )


def test_verdict_says_when_nothing_is_beaten() -> None:
    text = verdict(record({"dddd": metrics(0.9, 0.10, 1e7, 0.9)}, baselines={"popularity": POPULARITY, "ease": EASE}))
    assert text.startswith(
        "No member of 1 beats popularity (recall@20 0.1000, catalogue_coverage@20 0.0100) on recall@20"
    )
    assert "; none beats the strongest baseline, ease" in text


def test_verdict_compares_lists_with_popularity_and_accuracy_with_gradient_boosting() -> None:
    boosted = {"gradient_boosting": {"accuracy": 0.65}}
    text = verdict(record({"bbbb": FRONT["bbbb"]}, baselines={"popularity": POPULARITY, **boosted}))
    beats = "1 beats" if FRONT["bbbb"]["accuracy"] > 0.65 else "none beats"
    assert f"; {beats} gradient_boosting on accuracy (0.6500). These are validation" in text
    without_lists = verdict(record({"bbbb": FRONT["bbbb"]}, baselines=boosted))
    assert " of 1 members beat gradient_boosting on accuracy, the mean over the tasks (0.6500)" in without_lists


def test_verdict_without_members_or_popularity() -> None:
    assert verdict(record({})) == "No candidate met every constraint, so the archive is empty."
    assert verdict(record(baselines={})) == "There is no popularity baseline to compare with."


FRESH = {
    "aaaa": [metrics(0.70, 0.11, 2e7, 0.3), metrics(0.74, 0.13, 2e7, 0.3)],
    "bbbb": [metrics(0.71, 0.10, 5e7, 0.1), metrics(0.71, 0.12, 5e7, 0.1)],  # worse than aaaa in all of its means
    "cccc": [metrics(0.65, 0.18, 8e7, 0.2), metrics(0.67, 0.18, 8e7, 0.2)],
}


def test_fresh_seeds_are_shown_below_what_was_claimed_and_decide_the_choice() -> None:
    found = record(confirmed=confirmed_front(FRONT, FRESH, OBJECTIVES, ()))
    table = front_table(found, "recall@k")
    assert [row["standing"] for row in table.as_json()] == ["member", "member", "dominated", None, None]
    assert [row.name for row in table.rows][2] == "bbbb"
    below = confirmed_table(found, front_table(found))
    assert below is not None
    assert [column.key for column in below.columns] == ["accuracy", "recall@20", "standing"]  # cost is certain
    assert [(row.name, *row.values) for row in below.rows] == [
        ("bbbb", "0.7500\n0.7100 ± 0", "0.1100\n0.1100 ± 0.014", "dominated"),
        ("aaaa", "0.7000\n0.7200 ± 0.028", "0.1200\n0.1200 ± 0.014", "member"),
        ("cccc", "0.6500\n0.6600 ± 0.014", "0.1600\n0.1800 ± 0", "member"),
    ]
    assert "With 2 fresh seeds 2 of 3 members are still non-dominated, 1 dominated; hypervolume 0." in verdict(found)
    assert list(found.eligible) == ["aaaa", "cccc"]
    assert found.eligible["aaaa"]["accuracy"] == pytest.approx(0.72)
    assert below.title in page(found)
    assert len(front_table(found, most=3).rows) == 3 + 2
    certain = record(confirmed=confirmed_front(FRONT, {key: [FRONT[key]] for key in FRONT}, OBJECTIVES, ()))
    assert confirmed_table(certain, front_table(certain)) is None
    assert front_table(certain) == front_table(record())
    assert "there is nothing to confirm" in verdict(certain)


def test_failures_of_one_cause_are_counted_together() -> None:
    table = failure_table(record(failures=("loss is nan at step 12", "no memory", "loss is nan at step 7\ntrace")))
    assert [(row.name, row.values) for row in table.rows] == [
        ("loss is nan at step #", (2, "f0")),
        ("no memory", (1, "f1")),
    ]


def test_dropped_ones_are_counted_by_their_rung() -> None:
    full = record(dropped=(200, 100, 100), failures=("no memory",))
    assert [(row.name, row.values) for row in dropped_table(full).rows] == [("step 100", (2,)), ("step 200", (1,))]
    assert dropped_text(full) == "2 dropped at step 100, 1 at step 200"
    assert dropped_text(record()) == ""
    assert len(failure_table(full).rows) == 1


def test_dropped_ones_are_not_in_the_front() -> None:
    assert front_table(record(dropped=(100,))) == front_table(record())


def test_genes_of_inactive_members_are_missing() -> None:
    full = record()
    first, *others = full.members
    without = type(first)(first.key, {"width": 16}, first.metrics)
    table = gene_table(record(members=(*others, without)))
    assert [column.key for column in table.columns] == ["width", "tower"]
    assert [row.name for row in table.rows] == ["bbbb", "aaaa", "cccc"]
    assert table.rows[1].values == (16, None)


def test_settings_are_dotted() -> None:
    rows = {row.name: row.values[0] for row in settings_table(record(settings={"training": {"steps": 7}})).rows}
    assert rows["training.steps"] == "7"
    assert rows["data.simulator.n_users"] == "1500"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.07991, "0.0799"), (999.4, "999.4000"), (999.9, "1.00 k"), (1000.0, "1.00 k"), (12_345_678.0, "12.3 M"),
     (999_600.0, "1.00 M"), (1.5e13, "15.0 T"), (0.0, "0.0000"), (2e-5, "2.00e-05"), (-0.5, "-0.5000")],
)  # fmt: skip
def test_metrics_read_as_four_decimals_or_three_digits(value: float, text: str) -> None:
    assert show_metric(value) == text


def test_nested_values_are_flat_text() -> None:
    assert show({"a": [1, None, True], "b": 0.25}) == "a 1, –, yes, b 0.25"
