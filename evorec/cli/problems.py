"""Problem definitions by name: modules behind the entry-point group ``evorec.problems``, which anybody can join."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from evorec.config import Overlay, RunConfig, load_config, merge, parse_override, read_toml
from evorec.errors import ConfigError

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
    module = importlib.import_module(known[name].module)
    missing = [part for part in ("DEFAULTS", "build") if not hasattr(module, part)]
    if missing:
        raise ConfigError(f"problem {name!r} ({module.__name__}) has no {' and no '.join(missing)}.")
    return module


def scenario(module: ModuleType) -> str:
    """The module's docstring: what the problem is about."""
    return inspect.cleandoc(module.__doc__ or "")


def configure(path: Path | None, problem: str | None, overrides: list[str]) -> tuple[RunConfig, ModuleType]:
    """The configuration of a command line, and the problem it names.

    Args:
        path: TOML file; None with `problem`.
        problem: name of a problem; wins over the file's own ``problem`` key.
        overrides: ``KEY=VALUE`` texts, strongest of all.
    Returns:
        The configuration, weakest first: field defaults, the problem's, the file's, `overrides`; and the module.
    Raises:
        ConfigError: neither a file nor a problem is given, or anything in them is wrong.
    """
    if path is None and problem is None:
        raise ConfigError("give a config file or --problem NAME; `evorec problems` lists the names.")
    named: Overlay = {} if path is None else read_toml(path)
    for text in [*([f'problem="{problem}"'] if problem else []), *overrides]:
        named = merge(named, parse_override(text))
    module = problem_module(str(named.get("problem", RunConfig.model_fields["problem"].default)))
    chosen = [f"problem={problem}"] if problem else []
    config = load_config(
        path, defaults=_defaults(module, str(named.get("problem", ""))), overrides=[*chosen, *overrides]
    )
    return (config if path is None else _located(config, path.parent)), module


def _defaults(module: ModuleType, name: str) -> Mapping[str, Any]:
    return merge(module.DEFAULTS, {"problem": name} if name else {})


def _located(config: RunConfig, folder: Path) -> RunConfig:
    """A data path that is there beside the config file becomes absolute, so that any folder can resume the run."""
    given = config.data.path
    if given is None or Path(given).is_absolute() or not (folder / given).exists():
        return config
    data = config.data.model_copy(update={"path": str((folder / given).resolve())})
    return config.model_copy(update={"data": data})
