"""The data set of a configuration: its tables as arrays. Without torch, so that a configuration is checked quickly."""

from __future__ import annotations

from dataclasses import replace

from evorec.config import RecommenderConfig
from evorec.data.dataset import Dataset
from evorec.data.encode import Fit, encode
from evorec.data.groups import user_groups
from evorec.data.held_out import item_columns
from evorec.data.splits import Split
from evorec.data.tables import Tables


def encode_tables(tables: Tables, parts: Split, config: RecommenderConfig, *, fit: Fit) -> Dataset:
    """Tables as arrays, with the tasks, statistics, histories and groups of users of a configuration."""
    dataset = encode(
        tables,
        parts,
        tasks=config.tasks.ranked,
        target=config.tasks.target,
        fit=fit,
        funnel=config.tasks.funnel,
        given=config.tasks.given,
        kinds=config.tasks.kinds,
        statistics=config.data.statistics,
        history_length=config.data.history_length,
        history_recency=config.data.history_recency,
        cooccurrence=config.data.cooccurrence,
        negatives=config.tasks.sampled_negatives,
        seed=config.search.seed,
    )
    column = config.evaluation.groups
    groups = user_groups(tables, dataset.user_ids, column) if column else None
    columns = item_columns(tables, dataset.item_ids)
    return replace(dataset, signs=config.tasks.signs(), user_groups=groups, item_columns=columns)
