"""The model card of a bundle."""

from evorec.deploy.bundle.card import model_card

MANIFEST = {
    "member": "ab12",
    "problem": "shop",
    "tasks": ["click", "watch", "late"],
    "kinds": {"watch": "regression", "late": {"quantile": 0.9}},
    "target": "click",
    "k": 10,
    "fit": "train",
    "metrics": {"validation": {"rmse/watch": 12.5}, "test": None},
    "against": None,
    "spec": {"width": 16},
    "data": {"name": "shop", "licence": "", "sha256": "00", "users": 3, "items": 4, "training_rows": 5},
    "objectives": [{"name": "accuracy", "better": "max"}, {"name": "cost", "better": "min"}],
    "formula": {"text": "retrieval + 0.25*z_click", "short": "retrieval + 0.25*z_click", "source": "given by hand"},
    "mmr": 0.3,
    "candidates": 200,
    "words": ["All tasks share the embeddings."],
    "neighbours": ["cd34 gives up 0.1 accuracy for half the cost."],
    "lists": {"n_users": 7, "n_equal": 6, "largest_difference": 2e-6},
    "parity": {"recommend": 1e-7, "ranker": 3e-7},
    "variants": {
        "int8": {
            "file": "recommend.int8.onnx", "bytes": 1000, "bytes_of_full": 4000, "list_loss": 0.0125,
        }
    },
}  # fmt: skip


def test_the_card_marks_regression_tasks():
    card = model_card(MANIFEST)
    assert (
        "Multi-task recommender for click, watch (regression), late (quantile 0.9); lists are made for click." in card
    )
    assert "| rmse/watch | 12.5 |" in card.splitlines()


def test_the_card_marks_tasks_where_lower_is_better():
    card = model_card({**MANIFEST, "lower_is_better": ["watch"]})
    assert "recommender for click, watch (regression) (lower is better), late (quantile 0.9); lists" in card


def test_the_card_has_means_over_fresh_seeds_and_says_that_a_member_is_dominated_in_them():
    fresh = {"seeds": 2, "standing": "dominated", "means": {"rmse/watch": 13.0}, "sds": {"rmse/watch": 0.5}}
    card = model_card({**MANIFEST, "metrics": {**MANIFEST["metrics"], "fresh": fresh}})
    assert "| metric | validation | fresh seeds, mean ± sd |" in card.splitlines()
    assert "| rmse/watch | 12.5 | 13 ± 0.5 |" in card.splitlines()
    assert "with 2 fresh seeds, on the rows of the search" in card
    assert "Another member of the front dominates it in these means." in card


def test_the_card_lists_objectives_checks_and_limits():
    card = model_card(MANIFEST)
    for line in (
        "A trade-off that a search found between accuracy (high), cost (low).",
        "`retrieval + 0.25*z_click` (given by hand), over the best 200 items of retrieval.",
        "- All tasks share the embeddings.",
        "- cd34 gives up 0.1 accuracy for half the cost.",
        "- Graphs against PyTorch: largest relative difference 3e-07.",
        "- Licence of the data, which applies to the model: that of your own data.",
    ):
        assert line in card.splitlines()
    assert "7 users compared with the trained member: 6 equal item by item" in card
    assert "re-ranked for diversity (MMR) with weight 0.3" in card
    assert "1,000 bytes instead of 4,000; 1.25% of the listed items change" in card
    licensed = model_card({**MANIFEST, "data": {**MANIFEST["data"], "licence": "CC BY-SA 4.0"}})
    assert "which applies to the model: CC BY-SA 4.0." in licensed
