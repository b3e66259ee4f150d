"""From files and the command line to a checked configuration; all errors are listed together, each with its key."""

from __future__ import annotations

import difflib
import re
import reprlib
import tomllib
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar, overload

from pydantic import ValidationError

from evorec.config.content import CONTENT_KINDS
from evorec.config.listing import keys
from evorec.config.origins import DEFAULT, OF_RANKED, Layer, Origins
from evorec.config.problems import problem_definition
from evorec.config.recommender import RecommenderConfig, has_no_labels
from evorec.config.run import RunConfig
from evorec.config.search import as_stored
from evorec.config.section import Overlay
from evorec.errors import ConfigError
from evorec.plugins import load_plugins

C = TypeVar("C", bound=RunConfig)
COMMAND_LINE: Final = "command line"
"""Origin of overrides."""


def merge(weak: Overlay, strong: Overlay) -> dict[str, Any]:
    """Deep merge of two partial configurations; `strong` wins.

    An override of a gene is replaced as a whole, and new ranked tasks replace all settings of the old ones.

    Example:
        >>> merge({"training": {"steps": 1, "layers": 2}}, {"training": {"steps": 5}})
        {'training': {'steps': 5, 'layers': 2}}
    """
    old, new = weak.get("tasks"), strong.get("tasks")
    if isinstance(old, Mapping) and isinstance(new, Mapping) and "ranked" in new:
        kept = {name: value for name, value in old.items() if name not in OF_RANKED}
        weak = {**weak, "tasks": kept}
    return _merged(weak, strong)


DEFAULT_CONSTRAINTS: Final = RecommenderConfig.model_fields["constraints"].default


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
        ConfigError: without ``=`` or without a key.
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
    except (tomllib.TOMLDecodeError, RecursionError):
        value = raw.strip()
    for part in reversed(parts):
        value = {part: value}
    return dict(value)


MAX_BYTES: Final = 1 << 20
"""Of a configuration file."""


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a nested dictionary; UTF-8, or UTF-16 with a byte order mark.

    Raises:
        ConfigError: the file is missing, unreadable or not TOML.
    """
    try:
        with path.open("rb") as file:  # a device may have no end
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ConfigError(f"config file {path} has more than {MAX_BYTES:,} bytes; give a TOML file")
        text = content.decode("utf-16" if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig")
        return tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(
            f"config file {path} does not exist; `evorec problems` lists problems that run without a file"
        ) from None
    except OSError as error:
        raise ConfigError(f"config file {path} cannot be read: {error}") from None
    except UnicodeDecodeError as error:
        line = 1 + content.count(b"\n", 0, error.start)
        raise ConfigError(f"config file {path}, line {line} is not UTF-8 text; save the file as UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"config file {path} is not valid TOML: {error}") from None


@overload
def parse_config(overlay: Overlay, *, overrides: Sequence[str] = (), source: str = "config") -> RecommenderConfig: ...
@overload
def parse_config(overlay: Overlay, *, overrides: Sequence[str] = (), source: str = "config", kind: type[C]) -> C: ...
def parse_config(
    overlay: Overlay,
    *,
    overrides: Sequence[str] = (),
    source: str = "config",
    kind: type[RunConfig] = RecommenderConfig,
) -> RunConfig:
    """A checked, frozen configuration, without the defaults of a problem.

    Args:
        overlay: nested settings, partial.
        overrides: ``KEY=VALUE`` texts; they win.
        source: named in the message, e.g. the file.
        kind: class of the configuration.
    Raises:
        ConfigError: lists every unknown key and every bad value at once.
    """
    given = _overlay_of(overrides)
    return _checked(merge(overlay, given), kind, Origins((Layer(COMMAND_LINE, given), Layer(source, overlay))))


def _checked(settings: Overlay, kind: type[C], origins: Origins) -> C:
    """The configuration of merged settings.

    Raises:
        ConfigError: lists every unknown key and every bad value at once.
    """
    try:
        return kind.model_validate(settings).with_origins(origins)
    except ValidationError as error:
        lines = [_describe(problem, origins, _expected(kind)) for problem in error.errors(include_url=False)]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None


def load_config(
    path: str | Path | None = None, *, problem: str | None = None, overrides: Sequence[str] = ()
) -> RunConfig:
    """The configuration of a run, weakest first: field defaults, the problem's, the file's, `overrides`.

    Its plugins are imported first. Paths of plugins, of the problem and of the data that are relative in the file start
    at the file's folder; they become absolute, so that the run can be resumed from any folder.

    Args:
        path: TOML file; ``None`` with `problem`.
        problem: an installed problem, or a Python file; wins over the file's ``problem``.
        overrides: ``KEY=VALUE`` texts, strongest of all.
    Returns:
        An instance of the problem's own class, mostly `RecommenderConfig`.
    Raises:
        ConfigError: neither a file nor a problem is given, or the settings are wrong.
    """
    if path is None and problem is None:
        raise ConfigError("give a config file or --problem NAME; `evorec problems` lists the names.")
    path = None if path is None else Path(path)
    stored = {} if path is None else read_toml(path)
    given = ({"problem": problem} if problem else {}) | _overlay_of(overrides)
    folder = None if path is None else path.parent
    name = given.get("problem", stored.get("problem", RunConfig.model_fields["problem"].default))
    if not isinstance(name, str):
        raise ConfigError(f"problem must be a name, got {name!r}; `evorec problems` lists the names.")
    definition = problem_definition(name, folder=None if "problem" in given else folder)
    defaults = _for_labels_of(_merged(stored, given), definition.defaults)
    settings = merge(merge(defaults, stored), {**given, "problem": definition.name})
    plugins = settings.get("plugins", ())
    if isinstance(plugins, list | tuple) and all(isinstance(plugin, str) for plugin in plugins):
        settings["plugins"] = load_plugins(plugins, folder=None if "plugins" in given else folder)
    data = settings.get("data")
    if folder is not None and isinstance(data, Mapping):
        found = folder / str(data.get("path") or "")
        settings["data"] = {**data, "path": str(found.resolve())} if data.get("path") and found.exists() else data
    search = settings.get("search")
    if folder is not None and isinstance(search, Mapping) and isinstance(memory := search.get("memory"), list):
        paths = [str((folder / Path(x).expanduser()).resolve()) if isinstance(x, str) else x for x in memory]
        settings["search"] = {**search, "memory": paths}
    short = Path(definition.name.partition(":")[0]).stem if ".py" in definition.name else definition.name
    layers = [Layer(COMMAND_LINE, given), *([Layer(path.name, stored)] if path else [])]
    layers.append(Layer(f"default of problem {short}", defaults, is_default=True))
    return _checked(settings, definition.config, Origins(tuple(layers)))


def _for_labels_of(settings: Overlay, defaults: Overlay) -> Overlay:
    """The defaults of a problem without those that need labels or ranked tasks that the settings do not have."""
    tasks, unlabelled = settings.get("tasks", {}), has_no_labels(settings.get("data"))
    ranked = tasks.get("ranked") if isinstance(tasks, Mapping) else None
    out = {name: value for name, value in defaults.items() if name != "tasks" or not unlabelled}
    if (unlabelled or ranked is not None) and not ranked:
        out.pop("objectives", None)
        out["box"] = {name: box for name, box in defaults.get("box", {}).items() if "/" not in name}
        out["constraints"] = tuple(text for text in defaults.get("constraints", DEFAULT_CONSTRAINTS) if "/" not in text)
    return out


def stored_config(settings: Overlay, *, source: str) -> RunConfig:
    """The configuration that a run directory holds; its plugins are imported.

    Args:
        settings: all of them, as JSON.
        source: named in messages.
    Raises:
        ConfigError: a plugin is missing, or a setting is not known to this version.
    """
    load_plugins(settings.get("plugins", ()))
    if isinstance(search := settings.get("search"), Mapping):
        settings = {**settings, "search": as_stored(search)}
    data = settings.get("data")
    if isinstance(data, Mapping) and data.get("reader") != "table":  # only defaults, perhaps of an earlier version
        unused = ("log", "users", "items")
        settings = {**settings, "data": {name: value for name, value in data.items() if name not in unused}}
    try:
        return parse_config(settings, source=source, kind=problem_definition(str(settings.get("problem"))).config)
    except ConfigError as error:
        # The problem is not installed here, or an earlier version stored the sections of recommenders for it, too: the
        # run can be read all the same.
        try:
            return parse_config(
                settings, source=source, kind=RecommenderConfig if "training" in settings else RunConfig
            )
        except ConfigError:
            raise error from None


EXTENSION: Final = "`evorec resume RUN` with --generations N, --evaluations N or --time TIME extends a search."


def reset_config(stored: C, overrides: Sequence[str], *, sections: tuple[str, ...]) -> C:
    """A run's configuration with other values of settings that do not make it another run.

    Args:
        stored: the run's.
        overrides: ``KEY=VALUE`` texts.
        sections: where settings may change.
    Raises:
        ConfigError: a setting outside of them, or a wrong value.
    """
    foreign = [text for text in overrides if text.strip().partition(".")[0] not in sections]
    if foreign:
        known = " and ".join(f"{section}.*" for section in sections)
        names = {text.partition("=")[0].strip() for text in foreign}
        hint = f" {EXTENSION}" if names & {"search.generations", "search.evaluations", "search.minutes"} else ""
        raise ConfigError(
            f"only {known} can be set here, other settings make another run; got {', '.join(foreign)}.{hint}"
        )
    settings = stored.model_dump(mode="json")
    return parse_config(settings, overrides=overrides, source="command line", kind=type(stored))


def _overlay_of(overrides: Sequence[str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for text in overrides:
        given = _merged(given, parse_override(text))
    return given


_TAGGED: Final[Mapping[tuple[str, ...], int]] = {("space",): 2, ("tasks", "kinds"): 3, ("data", "content"): 3}
"""Section -> the position in a key at which pydantic adds the kind of the value."""
_EXPECTED: Final[Mapping[str, str]] = {
    "override": "a value, a list of task weights or of options, or {low, high}",
    "kind": '"binary", "regression" or {quantile = NUMBER}',
    "content": "a table with kind = " + " or ".join(f'"{kind}"' for kind in CONTENT_KINDS),
    "model_type": "a table of settings",
    "dict_type": "a table of settings",
}
"""Type of an error -> the expected value."""


@cache
def _expected(kind: type[RunConfig]) -> Mapping[str, str]:
    """Every setting -> the expected value."""
    return {key.name: key.expects for key in keys(kind())}


def _describe(problem: Mapping[str, Any], origins: Origins, known: Mapping[str, str]) -> str:
    """A sentence: the key, its origin, the expected and the given value."""
    loc = [str(part) for part in problem["loc"]]
    for section, place in _TAGGED.items():
        if tuple(loc[: len(section)]) == section:
            del loc[place : place + 1]
    name = ".".join(loc) or "the configuration"
    listed = re.sub(r"^data\.content\.[^.]+", "data.content.<name>", name)
    above = [".".join(loc[:n]) for n in range(len(loc), 0, -1)]  # a missing key was forgotten where its section is
    where = f"{name} ({next((of for key in above if (of := origins.of(key)) != DEFAULT), DEFAULT)})"
    if problem["type"] == "extra_forbidden":
        return f"{where} is not a known key{_suggestion(listed, known)} `evorec validate --keys` lists them all."
    if problem["type"] == "missing":
        return f"{where} is missing."
    got = reprlib.repr(problem["input"])
    expected = known.get(listed) or _EXPECTED.get(problem["type"])
    if expected is None and problem["type"].startswith(("float", "finite")):
        expected = "a finite number"
    if expected is not None:
        return f"{where} must be {expected}, got {got}."
    if problem["type"] == "value_error":
        return f"{where}: {str(problem['msg']).removeprefix('Value error, ')}."
    return f"{where}: {problem['msg']}, got {got}."


def _suggestion(name: str, known: Collection[str]) -> str:
    if name in known:  # e.g. of another kind of content
        return " here;"
    sections = [] if "." in name else [key.partition(".")[0] for key in known]
    close = difflib.get_close_matches(name, [*known, *sections], n=1)
    return f"; did you mean {close[0]}?" if close else ";"
