"""All settings with name, default, range and meaning."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import JsonValue
from pydantic.fields import FieldInfo

from evorec.config.content import CONTENT_KINDS
from evorec.config.recommender import RecommenderConfig
from evorec.config.run import RunConfig
from evorec.config.section import Section


@dataclass(frozen=True)
class Key:
    """A setting, as the command line lists it.

    Attributes:
        name: dotted, as in ``--set``; ``<gene>`` is any name.
        default: in TOML; empty without a default.
        expects: type and range in words.
        meaning: its effect, with its unit.
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
        value, meaning = getattr(section, name), _text(field)
        if isinstance(value, Section):
            yield from _keys_of(value, f"{prefix}{name}.")
        elif f"{prefix}{name}" == "data.content":
            yield from _content_keys(value, f"{prefix}{name}.")
        elif name == "sources":
            expects = f"a list of tables with the keys of {prefix[:-1]}, and event"
            yield Key(f"{prefix}{name}", as_toml(value), expects, meaning)
        elif name == "space":
            yield Key("space.<gene>", "", SPACE_EXPECTS, meaning)
        elif name == "box":
            yield Key("box.<objective>", "", "{ideal = NUMBER, worst = NUMBER}", meaning)
        else:
            yield Key(f"{prefix}{name}", as_toml(value), _expects(field), meaning)


def _content_keys(sources: Mapping[str, Section], prefix: str) -> Iterator[Key]:
    """The settings of all kinds of sources, then those of the configured sources."""
    kinds = CONTENT_KINDS
    meaning = "; ".join(f"{kind} = {_text(source.model_fields['kind'])}" for kind, source in kinds.items())
    yield Key(f"{prefix}<name>.kind", "", " or ".join(json.dumps(kind) for kind in kinds), meaning)
    fields = {name: field for source in kinds.values() for name, field in source.model_fields.items() if name != "kind"}
    for name, field in fields.items():
        takes = ", ".join(kind for kind, source in kinds.items() if name in source.model_fields)
        default = "" if field.is_required() else f"; default {as_toml(field.default)}"
        yield Key(f"{prefix}<name>.{name}", "", _expects(field), f"{_text(field)} ({takes}{default})")
    for name, source in sources.items():
        yield from _keys_of(source, f"{prefix}{name}.")


def as_toml(value: Any) -> str:
    """A value as TOML writes it.

    Example:
        >>> as_toml({"year": 1, "a b": ["é"]})
        '{year = 1, "a b" = ["é"]}'
    """
    if value is None or isinstance(value, date):
        return str(value or "")
    if isinstance(value, Section):
        value = value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{toml_key(name)} = {as_toml(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_toml, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_key(name: str) -> str:
    """A name as a key: bare if TOML allows it.

    Example:
        >>> toml_key("add_to_cart"), toml_key("add to cart")
        ('add_to_cart', '"add to cart"')
    """
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else as_toml(name)


def _text(field: FieldInfo) -> str:
    return " ".join((field.description or "").split())


def _expects(field: FieldInfo) -> str:
    """Type and range of a field in words, e.g. ``an integer in 2..65536``."""
    kind, names = _kind(field.annotation), ("ge", "gt", "le", "lt", "min_length", "max_length")
    limit = {name: getattr(item, name) for item in field.metadata for name in names if hasattr(item, name)}
    ranges = {
        ("min_length",): ", at least {min_length}",
        ("max_length",): ", at most {max_length}",
        ("gt", "lt"): " between {gt} and {lt}, both excluded",
        ("ge", "le"): " in {ge}..{le}",
        ("ge", "lt"): " >= {ge} and < {lt}",
        ("ge",): " >= {ge}",
    }
    if field.examples:
        return f"{kind} such as {', '.join(field.examples)}"
    return kind + next((text.format(**limit) for keys, text in ranges.items() if {*keys} <= {*limit}), "")


_KINDS = {
    int: "an integer", float: "a number", str: "a text", bool: "true or false", date: "a date as 2024-01-31",
    JsonValue: "a value",
}  # fmt: skip
_PLURALS = {
    "an integer": "integers",
    "a number": "numbers",
    "a text": "texts",
    "a value": "values",
    "a list of texts": "lists of texts",
    "a table of values": "tables of values",
}


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return " or ".join(_kind(part) for part in arguments if part is not type(None))
    if origin is Literal:
        return " or ".join(map(json.dumps, arguments))
    if origin is Annotated:
        return _kind(arguments[0])
    if origin in (dict, tuple):
        part = _kind(arguments[origin is dict])
        return f"a {'table' if origin is dict else 'list'} of {_PLURALS.get(part, part)}"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        fields = annotation.model_fields.items()
        return "{" + ", ".join(f"{name} = {_expects(field)}" for name, field in fields) + "}"
    return _KINDS.get(annotation, str(annotation))
