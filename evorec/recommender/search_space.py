"""The search space of a recommender problem, from its configuration and a few properties of its data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt

from evorec.config import RecommenderConfig
from evorec.data.encode import rows_of_fit
from evorec.data.splits import split
from evorec.data.tables import SECONDS_PER_DAY, Columns, Tables
from evorec.models.blocks import InputBlock, declared_blocks, named_blocks
from evorec.models.spec import RANK, USE, default_space
from evorec.space.space import SearchSpace

UNKNOWN_DAYS = 14.0


@final
@dataclass(frozen=True)
class SpaceFacts:
    """The properties of the data that genes and their bounds depend on.

    Attributes:
        tasks: names of the ranked tasks.
        days: length of the training part in days.
        blocks: of the input.
        absent: names of blocks that the tables declare and the training rows do not have.
        new_items: whether the catalogue has items without a training row.
    """

    tasks: Sequence[str]
    days: float
    blocks: Sequence[InputBlock]
    absent: Sequence[str] = ()
    new_items: bool = False

    @classmethod
    def of_tables(cls, tables: Tables, config: RecommenderConfig) -> Self:
        """The same as the search has, without encoding; it leaves out features that never vary in training rows."""
        log = tables.interactions[rows_of_fit(split(tables, config.split), "train")[0]]
        new_items = False
        if tables.items is not None:
            new_items = not tables.items[Columns.ITEM].is_in(log[Columns.ITEM].unique().to_list()).all()
        return cls(
            config.tasks.ranked or tables.tasks,
            length_in_days(log[Columns.TIME].to_numpy()),
            declared_blocks(tables, config.data.content),
            new_items=new_items,
        )

    @classmethod
    def unknown(cls, config: RecommenderConfig) -> Self:
        """Stand-ins while the data cannot be read: every gene that the configuration names exists."""
        genes = config.space
        tasks = config.tasks.ranked or ("task",)
        return cls(tasks, UNKNOWN_DAYS, named_blocks(genes), new_items="new_item_popularity" in genes)


def length_in_days(time: npt.NDArray[Any]) -> float:
    """Days from the first to the last of some times in seconds, at least 1."""
    return max(float(np.max(time) - np.min(time)) / SECONDS_PER_DAY, 1.0)


def recommender_space(config: RecommenderConfig, facts: SpaceFacts, *, source: str = "space") -> SearchSpace:
    """The search space of a configuration, with the genes that it fixes or bounds.

    Args:
        config: of the run.
        facts: of its data.
        source: of the settings, for messages.
    Raises:
        ConfigError: lists every setting in `config.space` that is wrong.
    """
    space = default_space(
        tuple(facts.tasks),
        n_layers=config.training.layers,
        days=round(facts.days, 1),
        funnel=bool(config.tasks.funnel),
        retrieval_batch=config.training.retrieval_batch,
        uniform_negatives=config.training.uniform_negatives,
        blocks=facts.blocks,
        search_blocks=config.inputs == "search",
        new_items=facts.new_items,
    )
    nothing_to_switch = {prefix + name for prefix in (USE, RANK) for name in facts.absent}
    return space.with_overrides(
        {gene: value for gene, value in config.space.items() if gene not in nothing_to_switch}, source
    )
