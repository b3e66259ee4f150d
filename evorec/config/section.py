"""The base of every section of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

Overlay = Mapping[str, Any]
"""A nested, partial configuration, e.g. ``{"training": {"steps": 100}}``."""


class Section(BaseModel):
    """Base of every section: frozen, unknown keys refused, no infinities."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _boolean_is_not_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in (int, float):
            raise ValueError("a boolean is not a number")
        return value
