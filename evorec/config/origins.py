"""Where the settings of a configuration were written, for messages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, final

from evorec.config.section import Overlay

DEFAULT: Final = "default"
"""Origin of a setting that neither the problem nor a person names."""
OF_RANKED: Final = ("funnel", "given", "kinds", "lower_is_better")
"""Settings of the ranked tasks: where others are ranked, those of a weaker layer are not used."""
_KEY: Final = re.compile(
    r"(objectives|constraints|plugins|problem|[a-z]+(?:\.[\w@/<>+-]+)+)(?=[ :,])(?! \(| is missing)"
)


@final
@dataclass(frozen=True)
class Layer:
    """Settings that were written in the same place.

    Attributes:
        name: in messages: a file, ``command line`` or ``default of problem feed``.
        settings: partial.
        is_default: whether they are the defaults of a problem, which the user did not choose for these data.
    """

    name: str
    settings: Overlay
    is_default: bool = False


@final
@dataclass(frozen=True, eq=False)
class Origins:
    """Where each setting of a configuration was written. All are equal: equal settings make an equal configuration.

    Attributes:
        layers: strongest first.
    """

    layers: Sequence[Layer] = field(default=())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Origins)

    def __hash__(self) -> int:
        return 0

    def of(self, key: str) -> str:
        """Names of the layers that a setting or a section comes from, strongest first.

        Example:
            >>> layers = Layer("my.toml", {"split": {"seed": 1}}), Layer("default of problem feed", {"split": {"k": 2}})
            >>> origins = Origins(layers)
            >>> origins.of("split.seed"), origins.of("split"), origins.of("run.device")
            ('my.toml', 'my.toml and default of problem feed', 'default')
        """
        return " and ".join(layer.name for layer in self._layers(key)) or DEFAULT

    def is_default(self, key: str) -> bool:
        """Whether no person wrote a setting: it is a default of the problem or of evorec."""
        return all(layer.is_default for layer in self._layers(key))

    def located(self, message: str) -> str:
        """A message with the origin of the setting that each of its lines begins with.

        Example:
            >>> Origins((Layer("my.toml", {"data": {"path": "x"}}),)).located("data.path must be a folder")
            'data.path (my.toml) must be a folder'
        """
        return "\n".join(
            f"{found[0]} ({self.of(found[0])}){line[found.end() :]}" if (found := _KEY.match(line)) else line
            for line in message.split("\n")
        )

    def _layers(self, key: str) -> list[Layer]:
        section, _, name = key.partition(".")
        found = []
        for layer in self.layers:
            value, parts = _value(layer.settings, key.split("."))
            if parts == 0:
                found.append(layer)
                if not isinstance(value, Mapping):
                    break
            of_ranked = section == "tasks" and name.partition(".")[0] in OF_RANKED
            if of_ranked and "ranked" in (layer.settings.get("tasks") or ()):
                break
        return found


def _value(settings: Any, parts: Sequence[str]) -> tuple[Any, int]:
    """The value of a key and the number of parts of the key that are missing in the settings."""
    for index, part in enumerate(parts):
        if not isinstance(settings, Mapping):  # a value that is written as a whole
            return settings, 0
        if part not in settings:
            return None, len(parts) - index
        settings = settings[part]
    return settings, 0
