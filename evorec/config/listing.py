"""Every setting as the command line lists it: name, default, range and meaning."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from evorec.config.content import CONTENT_KINDS
from evorec.config.recommender import RecommenderConfig
from evorec.config.run import RunConfig
from evorec.config.section import Section


@dataclass(frozen=True)
class Key:
    """One setting, as the command line lists it.

    Attributes:
        name: dotted, as in ``--set``; ``<gene>`` stands for any name.
        default: as TOML writes it; empty when there is none.
        expects: type and range in words.
        meaning: what it does, with its unit.
    """

    name: str
    default: str
    expects: str
    meaning: str


def keys(config: RunConfig | None = None) -> tuple[Key, ...]:
    """Every setting of a configuration, in the order of its sections.

    Args:
        config: its values are listed as the defaults, e.g. those of a problem; ``None`` = a recommender's.
    Example:
        >>> next(key for key in keys() if key.name == "training.batch_size").expects
        'an integer in 2..65536'
    """
    return tuple(_keys_of(config or RecommenderConfig(), ""))


SPACE_EXPECTS = "a value, a list of task weights or of options, or {low = NUMBER, high = NUMBER}"


def _keys_of(section: Section, prefix: str) -> Iterator[Key]:
    for name, field in type(section).model_fields.items():
        value, meaning = getattr(section, name), field.description or ""
        if isinstance(value, Section):
            yield from _keys_of(value, f"{prefix}{name}.")
        elif f"{prefix}{name}" == "data.content":
            yield from _content_keys(value, f"{prefix}{name}.")
        elif name == "space":
            yield Key("space.<gene>", "", SPACE_EXPECTS, meaning)
        elif name == "box":
            yield Key("box.<objective>", "", "{ideal = NUMBER, worst = NUMBER}", meaning)
        else:
            yield Key(f"{prefix}{name}", _toml(value), _expects(field), meaning)


def _content_keys(sources: Mapping[str, Section], prefix: str) -> Iterator[Key]:
    """Every setting that a source may have, then those of the sources that there are."""
    kinds = CONTENT_KINDS
    meaning = "; ".join(f"{kind} = {source.model_fields['kind'].description}" for kind, source in kinds.items())
    yield Key(f"{prefix}<name>.kind", "", " or ".join(json.dumps(kind) for kind in kinds), meaning)
    fields = {name: field for source in kinds.values() for name, field in source.model_fields.items() if name != "kind"}
    for name, field in fields.items():
        takes = ", ".join(kind for kind, source in kinds.items() if name in source.model_fields)
        default = "" if field.is_required() else f"; default {_toml(field.default)}"
        yield Key(f"{prefix}<name>.{name}", "", _expects(field), f"{field.description} ({takes}{default})")
    for name, source in sources.items():
        yield from _keys_of(source, f"{prefix}{name}.")


def _toml(value: Any) -> str:
    if value is None or isinstance(value, date):
        return str(value or "")
    if isinstance(value, Section):
        value = value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(name)} = {_toml(part)}" for name, part in value.items()) + "}"
    return json.dumps(value)


def _expects(field: FieldInfo) -> str:
    """Type and range of a field in words, e.g. ``an integer in 2..65536``."""
    limits: dict[str, Any] = {}
    for item in field.metadata:
        bounds = ("ge", "gt", "le", "lt", "min_length", "max_length")
        limits |= {name: getattr(item, name) for name in bounds if hasattr(item, name)}
    kind = _kind(field.annotation)
    if field.examples:
        return f"{kind} such as {', '.join(field.examples)}"
    if "min_length" in limits:
        return f"{kind}, at least {limits['min_length']}"
    if "max_length" in limits:
        return f"{kind}, at most {limits['max_length']}"
    if {"gt", "lt"} <= set(limits):
        return f"{kind} between {limits['gt']} and {limits['lt']}, both excluded"
    if {"ge", "le"} <= set(limits):
        return f"{kind} in {limits['ge']}..{limits['le']}"
    if {"ge", "lt"} <= set(limits):
        return f"{kind} >= {limits['ge']} and < {limits['lt']}"
    return f"{kind} >= {limits['ge']}" if "ge" in limits else kind


_KINDS = {int: "an integer", float: "a number", str: "a text", bool: "true or false", date: "a date as 2024-01-31"}


def _kind(annotation: Any) -> str:
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(_kind(part) for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is Literal:
        return " or ".join(json.dumps(option) for option in get_args(annotation))
    if get_origin(annotation) is dict:
        values = _kind(get_args(annotation)[1])
        return "a table of texts" if values == "a text" else f"a table of {values}"
    if get_origin(annotation) is tuple:
        return "a list of texts" if get_args(annotation)[0] is str else "a list of integers"
    if get_origin(annotation) is Annotated:
        return _kind(get_args(annotation)[0])
    if isinstance(annotation, type) and issubclass(annotation, Section):
        fields = annotation.model_fields.items()
        return "{" + ", ".join(f"{name} = {_expects(field)}" for name, field in fields) + "}"
    return _KINDS.get(annotation, str(annotation))
