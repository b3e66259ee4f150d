"""From decoded genes to the settings of a model, and the space they come from."""

from dataclasses import fields

import numpy as np
import pytest
from tiny import BALANCINGS, FUNNEL_MECHANISMS, MECHANISMS

from evorec.config import Bounds
from evorec.errors import ConfigError
from evorec.models.blocks import InputBlock
from evorec.models.choice import MECHANISMS as REGISTRY
from evorec.models.choice import ordered
from evorec.models.spec import CHOICES, NO_FIELDS, ModelSpec, default_space
from evorec.space.genes import Fixed

TASKS = ("click", "like", "purchase")


def space_of(**changes):
    settings = {"n_layers": 3, "days": 14.0, "funnel": True, "uniform_negatives": 128, "retrieval_batch": 256}
    return default_space(TASKS, **{**settings, **changes})


SPACE = space_of()


def genes(**changes):
    return {**SPACE.decode(SPACE.default()), **changes}


def of_mechanism(name, **changes):
    """Genes of a mechanism at their defaults."""
    space = SPACE.with_overrides({"mechanism": name}, "test")
    return {**space.decode(space.default()), **changes}


def test_every_genome_of_the_default_space_is_a_spec():
    seen = set()
    for x in SPACE.sample(np.random.default_rng(0), 300):
        spec = ModelSpec.from_genes(SPACE.decode(x))
        assert spec.sharing_depth in range(4)
        assert spec.embedding_dim in (8, 16, 32)
        assert spec.width in (16, 32, 64)
        assert spec.negatives in (16, 32, 64, 128, 256)
        assert sum(spec.task_weights) == pytest.approx(3)
        assert isinstance(spec.task_weights, tuple)
        seen.add(spec.mechanism)
    assert seen == set(MECHANISMS)


def test_the_default_is_a_shared_bottom_with_fixed_weights():
    spec = ModelSpec.from_genes(genes())
    assert (spec.mechanism, spec.sharing_depth, spec.task_embeddings) == ("shared_bottom", 2, False)
    assert (spec.balancing, spec.optimizer) == ("fixed", "adamw")
    assert (spec.retrieval_loss, spec.negatives, spec.negative_source) == ("softmax", 256, "batch")
    assert spec.settings == ()


@pytest.mark.parametrize(
    ("mechanism", "expected"),
    [  # depth, task embeddings, settings of its own
        ("single_task", (0, True, {})),
        ("shared_bottom", (2, False, {})),
        ("cross_stitch", (2, False, {})),
        ("mmoe", (2, False, {"experts": 4})),
        ("cgc", (2, False, {"shared_experts": 2, "task_experts": 1})),
        ("ple", (2, False, {"shared_experts": 2, "task_experts": 1})),
        ("stem", (2, True, {"shared_experts": 2, "task_experts": 1})),
        ("esmm", (2, False, {})),
        ("aitm", (2, False, {"calibrator_weight": 0.6})),
    ],
)
def test_a_spec_has_the_settings_of_its_mechanism_and_no_others(mechanism, expected):
    spec = ModelSpec.from_genes(of_mechanism(mechanism))
    assert (spec.sharing_depth, spec.task_embeddings, dict(spec.settings)) == expected


@pytest.mark.parametrize(
    ("mechanism", "depth", "kept"),
    [
        *(("shared_bottom", 0, True), ("shared_bottom", 1, False), ("esmm", 2, False), ("aitm", 0, True)),
        ("cross_stitch", 2, True),
    ],
)
def test_task_tables_that_no_unit_reads_are_left_out(mechanism, depth, kept):
    found = ModelSpec.from_genes(of_mechanism(mechanism, sharing_depth=depth, task_embeddings=True))
    assert found.task_embeddings is kept


def test_calibration_counts_for_gbce_only():
    assert ModelSpec.from_genes(genes(retrieval_loss="gbce", gbce_calibration=0.5)).setting("gbce_calibration") == 0.5
    with pytest.raises(ConfigError, match=r"unknown \['gbce_calibration'\]"):
        ModelSpec.from_genes(genes(gbce_calibration=0.5))


@pytest.mark.parametrize(("switch", "weight"), [("history", "history_weight"), ("rerank", "rank_blend")])
def test_a_switch_that_is_off_turns_its_weight_to_zero(switch, weight):
    on = {**genes(), "history": True, "history_weight": 0.7, "rerank": True, "rank_blend": 0.7}
    assert getattr(ModelSpec.from_genes(on), weight) == 0.7
    off = {name: value for name, value in {**on, switch: False}.items() if name != weight}
    assert getattr(ModelSpec.from_genes(off), weight) == 0.0


def test_missing_and_unknown_settings_are_listed_together():
    wrong = genes(colour=1)
    del wrong["width"]
    with pytest.raises(ConfigError, match=r"missing \['width'\], unknown \['colour'\]"):
        ModelSpec.from_genes(wrong)
    with pytest.raises(ConfigError, match=r"missing \['mechanism'\]"):
        ModelSpec.from_genes({name: value for name, value in genes().items() if name != "mechanism"})


def test_a_gene_of_another_mechanism_is_refused():
    with pytest.raises(ConfigError, match=r"with mechanism mmoe .* unknown \['sharing_depth'\]"):
        ModelSpec.from_genes(of_mechanism("mmoe", sharing_depth=1))


@pytest.mark.parametrize("name", CHOICES)
def test_an_unknown_name_is_refused_with_those_there_are(name):
    known = ", ".join(choice.name for choice in ordered(CHOICES[name]))
    with pytest.raises(ConfigError, match=rf"^{name} must be one of {known}; got 'nothing'\.$"):
        ModelSpec.from_genes(genes(**{name: "nothing"}))


def test_the_genes_of_the_default_space_and_the_fields_of_a_spec_are_the_same_words():
    names = {field.name for field in fields(ModelSpec)}
    own = {gene for choices in CHOICES.values() for choice in choices.values() for gene in choice.gene_names} - names
    assert set(SPACE.names) - names == {*NO_FIELDS, *own}
    assert names - set(SPACE.names) == {"settings", "off", "ranks", "pretrained", "new_item_popularity"}


def test_mechanisms_of_a_funnel_need_one():
    without = space_of(funnel=False)
    assert set(MECHANISMS) - set(without.gene("mechanism").options) == set(FUNNEL_MECHANISMS)
    assert "calibrator_weight" not in without.names
    with pytest.raises(ConfigError, match=r"space\.mechanism \(test\) must be one of .*, got 'esmm'"):
        without.with_overrides({"mechanism": "esmm"}, "test")


def test_without_uniform_items_all_negatives_come_from_the_batch():
    space = space_of(uniform_negatives=0)
    assert "negative_source" not in space.names
    assert ModelSpec.from_genes(space.decode(space.default())).negative_source == "batch"


@pytest.mark.parametrize(("batch", "low", "high"), [(256, 16, 256), (300, 16, 512), (8192, 16, 512), (17, 16, 32)])
def test_negatives_are_searched_up_to_the_batch(batch, low, high):
    gene = space_of(retrieval_batch=batch).gene("negatives")
    assert (gene.low, gene.high, gene.default) == (low, high, high)


@pytest.mark.parametrize(("batch", "value"), [(16, 16), (9, 16), (5, 8), (2, 2)])
def test_of_a_small_batch_all_are_negatives(batch, value):
    assert space_of(retrieval_batch=batch).gene("negatives") == Fixed(
        "negatives", value, text="negatives of each positive, at most"
    )


def test_with_one_layer_experts_have_one():
    space = space_of(n_layers=1)
    assert isinstance(space.gene("expert_depth"), Fixed)
    for x in space.sample(np.random.default_rng(0), 50):
        assert ModelSpec.from_genes(space.decode(x)).sharing_depth in (0, 1)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_fixed_mechanism_has_its_own_genes_and_no_others(mechanism):
    space = SPACE.with_overrides({"mechanism": mechanism, "experts": 4, "calibrator_weight": 1.0}, "test")
    every = {gene for choice in REGISTRY.values() for gene in choice.gene_names}
    assert every & set(space.names) == set(REGISTRY[mechanism].gene_names)
    for x in space.sample(np.random.default_rng(0), 20):
        assert ModelSpec.from_genes(space.decode(x)).mechanism == mechanism


def test_some_mechanisms_may_be_chosen_from():
    space = SPACE.with_overrides({"mechanism": ("ple", "mmoe"), "balancing": ("gradnorm", "nash")}, "test")
    found = [ModelSpec.from_genes(space.decode(x)) for x in space.sample(np.random.default_rng(0), 60)]
    assert {(spec.mechanism, spec.balancing) for spec in found} == {
        (mechanism, balancing) for mechanism in ("mmoe", "ple") for balancing in ("gradnorm", "nash")
    }
    assert not {"sharing_depth", "calibrator_weight"} & set(space.names)
    with pytest.raises(ConfigError, match=r"space\.balancing \(test\) must be one of 'fixed'.*, got 'pcgard'"):
        SPACE.with_overrides({"balancing": ("pcgrad", "pcgard")}, "test")


def test_an_overridden_depth_stays_inside_the_layers():
    assert SPACE.with_overrides({"expert_depth": Bounds(low=1, high=2)}, "test").gene("expert_depth").high == 2
    for wrong in (0, 4):
        with pytest.raises(ConfigError, match=r"expert_depth \(test\) must be a whole number within 1\.\.3"):
            SPACE.with_overrides({"expert_depth": wrong}, "test")


def test_gradients_of_tasks_split_blocks():
    keys = {name: ModelSpec.from_genes(genes(balancing=name)).group_key for name in BALANCINGS}
    assert len(set(keys.values())) == 2
    assert keys["pcgrad"] == keys["nash"] != keys["fixed"]


BLOCKS = (
    InputBlock("city", "user", "city", 9, 5, 1),
    InputBlock("tags", "content", "tags", 0, 40),
    InputBlock("tiny", "content", "tiny", 40, 2),
    InputBlock("cooccurrence", "content", "cooccurrence", 42, 9),
)


def test_every_block_of_the_input_has_a_switch_and_content_a_rank():
    space = space_of(blocks=BLOCKS)
    assert set(space.names) - set(SPACE.names) == {
        "use_city", "use_tags", "rank_tags", "use_tiny", "use_cooccurrence", "rank_cooccurrence", "pretrained",
    }  # fmt: skip
    assert space.gene("rank_tags").options == (0, 2, 4, 8, 16)
    assert space.gene("rank_cooccurrence").options == (0, 2, 4, 8), "of 9 columns"
    spec = ModelSpec.from_genes(space.decode(space.default()))
    assert (spec.off, spec.ranks, spec.pretrained) == ((), (), False)
    assert space_of(blocks=BLOCKS[:1]).names == (*SPACE.names, "use_city")


def test_what_the_genes_of_blocks_say():
    on = {**genes(), "use_city": True, "use_tags": True, "rank_tags": 4, "use_tiny": False, "pretrained": True}
    spec = ModelSpec.from_genes({**on, "rank_cooccurrence": 0, "use_cooccurrence": True})
    assert (spec.off, spec.ranks, spec.pretrained) == (("tiny",), (("tags", 4),), True)
    assert ModelSpec.from_genes({**on, "use_tags": False, "use_city": False}).off == ("city", "tags", "tiny")
    assert ModelSpec.from_genes({**on, "use_tags": False}).ranks == ()
    for name, value in (("use_city", 1), ("rank_tags", 2.0), ("rank_tags", -2), ("rank_tags", True)):
        with pytest.raises(ConfigError, match=rf"^{name} must be .*, got {value!r}"):
            ModelSpec.from_genes({**on, name: value})


def test_most_random_genomes_have_a_block():
    space = space_of(blocks=BLOCKS)
    specs = [ModelSpec.from_genes(space.decode(x)) for x in space.sample(np.random.default_rng(0), 400)]
    for name in ("city", "tags", "tiny"):
        share = np.mean([name not in spec.off for spec in specs])
        assert share == pytest.approx(0.8, abs=0.08)  # four standard deviations of 400 draws
    ranks = {dict(spec.ranks).get("tags", 0) for spec in specs}
    assert ranks == {0, 2, 4, 8, 16}


def test_blocks_that_are_not_searched_stay_on_unless_a_configuration_says_so():
    space = space_of(blocks=BLOCKS, search_blocks=False)
    assert space.n_var == SPACE.n_var
    np.testing.assert_array_equal(
        space.sample(np.random.default_rng(0), 9), SPACE.sample(np.random.default_rng(0), 9)
    )  # what else is searched is drawn alike
    spec = ModelSpec.from_genes(space.decode(space.default()))
    assert (spec.off, spec.ranks, spec.pretrained) == ((), (), False)
    other = space.with_overrides({"use_city": False, "rank_tags": 4, "pretrained": True}, "test")
    spec = ModelSpec.from_genes(other.decode(other.default()))
    assert (spec.off, spec.ranks, spec.pretrained) == (("city",), (("tags", 4),), True)


def test_a_configuration_switches_blocks_for_all():
    space = space_of(blocks=BLOCKS).with_overrides({"use_tags": False, "use_city": True, "pretrained": True}, "test")
    assert "rank_tags" not in space.names
    for x in space.sample(np.random.default_rng(0), 30):
        spec = ModelSpec.from_genes(space.decode(x))
        assert "tags" in spec.off
        assert "city" not in spec.off
        assert spec.pretrained
    fixed = space_of(blocks=BLOCKS).with_overrides({"use_tags": True, "rank_tags": 8}, "test")
    assert all(("tags", 8) in ModelSpec.from_genes(fixed.decode(x)).ranks for x in
               fixed.sample(np.random.default_rng(0), 9))  # fmt: skip
    with pytest.raises(ConfigError, match=r"space\.rank_tags \(test\) must be one of 0, 2, 4, 8, 16, got 3"):
        space_of(blocks=BLOCKS).with_overrides({"rank_tags": 3}, "test")


def test_the_popularity_of_new_items_is_a_gene_where_there_are_some():
    settings = {"n_layers": 2, "days": 3.0, "funnel": False, "uniform_negatives": 0, "retrieval_batch": 16}
    without, with_new = (default_space(("click",), **settings, new_items=there) for there in (False, True))
    assert set(with_new.names) - set(without.names) == {"new_item_popularity"}
    genes = with_new.decode(with_new.default())
    assert ModelSpec.from_genes(genes | {"new_item_popularity": 0.5}).new_item_popularity == 0.5
    assert ModelSpec.from_genes(without.decode(without.default())).new_item_popularity == 0.0


def test_a_spec_without_a_ranker_may_have_the_genes_of_the_dense_parts() -> None:
    """Projections of content are dense; the genes of the ranker are left out together or not at all."""
    content = InputBlock("content_genre", "content", "genre", 0, 4)
    space = default_space(
        (), n_layers=2, days=0.0, retrieval_batch=16, funnel=False, uniform_negatives=False, blocks=(content,)
    )
    genes = space.spec_of({name: space.gene(name).default for name in space.names})
    assert {"learning_rate", "dense_decay"} <= genes.keys()
    spec = ModelSpec.from_genes(genes)
    assert (spec.task_weights, spec.learning_rate) == ((), genes["learning_rate"])
    with pytest.raises(ConfigError, match=r"missing \['balancing'"):
        ModelSpec.from_genes({**genes, "width": 16})
