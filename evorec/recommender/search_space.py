"""The search space of a recommender problem, from its configuration and its encoded data."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from evorec.config import RecommenderConfig
from evorec.data.dataset import Dataset
from evorec.data.tables import SECONDS_PER_DAY
from evorec.models.blocks import InputBlock, absent_blocks, input_blocks, named_blocks
from evorec.models.item_item import ITEM_ITEMS, Positives, oversized
from evorec.models.spec import OF_DESCRIPTIONS, RANK, USE, default_space
from evorec.space.space import SearchSpace

DEFAULT_MATRIX_BYTES = 2 << 30
"""Memory that an item-item matrix may take in a space whose configuration does not name `item_item`: a kind that takes
more is left out. A fixed number, so that the space does not depend on the machine."""
UNKNOWN_DAYS = 14.0
"""Length of a training part that cannot be read."""


def recommender_space(config: RecommenderConfig, dataset: Dataset | None, *, source: str = "") -> SearchSpace:
    """The search space of a configuration, with the genes that it fixes or bounds.

    Args:
        config: of the run.
        dataset: its encoded data; ``None`` = they cannot be read, and every gene that the configuration names exists.
        source: of the settings, for messages; empty = not named.
    Raises:
        ConfigError: lists every setting in `config.space` that is wrong.
    """
    genes, absent = config.space, set[str]()
    if dataset is None:
        tasks, days, new_items = config.tasks.ranked, UNKNOWN_DAYS, "new_item_popularity" in genes
        is_ordered = is_described = True
        blocks: Sequence[InputBlock] = named_blocks(genes)
    else:
        new_items, blocks = bool((dataset.item_counts == 0).any()), input_blocks(dataset)
        time, tasks, is_ordered = dataset.train.time, dataset.tasks, dataset.times != "none"
        days = max(float(time.max() - time.min()) / SECONDS_PER_DAY, 1.0) if dataset.times == "seconds" else 0.0
        # A feature that never varies in training rows has no gene, and a setting of its gene has no effect.
        absent = {prefix + name for prefix in (USE, RANK) for name in absent_blocks(dataset)}
        absent |= set() if dataset.times == "seconds" else {"popularity_half_life", "past_half_life"}
        is_described = len(dataset.item_fields) > 1 or dataset.distance_content.shape[1] > 0  # the first is the id
        absent |= set() if is_described else set(OF_DESCRIPTIONS)
    space_of = partial(
        default_space,
        n_layers=config.training.layers,
        days=round(days, 1),
        retrieval_batch=config.training.retrieval_batch,
        uniform_negatives=config.training.uniform_negatives,
        blocks=blocks,
        search_blocks=config.inputs == "search",
        new_items=new_items,
        is_ordered=is_ordered,
        is_described=is_described,
        has_items=config.data.has_items if dataset is None else dataset.has_items,
    )
    space = space_of(tuple(tasks), funnel=bool(config.tasks.funnel))
    if not tasks:  # settings of the ranker, e.g. of a problem, have no effect
        absent |= set(space_of(("task",), funnel=True).names) - set(space.names)
    chosen = {gene: value for gene, value in genes.items() if gene not in absent}
    if dataset is not None and (large := oversized_kinds(space, dataset, DEFAULT_MATRIX_BYTES)):
        chosen.setdefault("item_item", tuple(kind for kind in ITEM_ITEMS if kind not in large))
    return space.with_overrides(chosen, source)


def oversized_kinds(space: SearchSpace, dataset: Dataset, budget_bytes: int) -> dict[str, str]:
    """Kinds of item-item matrices that memory does not hold at their largest settings, each with the reason.

    Args:
        space: whose gene `item_item` names the kinds; empty result without it.
        dataset: from whose positives the matrices are computed.
        budget_bytes: memory of a matrix while it is computed.
    """
    found = {}
    for kind, choice in ITEM_ITEMS.items() if "item_item" in space.names else ():
        if space.gene("item_item").can_be(kind):
            own = {name: space.gene(name) for name in choice.gene_names if name in space.names}
            settings = {name: getattr(gene, "high", gene.default) for name, gene in own.items()}
            if reason := oversized(kind, Positives.of(dataset), settings, budget_bytes):
                found[kind] = reason
    return found
