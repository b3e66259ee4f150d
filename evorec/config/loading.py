"""From files and the command line to one checked configuration; all errors are listed together, each with its key."""

from __future__ import annotations

import difflib
import re
import reprlib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from evorec.config.content import CONTENT_KINDS
from evorec.config.listing import keys
from evorec.config.sections import Overlay, RunConfig
from evorec.errors import ConfigError


def merge(weak: Overlay, strong: Overlay) -> dict[str, Any]:
    """Deep merge of two partial configurations; `strong` wins.

    What belongs together is replaced together: a gene's override whole, all that is said of the ranked tasks with
    them.

    Example:
        >>> merge({"training": {"steps": 1, "layers": 2}}, {"training": {"steps": 5}})
        {'training': {'steps': 5, 'layers': 2}}
    """
    old, new = weak.get("tasks"), strong.get("tasks")
    if isinstance(old, Mapping) and isinstance(new, Mapping) and "ranked" in new:
        kept = {name: value for name, value in old.items() if name not in _OF_RANKED}
        weak = {**weak, "tasks": kept}
    return _merged(weak, strong)


_OF_RANKED = ("funnel", "given", "kinds", "lower_is_better")
"""Settings of the ranked tasks, which go with them."""


def _merged(weak: Overlay, strong: Overlay) -> dict[str, Any]:
    out = dict(weak)
    for name, value in strong.items():
        old = out.get(name)
        both = isinstance(old, Mapping) and isinstance(value, Mapping) and name != "space"
        out[name] = _merged(old, value) if both and isinstance(old, Mapping) else value
    if isinstance(weak.get("space"), Mapping) and isinstance(strong.get("space"), Mapping):
        out["space"] = {**weak["space"], **strong["space"]}
    return out


def parse_override(text: str) -> dict[str, Any]:
    """``training.steps=200`` as a nested overlay; the value is read as TOML, else as a plain string.

    Raises:
        ConfigError: there is no ``=`` or no key.
    Example:
        >>> parse_override("space.width={low=16, high=64}")
        {'space': {'width': {'low': 16, 'high': 64}}}
    """
    key, equals, raw = text.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise ConfigError(f"--set expects KEY=VALUE with a dotted key, got {text!r}; e.g. --set training.steps=200")
    try:
        value: Any = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw.strip()
    for part in reversed(parts):
        value = {part: value}
    return dict(value)


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a nested dictionary.

    Raises:
        ConfigError: the file is missing, unreadable or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"config file {path} does not exist; `evorec problems` lists what runs without a file"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"config file {path} is not valid TOML: {error}") from None


def parse_config(overlay: Overlay, *, source: str = "config") -> RunConfig:
    """A checked, frozen configuration.

    Args:
        overlay: nested settings, partial.
        source: named in the message, e.g. the file.
    Raises:
        ConfigError: lists every unknown key and every bad value at once.
    """
    try:
        return RunConfig.model_validate(overlay)
    except ValidationError as error:
        lines = [_describe(problem, source) for problem in error.errors(include_url=False)]
        raise ConfigError("\n".join(lines)) from None


def load_config(
    path: Path | None = None,
    *,
    defaults: Overlay | None = None,
    overrides: Sequence[str] = (),
    source: str | None = None,
) -> RunConfig:
    """Configuration from, weakest first: field defaults, `defaults`, the TOML file, ``KEY=VALUE`` overrides."""
    overlay: Overlay = defaults or {}
    if path is not None:
        overlay = merge(overlay, read_toml(path))
    given: dict[str, Any] = {}
    for text in overrides:
        given = _merged(given, parse_override(text))
    overlay = merge(overlay, given)
    return parse_config(overlay, source=source or (path.name if path else "command line"))


def check_used(config: RunConfig, defaults: Overlay, *, used: Sequence[str]) -> None:
    """Refuses settings that a problem would silently ignore.

    Args:
        config: of the run.
        defaults: the problem's own settings, below which the field defaults stand.
        used: sections and dotted keys that it reads; ``problem``, ``finalize`` and ``fuse`` are always allowed.
    Raises:
        ConfigError: lists every other key that was set to something else.
    """
    usual = _flat(parse_config(defaults).model_dump(mode="json"))
    given = _flat(config.model_dump(mode="json"))
    known = ("problem", "finalize", "fuse", *used)
    ignored = [
        f"{key} = {given.get(key)!r}"
        for key in sorted(usual | given)
        if given.get(key) != usual.get(key) and not any(f"{key}.".startswith(f"{name}.") for name in known)
    ]
    if ignored:
        raise ConfigError(
            f"problem {config.problem} does not use {', '.join(ignored)}; it reads {', '.join(used)} and nothing else."
        )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted key; an empty table has none."""
    out: dict[str, Any] = {}
    for name, value in settings.items():
        out |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return out


_TAGGED: Final[Mapping[tuple[str, ...], int]] = {("space",): 2, ("tasks", "kinds"): 3, ("data", "content"): 3}
"""Section -> the place in a key where pydantic adds the kind of the value."""
_EXPECTED: Final[Mapping[str, str]] = {
    "override": "one value, a list of task weights or of options, or {low, high}",
    "kind": '"binary", "regression" or {quantile = NUMBER}',
    "content": "a table with kind = " + " or ".join(f'"{kind}"' for kind in CONTENT_KINDS),
    "model_type": "a table of settings",
    "dict_type": "a table of settings",
}
"""Type of an error -> what is expected there."""


def _describe(problem: Mapping[str, Any], source: str) -> str:
    """One sentence: the key, the file, what was expected, what was found."""
    loc = [str(part) for part in problem["loc"]]
    for section, place in _TAGGED.items():
        if tuple(loc[: len(section)]) == section:
            del loc[place : place + 1]
    name = ".".join(loc) or "the configuration"
    listed = re.sub(r"^data\.content\.[^.]+", "data.content.<name>", name)
    where = f"{name} ({source})"
    if problem["type"] == "extra_forbidden":
        return f"{where} is not a known key{_suggestion(listed)} `evorec validate --keys` lists them all."
    if problem["type"] == "missing":
        return f"{where} is missing."
    got = reprlib.repr(problem["input"])
    expected = {key.name: key.expects for key in keys()}.get(listed) or _EXPECTED.get(problem["type"])
    if expected is None and problem["type"].startswith(("float", "finite")):
        expected = "a finite number"
    if expected is not None:
        return f"{where} must be {expected}, got {got}."
    if problem["type"] == "value_error":
        return f"{where}: {str(problem['msg']).removeprefix('Value error, ')}."
    return f"{where}: {problem['msg']}, got {got}."


def _suggestion(name: str) -> str:
    known = [key.name for key in keys()]
    if "." not in name:  # a section, too, may be misspelt
        known += [key.partition(".")[0] for key in known]
    if name in known:  # e.g. of another kind of content
        return " here;"
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ";"
