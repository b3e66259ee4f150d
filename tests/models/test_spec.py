"""From decoded genes to the settings of a model."""

from dataclasses import fields

import numpy as np
import pytest

from evorec.errors import ConfigError
from evorec.models.spec import ModelSpec, default_space

SPACE = default_space(("click", "like"), n_layers=3, days=14.0)


def genes():
    return SPACE.decode(SPACE.default())


def test_every_genome_of_the_default_space_is_a_spec():
    for x in SPACE.sample(np.random.default_rng(0), 200):
        spec = ModelSpec.from_genes(SPACE.decode(x))
        assert spec.sharing_depth in range(4)
        assert spec.embedding_dim in (4, 8, 16, 32)
        assert spec.width in (16, 32, 64)
        assert sum(spec.task_weights) == pytest.approx(2)
        assert isinstance(spec.task_weights, tuple)


@pytest.mark.parametrize(("switch", "weight"), [("history", "history_weight"), ("rerank", "rank_blend")])
def test_a_switch_that_is_off_turns_its_weight_to_zero(switch, weight):
    on = {**genes(), "history": True, "history_weight": 0.7, "rerank": True, "rank_blend": 0.7}
    assert getattr(ModelSpec.from_genes(on), weight) == 0.7
    off = {name: value for name, value in {**on, switch: False}.items() if name != weight}
    assert getattr(ModelSpec.from_genes(off), weight) == 0.0


def test_missing_and_unknown_settings_are_listed_together():
    wrong = {**genes(), "colour": 1}
    del wrong["width"]
    with pytest.raises(ConfigError, match=r"missing \['width'\], unknown \['colour'\]"):
        ModelSpec.from_genes(wrong)


def test_the_genes_of_the_default_space_and_the_fields_of_a_spec_are_the_same_words():
    names = {field.name for field in fields(ModelSpec)}
    assert set(SPACE.names) - names == {"history", "rerank"}
    assert names <= set(SPACE.names)


def test_shape_is_embedding_dim_and_width():
    spec = ModelSpec.from_genes({**genes(), "embedding_dim": 8, "width": 64})
    assert spec.shape == (8, 64)
