"""The importance of genes of a run as tables, words and a figure."""

import pytest
from example_record import metrics, record

from evorec.errors import ConfigError, DataError
from evorec.report.gene_tables import (
    best_table,
    front_notes,
    importance_figure,
    importance_notes,
    importance_table,
    run_genes,
)
from evorec.report.run_page import page
from evorec.run.ledger import Evaluation
from evorec.search.front_rules import FrontRules, Rule
from evorec.search.gene_importance import GeneImportance

FOUND = [
    GeneImportance(
        "accuracy", 60, 0.712, {"rate": 0.61, "mix": 0.3, "width": 0.049, "idle": 0.001},
        {"rate": "0.01 to 0.1", "mix": "gate", "width": "64", "idle": "no"},
    ),
    GeneImportance("recall@20", 60, 0.21, reason="the model guesses"),
    GeneImportance(
        "cost", 60, 1.0, {"width": 0.96, "rate": 0.0, "mix": 0.0, "idle": 0.02}, {"width": "16"}, exact=True
    ),
]  # fmt: skip


def searched(n: int = 40):
    """Accuracy by width, cost by depth, recall constant; the front is the wide half; a dropped and a failed genome."""
    rows = [
        Evaluation(
            seq,
            f"k{seq}",
            1,
            (0.5,),
            {"width": 8 * (1 + seq % 8), "depth": 1 + seq // 8},
            metrics(0.5 + 0.05 * (seq % 8), 0.2, 1e7 * 2.0 ** (seq // 8), 0.3),
            None,
        )
        for seq in range(n)
    ]
    members = [row for row in rows if row.seq % 8 >= 4]
    wrong = metrics(0.9, 0.9, 1e6, 0.9)
    rows.append(Evaluation(n, "dropped", 1, (0.5,), {"width": 1, "depth": 99}, wrong, None, rung=60))
    rows.append(Evaluation(n + 1, "failed", 1, (0.5,), {"width": 2, "depth": 98}, None, "diverged"))
    return record(evaluations=tuple(rows), members=tuple(members))


def test_a_table_has_the_objectives_that_are_known_and_the_genes_that_matter():
    table = importance_table(FOUND)
    assert [column.key for column in table.columns] == ["accuracy", "cost"]
    assert [(row.name, row.values) for row in table.rows] == [
        ("width", (0.049, 0.96)), ("rate", (0.61, 0.0)), ("mix", (0.3, 0.0))
    ]  # fmt: skip
    assert table.columns[0].text(0.049) == "5 %"
    trusted, shares, small, missing = importance_notes(FOUND)
    assert "accuracy 0.71, cost exact (60 genomes)" in trusted
    assert "more than 100 %" in shares
    assert small == "Left out: 1 gene with less than 5 % of every objective."
    assert missing == "recall@20: not shown, because the model guesses."
    assert importance_table(FOUND[1:2]).rows == ()
    best = best_table(FOUND)
    assert [(row.name, row.values) for row in best.rows] == [
        ("width", (None, "16")), ("rate", ("0.01 to 0.1", None)), ("mix", ("gate", None))
    ]  # fmt: skip


def test_a_run_is_analysed_without_dropped_and_failed_genomes():
    importance, front = run_genes(searched())
    accuracy, recall, cost = importance
    assert (accuracy.n_rows, front.n, front.n_front) == (40, 40, 20)
    assert accuracy.shares["width"] == pytest.approx(1.0, abs=0.02)
    assert cost.shares["depth"] == pytest.approx(1.0, abs=0.02)
    assert recall.reason == "it has the same value for every genome"
    assert front.rules == (Rule(("width at least 40",), 20, 20),)
    (only,), _ = run_genes(searched(), ["training_flops"])
    assert only == cost


def test_a_run_without_enough_genomes_and_an_unknown_objective_are_refused():
    with pytest.raises(ConfigError, match=r"'acuracy' is not an objective of .*did you mean 'accuracy'\?"):
        run_genes(searched(), ["acuracy"])
    with pytest.raises(DataError, match="no evaluation that succeeded and was trained to the end"):
        run_genes(record({}, failures=("no memory",)))
    with pytest.raises(DataError, match="at least 20 genomes"):
        run_genes(record())


def test_rules_are_words_with_their_skill():
    found = FrontRules(20, 60, 0.789, (Rule(("rate at least 0.01", "mix is gate"), 12, 15),))
    assert front_notes(found) == [
        "rate at least 0.01, mix is gate: 12 of 15 genomes are on the front",
        "Of all 60 genomes, 20 are on the front. Balanced accuracy on unseen genomes: 0.79 (guessing: 0.50).",
    ]
    assert front_notes(FrontRules(1, 60, None, reason="too few")) == ["No rule is shown: too few."]


def test_the_figure_has_bars_of_the_table_from_top_to_bottom():
    bars = importance_figure(FOUND).data
    assert [(bar.name, list(bar.y), list(bar.x)) for bar in bars] == [
        ("cost", ["mix", "rate", "width"], [0.0, 0.0, 0.96]),
        ("accuracy", ["mix", "rate", "width"], [0.3, 0.61, 0.049]),
    ]


def test_the_page_says_what_matters_or_why_it_cannot():
    text = page(searched())
    assert "<h2>What matters</h2>" in text
    assert "width at least 40: 20 of 20 genomes are on the front" in text
    assert "Nothing can be said: the importance of genes needs at least 20 genomes" in page(record())
