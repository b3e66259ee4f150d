"""Sentences about a log that some parts of a search cannot use, for the terminal, the checks and the model card."""

from __future__ import annotations

from typing import Final

import polars as pl

from evorec.config import RecommenderConfig
from evorec.data.splits import VALIDATION
from evorec.data.tables import Columns, Tables

OF_TIMES: Final = "the statistics of earlier days (data.statistics) and the half-life of popularity"
OF_ORDER: Final = "the recency of histories (data.history_recency) and next-item training (training.next_item)"


def remarks(tables: Tables, config: RecommenderConfig) -> tuple[str, ...]:
    """What a search on this data does without, and where its rows come from, a sentence each.

    Args:
        tables: all interactions.
        config: of the run.
    """
    out = []
    if not tables.has_items:
        out.append(
            "Rows without users and items: the features of a row are all that a model sees, there are no lists, no "
            "retrieval and no metric of them."
        )
    elif tables.times == "none":
        out.append(f"The log has no times and its rows no order, so these are off: {OF_TIMES}, {OF_ORDER}.")
    elif tables.times == "order":
        out.append(f"The log has the order of each user's rows and no times, so these are off: {OF_TIMES}.")
    parts = tables.interactions.get_column(Columns.PART, default=pl.Series([], dtype=pl.Int8))
    if config.split.kind == "given" and not (parts == VALIDATION).any():
        how = {
            "random": f"{config.split.validation_share:g} of the training rows at random",
            "random_per_user": f"{config.split.validation_share:g} of the training rows of each user at random",
            "leave_last_out": "the last training row of each user",
            "time": f"the last {config.split.validation_share:g} of the training rows by time",
        }[config.split.validation]
        out.append(f"The given split has no validation rows: they are {how} (split.validation).")
    if not config.tasks.ranked and tables.has_items:
        out.append(
            f"Retrieval only: no task is ranked, so there is no ranker, no accuracy and no AUC; lists are made for "
            f"{config.tasks.target}."
        )
    if n := config.tasks.sampled_negatives:
        out.append(
            f"AUC and accuracy are measured against sampled negatives, {n} items per positive drawn at random among "
            "those that the user has not met, not against items that were shown (tasks.sampled_negatives)."
        )
    return tuple(out)
