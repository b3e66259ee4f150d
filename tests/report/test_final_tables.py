from html.parser import HTMLParser
from typing import Any

import pytest
from example_record import record

from evorec.report.final_tables import final_notes, final_sections, final_tables
from evorec.report.run_page import page

BEFORE: dict[str, Any] = {
    "seeds": [1, 2],
    "picks": [
        {
            "pick": "knee",
            "member": "0123456789abcdef",
            "test": {"recall@20": {"mean": 0.12, "sd": 0.01}, "training_flops": {"mean": 2e7, "sd": 0.0}},
            "against": {
                "popularity": {"metric": "recall@20", "mean_difference": 0.02, "low": 0.01, "high": 0.03},
                "ease": {"metric": "recall@20", "mean_difference": -0.02, "low": -0.03, "high": -0.01},
                "item_knn": {"metric": "recall@20", "mean_difference": 0.01, "low": 0.0, "high": 0.02},
            },
        }
    ],
    "baselines": {"popularity": {"recall@20": 0.1}},
}
"""What `finalize` wrote before there were steps, intervals and parts."""

ROWS = {
    "known": {"rows": 1200, "auc/click": 0.7, "accuracy": 0.7},
    "new_users": {"rows": 30, "auc/click": 0.6, "accuracy": 0.6},
    "new_items": {"rows": 0, "n_undefined": 1},
}
USERS = {"with_history": {"users": 90, "recall@20": 0.13}, "without_history": {"users": 10, "recall@20": 0.02}}
FINAL: dict[str, Any] = {
    **BEFORE,
    "picks": [
        {
            **BEFORE["picks"][0],
            "steps": 1200,
            "ended": "longest",
            "shipped": {
                "accuracy": 0.7,
                "auc/click": 0.7,
                "concordance/watch": 0.6,
                "recall@20": 0.12,
                "ndcg@20": 0.05,
            },
            "interval": {"auc/click": {"low": 0.68, "high": 0.72}, "recall@20": {"low": 0.1, "high": 0.14}},
            "parts": {"rows": ROWS, "users": USERS, "cold_start_recall@20": 0.01},
            "non_dominated": True,
        },
    ],
    "baselines": {
        "popularity": {"recall@20": 0.1, "cold_start_recall@20": 0.0},
        "gradient_boosting": {"auc/click": 0.69, "accuracy": 0.69},
    },
    "baseline_parts": {"popularity": {"users": USERS}, "gradient_boosting": {"rows": ROWS}},
    "skipped_baselines": {"ease": "the catalogue has 30000 items, more than 20000"},
    "boosting": {"click": {"rows": 500_000, "of_rows": 1_200_000}},
    "dominance": {"objectives": ["accuracy"], "left_out": ["latency_ms"]},
    "proxies": {
        "n": 4,
        "of": {"accuracy": {"spearman": 0.8, "kendall": 2 / 3}, "training_flops": {"spearman": -1.0, "kendall": -1.0}},
        "left_out": {"recall@20": "all members have the same value, or one has none"},
    },
}
FINAL["picks"].append(
    {**FINAL["picks"][0], "pick": "fedcba9876543210", "member": "fedcba9876543210", "steps": 90, "ended": "patience",
     "non_dominated": False}
)  # fmt: skip


def test_there_is_no_test_table_before_finalize() -> None:
    assert final_tables(record()) == ()
    assert final_notes(record()) == ""


def test_a_report_of_an_older_evorec_has_its_two_tables() -> None:
    table, against = final_tables(record(final=BEFORE))
    assert table.title == "Test, mean of 2 seeds ± standard deviation"
    assert [column.key for column in table.columns] == [
        "member", "accuracy", "recall@20", "training_flops", "catalogue_coverage@20",
    ]  # fmt: skip
    assert table.rows[0].values == ("01234567", "–", "0.1200\n± .0100", "20.0 M", "–")
    assert table.rows[1].values[2] == "0.1000"
    assert len(against.rows) == 3
    assert final_notes(record(final=BEFORE)) == ""


def test_a_difference_counts_only_when_its_interval_leaves_zero_out() -> None:
    table = final_tables(record(final=FINAL))[1]
    assert [row.values[-1] for row in table.rows[:3]] == ["better", "worse", "not shown to differ"]
    assert table.rows[0].values[1:3] == ("+0.0200", "+0.0100 to +0.0300")


def test_the_test_is_shown_with_steps_the_boosting_and_a_mark_for_what_is_dominated() -> None:
    table = final_tables(record(final=FINAL))[0]
    assert table.title.startswith("Test, mean of 2 seeds ± standard deviation; † another pick is no worse")
    assert [row.values[:2] for row in table.rows[:2]] == [("01234567", 1200), ("fedcba98 †", 90)]
    assert table.columns[1].text(1200) == "1,200"
    assert [row.name for row in table.rows] == ["knee", "fedcba98", "popularity", "gradient_boosting"]
    assert table.rows[3].values == ("", "", "0.6900", "–", "–", "–")
    assert [row.kind for row in table.rows] == ["member"] * 2 + ["baseline"] * 2


def test_a_long_pick_stands_on_several_lines() -> None:
    long = {**FINAL["picks"][0], "pick": "best:recall,cost<=2e12,accuracy >= 0.7"}
    table = final_tables(record(final={**FINAL, "picks": [long]}))[0]
    assert table.rows[0].name == "best:recall,\ncost<=2e12, accuracy\n>= 0.7"


def test_intervals_stand_under_what_they_are_of() -> None:
    table = final_tables(record(final=FINAL))[2]
    assert [column.key for column in table.columns] == ["recall@20", "ndcg@20", "auc/click", "concordance/watch"]
    assert table.rows[0].values == ("0.1200\n.1000–.1400", "0.0500", "0.7000\n.6800–.7200", "0.6000")
    assert table.rows[-1].values == ("–", "–", "0.6900", "–")


def test_parts_have_their_counts_and_a_dash_where_nothing_is_defined() -> None:
    table = final_tables(record(final=FINAL))[3]
    assert [column.title for column in table.columns] == [
        "accuracy\nknown\n1,200 rows",
        "accuracy\nnew users\n30 rows",
        "accuracy\nnew items\n0 rows",
        "recall@20\nwith history\n90 users",
        "recall@20\nwithout history\n10 users",
        "cold start\nrecall@20",
    ]
    assert table.rows[0].values == (0.7, 0.6, None, 0.13, 0.02, 0.01)
    assert {row.name: row.values for row in table.rows[2:]} == {
        "popularity": (None, None, None, 0.13, 0.02, 0.0),
        "gradient_boosting": (0.7, 0.6, None, None, None, None),
    }


def test_rank_correlations_are_named_like_the_objectives() -> None:
    table = final_tables(record(final=FINAL))[4]
    assert [(row.name, row.values) for row in table.rows] == [
        ("accuracy", ("+0.80", "+0.67", 4)),
        ("cost", ("-1.00", "-1.00", 4)),
    ]
    none = {**FINAL, "proxies": {"n": 2, "of": {}, "left_out": {"accuracy": "needs 3", "recall@20": "needs 3"}}}
    assert len(final_tables(record(final=none))) == 4
    assert "No rank correlation with the search of accuracy, recall@20: needs 3." in final_notes(record(final=none))


def test_what_was_left_out_is_said() -> None:
    assert final_notes(record(final=FINAL)).splitlines() == [
        "1 of 2 members reached finalize.longest with a metric still in its patience.",
        "Dominance leaves out latency_ms: the test does not measure it.",
        "No ease: the catalogue has 30000 items, more than 20000.",
        "gradient_boosting was fitted on 500,000 of 1,200,000 training rows.",
        "No rank correlation with the search of recall@20: all members have the same value, or one has none.",
    ]


class Headings(HTMLParser):
    """The texts of all ``h2``."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag == "h2"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.found.append(data)
        self._inside = False


@pytest.mark.parametrize("final", [BEFORE, FINAL])
def test_the_page_has_every_table_of_the_test(final: dict[str, Any]) -> None:
    full = record(final=final)
    headings = Headings(page(full)).found
    assert {table.title for table in final_tables(full)} <= set(headings)
    assert ("Missing from the test" in headings) is bool(final_notes(full))
    assert all(about for _, about in final_sections(full))
