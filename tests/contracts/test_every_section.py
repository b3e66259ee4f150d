"""What holds for every section of the configuration."""

from __future__ import annotations

import json
from typing import Any

import pytest

from evorec.config import RecommenderConfig, Section, parse_config
from evorec.errors import ConfigError

NO_DEFAULT: dict[str, dict[str, Any]] = {
    "Bounds": {"low": 1.0, "high": 2.0},
    "Box": {"ideal": 1.0, "worst": 0.0},
    "QuantileKind": {"quantile": 0.5},
}
"""Values of the sections that have no default; they describe one gene, objective or task."""


def subclasses(section: type[Section]) -> set[type[Section]]:
    found = {one for one in section.__subclasses__() if one.__module__.startswith("evorec.")}
    return found.union(*map(subclasses, found))


def has_defaults(section: type[Section]) -> bool:
    return section.__name__ in NO_DEFAULT or not any(field.is_required() for field in section.model_fields.values())


SECTIONS = sorted(filter(has_defaults, subclasses(Section)), key=lambda section: section.__name__)

every_section = pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)


@every_section
def test_a_section_survives_json_is_frozen_and_refuses_an_unknown_key(section: type[Section]) -> None:
    given = section(**NO_DEFAULT.get(section.__name__, {}))
    stored = json.loads(json.dumps(given.model_dump(mode="json")))
    assert section.model_validate(stored) == given
    with pytest.raises(ValueError, match="unknown_key"):
        section.model_validate({**stored, "unknown_key": 1})
    with pytest.raises(ValueError, match="frozen"):
        setattr(given, next(iter(section.model_fields)), None)


@every_section
def test_every_setting_says_what_it_means(section: type[Section]) -> None:
    if section.__name__ not in NO_DEFAULT:
        fields = section.model_fields.items()
        assert [name for name, field in fields if not field.description and field.annotation not in SECTIONS] == []


@pytest.mark.parametrize(
    "name", [name for name, f in RecommenderConfig.model_fields.items() if f.annotation in SECTIONS]
)
def test_an_unknown_key_is_named_with_its_place(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}\.unknown_key \(my\.toml\)"):
        parse_config({name: {"unknown_key": 1}}, source="my.toml")
