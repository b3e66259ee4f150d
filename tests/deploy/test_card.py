"""The model card of a bundle."""

from evorec.deploy.card import model_card

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
    "data": {"name": "shop", "sha256": "00", "users": 3, "items": 4, "training_rows": 5},
}


def test_a_card_says_which_tasks_are_numbers():
    card = model_card(MANIFEST)
    assert (
        "Multi-task recommender for click, watch (regression), late (quantile 0.9); lists are made for click." in card
    )
    assert "| rmse/watch | 12.5 |" in card.splitlines()


def test_a_card_says_which_tasks_are_better_low():
    card = model_card({**MANIFEST, "lower_is_better": ["watch"]})
    assert "recommender for click, watch (regression) (lower is better), late (quantile 0.9); lists" in card
