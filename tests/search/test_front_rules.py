"""Rules of the front in words, and the skill below which none is shown."""

import numpy as np

from evorec.search.front_rules import LEAST_SKILL, front_rules


def specs(n=120, seed=0):
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        spec = {
            "mix": str(rng.choice(["gate", "mean", "sum"])),
            "rate": float(rng.choice([0.001, 0.003, 0.01, 0.03, 0.1])),
            "tower": bool(rng.random() < 0.5),
            "width": int(rng.choice([16, 32, 64])),
        }
        out.append({**spec, "experts": int(rng.choice([2, 4, 6, 8]))} if spec["mix"] == "gate" else spec)
    return out


def test_rules_are_the_conditions_in_the_values_of_the_genes():
    rows = specs()
    on_front = [spec["tower"] and 0.003 <= spec["rate"] <= 0.03 for spec in rows]
    found = front_rules(rows, on_front)
    assert found.skill > 0.95
    (rule,) = found.rules
    assert sorted(rule.conditions) == ["rate from 0.003 to 0.03", "tower is yes"]
    assert (rule.n_front, rule.n) == (sum(on_front), sum(on_front))
    assert found.n == 120
    assert str(rule).endswith(f"{rule.n} of {rule.n} genomes are on the front")


def test_choices_and_conditional_genes_are_said_by_their_parent():
    rows = specs()
    (rule,) = front_rules(rows, [spec["mix"] == "gate" and spec["experts"] >= 6 for spec in rows]).rules
    assert rule.conditions == ("experts at least 6",), "it is at least 6 only where it is active"
    (rule,) = front_rules(rows, [spec["mix"] != "gate" for spec in rows]).rules
    assert rule.conditions in [("mix is not gate",), ("mix is not 'gate'",)]
    (rule,) = front_rules(rows, [spec["mix"] == "sum" for spec in rows]).rules
    assert rule.conditions == ("mix is sum",)
    both = front_rules(rows, [spec.get("experts", 2) <= 4 for spec in rows])
    assert {condition for rule in both.rules for condition in rule.conditions} == {"experts at most 4 or not active"}


def test_a_front_by_chance_has_a_reason_and_no_rule():
    rng = np.random.default_rng(5)
    found = front_rules(specs(), (rng.random(120) < 0.4).tolist())
    assert found.skill < LEAST_SKILL
    assert not found.rules
    assert "and 0.65 is needed (guessing: 0.50)" in found.reason


def test_a_front_that_is_too_small_has_a_reason():
    found = front_rules(specs(), [row < 7 for row in range(120)])
    assert found.skill is None
    assert found.reason.startswith("7 of 120 genomes are on the front; at least 8 on it and 8 others are needed")


def test_worlds_are_unseen_when_the_skill_is_measured():
    """A gene that names the world tells nothing about a world that was not seen."""
    rows = [{"world_size": size, "noise": row % 5} for size in (1, 2, 3, 4) for row in range(30)]
    on_front = [spec["world_size"] in (1, 3) and row % 3 > 0 for row, spec in enumerate(rows)]
    worlds = [f"w{spec['world_size']}" for spec in rows]
    assert front_rules(rows, on_front).skill > LEAST_SKILL > front_rules(rows, on_front, worlds=worlds).skill


def test_equal_rows_give_equal_rules():
    rows = specs()
    on_front = [spec["width"] >= 32 for spec in rows]
    assert front_rules(rows, on_front) == front_rules(rows, on_front)
    assert front_rules(rows, on_front).rules[0].conditions == ("width at least 32",)
