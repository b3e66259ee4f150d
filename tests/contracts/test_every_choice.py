"""Options of genes in files of their own: the built-in ones, and a mechanism that a plugin brings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from contracts.source import ROOT

from evorec.models.balancing import BALANCINGS, StepLosses
from evorec.models.choice import Choice, ordered
from evorec.models.optimizer import OPTIMIZERS, ElementwiseOptimizer, FactoredOptimizer
from evorec.models.spec import CHOICES

STARTUP_S = 600.0  # a Python process that trains a model, on a busy machine

PLUGIN = '''
"""A mechanism of a few lines: a shared bottom whose tasks read the mean of all towers, with a gene of its own."""

from evorec.models.choice import MECHANISMS
from evorec.models.mechanism import Mechanism, towers
from evorec.space.genes import Real


class Blend(Mechanism):
    name = "blend"
    combines = True

    def genes(self, n_layers):
        return (Real("blend_share", 0.0, 1.0, default=0.5, limits=(0.0, 1.0), text="share of the mean"),)

    def levels(self, spec, shape):
        return towers(spec, shape, 0)

    def combine(self, logits, specs, shape):
        share = logits.new_tensor([spec.setting("blend_share") for spec in specs])[:, None, None]
        return logits + share * (logits.mean(1, keepdim=True) - logits)

    def describe(self, spec):
        return f"Towers, blended by {spec.setting('blend_share')}."


MECHANISMS.register(Blend.name, Blend())
'''

SEARCH = """
import json, sys
import numpy as np
from evorec.plugins import load_plugins
load_plugins([sys.argv[1]])
sys.path.insert(0, sys.argv[2])
import tiny
from evorec.models.mechanism import mechanism_of
from evorec.models.spec import ModelSpec, default_space
space = default_space(("click", "like", "purchase"), n_layers=2, days=9.0, funnel=True, uniform_negatives=8,
                      retrieval_batch=29).with_overrides({})
only = space.with_overrides({"mechanism": "blend", "embedding_dim": 8, "width": 16}, "test")
row = only.sample(np.random.default_rng(0), 1)[0]
genes = only.decode(row)
spec = ModelSpec.from_genes(genes)
data = tiny.dataset()
on_device = tiny.device_data(data)
alone = tiny.trained([spec], tiny.plan_of(data, on_device), on_device).population
beside = tiny.trained([tiny.spec(), spec], tiny.plan_of(data, on_device), on_device).population
same = all(np.array_equal(a, beside.member_arrays(1)[name]) for name, a in alone.member_arrays(0).items())
print(json.dumps({
    "last": space.gene("mechanism").options[-1], "own": "blend_share" in genes, "settings": dict(spec.settings),
    "round": only.decode(only.encode(genes)) == genes, "text": mechanism_of(spec).describe(spec), "same": same,
}))
"""

every_choice = pytest.mark.parametrize(
    ("kind", "choice"), [(kind, choice) for kind, choices in CHOICES.items() for choice in ordered(choices)]
)


@every_choice
def test_every_built_in_option_has_its_index_and_words(kind: str, choice: Choice) -> None:
    assert choice.order == ordered(CHOICES[kind]).index(choice)
    assert type(choice).__doc__ or sys.modules[type(choice).__module__].__doc__
    for gene in choice.genes(2):
        assert gene.text, gene.name


@pytest.mark.parametrize("name", list(BALANCINGS))
def test_a_balancing_replaces_only_the_state_it_declares(name: str) -> None:
    rule, rng = BALANCINGS[name], torch.Generator().manual_seed(0)
    state = {key: torch.full((4, 3), first, dtype=torch.float64) for key, first in rule.state.items()}
    for step in range(1, 25):
        vectors = torch.randn(4, 3, 5, generator=rng, dtype=torch.float64)
        losses, ones = torch.rand(4, 3, generator=rng, dtype=torch.float64) + 0.1, torch.ones(4, 3, dtype=torch.float64)
        now = StepLosses(step, 7, ones, losses, ones, 0.01 * ones[:, :1], vectors @ vectors.mT, 1e-16)
        for coefficients in rule.coefficients(now, state):
            assert coefficients.shape == (4, 3)
            assert bool((coefficients.isfinite()).all())
        assert state.keys() == rule.state.keys()


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_an_optimizer_lowers_a_quadratic_and_its_members_are_independent(name: str) -> None:
    rule = OPTIMIZERS[name]
    assert isinstance(rule, ElementwiseOptimizer | FactoredOptimizer)
    own = torch.tensor(np.random.default_rng(0).normal(size=(2, 6, 4)))
    finals = [minimised(rule, own), minimised(rule, own[:1])]
    assert bool((finals[0].square().sum((1, 2)) < own.square().sum((1, 2)) / 2).all())
    assert torch.equal(finals[0][:1], finals[1])


def minimised(rule: ElementwiseOptimizer | FactoredOptimizer, start: torch.Tensor) -> torch.Tensor:
    own, n = start.clone(), len(start)
    if isinstance(rule, ElementwiseOptimizer):
        moments = [torch.zeros_like(own) for _ in rule.states]
        for step in range(1, 101):
            direction = torch.empty_like(own)
            own -= 0.02 * rule.direction(moments, 2 * own, direction, step) * direction
        return own
    rows, columns, rate = own.new_zeros(n, 6, 1), own.new_zeros(n, 1, 4), own.new_full((n, 1, 1), 0.05)
    for step in range(1, 101):
        update = torch.empty_like(own)
        rule.variance(2 * own, rows, columns, update, None, step)
        rule.apply(own, 2 * own, update, rate, None, step, None)
    return own


def test_a_mechanism_in_a_file_of_its_own_is_searched_trained_and_described(tmp_path: Path) -> None:
    plugin = tmp_path / "blend.py"
    plugin.write_text(PLUGIN, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", SEARCH, str(plugin), str(ROOT / "tests")],
        cwd=ROOT, capture_output=True, text=True, timeout=STARTUP_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["last"], found["own"], found["round"], found["same"]) == ("blend", True, True, True)
    share = found["settings"]["blend_share"]
    assert found["text"] == f"Towers, blended by {share}."
