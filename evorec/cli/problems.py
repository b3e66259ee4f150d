"""Problem definitions by name: modules behind the entry-point group ``evorec.problems``, which anybody can join."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from evorec.config import Overlay, RunConfig, load_config, merge, parse_override, read_toml
from evorec.errors import ConfigError

if TYPE_CHECKING:
    from evorec.problem import Problem

GROUP = "evorec.problems"


def known_problems() -> dict[str, EntryPoint]:
    """Entry points by problem name, in alphabetical order."""
    return {entry.name: entry for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)}


def problem_module(name: str) -> ModuleType:
    """The module of a problem: its docstring, ``DEFAULTS`` and ``build``.

    Raises:
        ConfigError: no installed package offers that name, or what it offers is no problem definition.
    """
    known = known_problems()
    if name not in known:
        raise ConfigError(f"there is no problem {name!r}; installed are {', '.join(known) or 'none'}.")
    try:
        module = importlib.import_module(known[name].module)
    except ImportError as error:
        raise ConfigError(f"problem {name!r} ({known[name].value}) cannot be loaded: {error}.") from None
    missing = [part for part in ("DEFAULTS", "build") if not hasattr(module, part)]
    if missing:
        raise ConfigError(f"problem {name!r} ({known[name].value}) has no {' and no '.join(missing)}.")
    return module


def build_problem(config: RunConfig) -> Problem:
    """The problem that a run's configuration names; reads the data."""
    problem: Problem = problem_module(config.problem).build(config)
    return problem


def trains(name: str) -> bool:
    """Whether a problem trains recommenders on interactions; a module of another kind says ``TRAINS = False``.

    One that is not installed, whose run may still be read, counts as one that does.
    """
    try:
        return bool(getattr(problem_module(name), "TRAINS", True))
    except ConfigError:
        return True


def scenario(module: ModuleType) -> str:
    """The module's docstring: what the problem is about."""
    return inspect.cleandoc(module.__doc__ or "")


def configure(path: Path | None, problem: str | None, overrides: Sequence[str]) -> RunConfig:
    """The configuration of a command line, weakest first: field defaults, the problem's, the file's, `overrides`.

    Args:
        path: TOML file; None with `problem`.
        problem: name of a problem; wins over the file's own ``problem`` key.
        overrides: ``KEY=VALUE`` texts, strongest of all.
    Raises:
        ConfigError: neither a file nor a problem is given, or anything in them is wrong.
    """
    if path is None and problem is None:
        raise ConfigError("give a config file or --problem NAME; `evorec problems` lists the names.")
    named: Overlay = {} if path is None else read_toml(path)
    for text in [*([f'problem="{problem}"'] if problem else []), *overrides]:
        named = merge(named, parse_override(text))
    name = named.get("problem", RunConfig.model_fields["problem"].default)
    if not isinstance(name, str):
        raise ConfigError(f"problem must be a name, got {name!r}; `evorec problems` lists the names.")
    module = problem_module(name)
    chosen = [f"problem={problem}"] if problem else []
    config = load_config(
        path, defaults=_defaults(module, str(named.get("problem", ""))), overrides=[*chosen, *overrides]
    )
    return config if path is None else _located(config, path.parent)


def _defaults(module: ModuleType, name: str) -> Mapping[str, Any]:
    return merge(module.DEFAULTS, {"problem": name} if name else {})


def _located(config: RunConfig, folder: Path) -> RunConfig:
    """A data path that is there beside the config file becomes absolute, so that any folder can resume the run."""
    given = config.data.path
    if given is None or Path(given).is_absolute() or not (folder / given).exists():
        return config
    data = config.data.model_copy(update={"path": str((folder / given).resolve())})
    return config.model_copy(update={"data": data})


def reset(stored: RunConfig, overrides: Sequence[str], *, sections: tuple[str, ...]) -> RunConfig:
    """A run's configuration with some settings anew, of those that do not make it another run.

    Args:
        stored: what the run was made with.
        overrides: ``KEY=VALUE`` texts.
        sections: where they may reach.
    Raises:
        ConfigError: one reaches further, or is wrong.
    """
    foreign = [text for text in overrides if text.strip().partition(".")[0] not in sections]
    if foreign:
        known = " and ".join(f"{section}.*" for section in sections)
        raise ConfigError(f"only {known} can be set here, anything else makes another run; got {', '.join(foreign)}.")
    return load_config(defaults=stored.model_dump(mode="json"), overrides=overrides)
