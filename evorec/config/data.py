"""Section ``[data]``: where the interactions come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from evorec.config.content import COOCCURRENCE, ContentTable, CooccurrenceContent
from evorec.config.section import Section
from evorec.config.simulator import AnySimulatorConfig, simulator_config
from evorec.config.tables import ItemsConfig, LogConfig, SourceConfig, UsersConfig


class DataConfig(Section):
    """Where the interactions come from."""

    reader: str = "simulator"
    """simulator; table (any files, described by log, users and items); or the published files of kuairand, movielens,
    kuairec, kuairec_small, aliccp, aliexpress, amazon or retailrocket"""
    path: str | None = None
    """folder to read; a relative path is looked up here, then under $EVOREC_DATA, then among the data sets of `evorec
    data get`"""
    statistics: tuple[str, ...] = ("user", "item")
    """features whose counts and rates on earlier days are inputs of the ranker, e.g. user, item, author_id, user+tab"""
    history_length: int = Field(30, ge=1, le=1000)
    """latest target positives of a user in the retrieval vector"""
    history_recency: float = Field(0.0, ge=0, le=4)
    """the j-th latest positive (from 0) has the weight (1 + j) ** -recency; 0 = equal weights"""
    content: ContentTable = Field({})
    """further fixed vectors of items, by name"""
    simulator: AnySimulatorConfig = Field(default_factory=lambda: simulator_config({}))
    log: LogConfig = LogConfig()
    """the log of reader = table"""
    users: UsersConfig = UsersConfig()
    """the table of users of reader = table"""
    items: ItemsConfig = ItemsConfig()
    """the table of items of reader = table"""

    @property
    def cooccurrence(self) -> CooccurrenceContent | None:
        """The source of content that each fit learns from its training rows; ``None`` without such a source."""
        source = self.content.get(COOCCURRENCE)
        return source if isinstance(source, CooccurrenceContent) else None

    @model_validator(mode="after")
    def _tables_are_described(self) -> DataConfig:
        sections: dict[str, Section] = {"log": self.log, "users": self.users, "items": self.items}
        if self.reader != "table":
            if given := [name for name, section in sections.items() if section != type(section)()]:
                raise ValueError(f'only reader = "table" reads {" and ".join(given)}, got reader = "{self.reader}"')
            return self
        for number, source in enumerate(self.log.each_source):
            where = f"log.sources[{number}]" if self.log.sources else "log"
            needed = () if source.is_of_lists or (source.files and not self.has_items) else ("user", "item")
            missing = [f"{where}.{name}" for name in needed if not getattr(source, name)]
            if not (source.files or source.parts):
                missing.insert(0, f"{where}.files")
            if missing:
                why = "; without items there is nothing to list" if f"{where}.item" in missing else ""
                raise ValueError(f'reader = "table" needs {", ".join(missing)}{why}')
        if len({source_times(source) for source in self.log.each_source}) > 1:
            raise ValueError("all log.sources must have times, or none of them: set time of each, or leave all out")
        if len({source.has_parts for source in self.log.each_source}) > 1:
            raise ValueError("all log.sources must name their parts, or none of them: set part or parts of each")
        return self

    @property
    def has_items(self) -> bool:
        """Whether the data are a log of users and items; else they are a table of rows with features and labels."""
        if self.reader == "table":
            return any(source.is_of_lists or source.user or source.item for source in self.log.each_source)
        return self.reader != "simulator" or not self.simulator.labels

    @property
    def has_parts(self) -> bool:
        """Whether the log says the part of each row."""
        return self.reader == "table" and self.log.each_source[0].has_parts

    @model_validator(mode="before")
    @classmethod
    def _several_logs(cls, value: Any) -> Any:
        """Several ``[[data.log]]`` are a spelling of ``[[data.log.sources]]``."""
        if isinstance(value, Mapping) and isinstance(value.get("log"), list | tuple):
            return {**value, "log": {"sources": value["log"]}}
        return value


def source_times(source: SourceConfig) -> Literal["seconds", "order", "none"]:
    """What the times of a source mean; see `evorec.data.tables.TimeKind`."""
    if source.format == "sequence":
        return "order"
    return "seconds" if source.time else "none"
