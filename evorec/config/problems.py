"""Problems by name: modules behind the entry-point group ``evorec.problems``, or Python files.

A package offers a problem in its ``pyproject.toml``::

    [project.entry-points."evorec.problems"]
    shop = "shop_package.shop:build"
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final, final

from evorec.config.recommender import RecommenderConfig
from evorec.config.run import RunConfig
from evorec.config.section import Overlay
from evorec.errors import ConfigError, guess
from evorec.plugins import load_module

GROUP: Final = "evorec.problems"


@final
@dataclass(frozen=True)
class ProblemDefinition:
    """A problem as its module defines it.

    Attributes:
        name: as configurations name it: an installed name, or an absolute path ``FILE.py`` or ``FILE.py:FUNCTION``.
        scenario: the module's docstring.
        defaults: the module's ``DEFAULTS``: settings below those of a configuration file; empty if it has none.
        config: class of its configuration, the module's ``CONFIG``; `RecommenderConfig` if it has none.
        build: from a configuration to the problem.
    """

    name: str
    scenario: str
    defaults: Overlay
    config: type[RunConfig]
    build: Callable[..., Any]


def installed_problems() -> dict[str, EntryPoint]:
    """Entry points by problem name, in alphabetical order."""
    return {entry.name: entry for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)}


def problem_definition(name: str, *, folder: Path | None = None) -> ProblemDefinition:
    """The definition of an installed problem, or of a problem in a file.

    Args:
        name: of an installed problem, or ``FILE.py`` or ``FILE.py:FUNCTION``; the function is ``build`` by default.
        folder: where a relative path starts; ``None`` = the working directory.
    Raises:
        ConfigError: no installed package has a problem of this name, or the module cannot be used.
    """
    file, _, function = name.partition(":")
    if file.endswith(".py"):
        module, function = load_module(file, folder=folder), function or "build"
        name = str(((folder or Path()) / file).resolve()) + (f":{function}" if function != "build" else "")
    else:
        installed = installed_problems()
        if name not in installed:
            raise ConfigError(
                f"unknown problem {name!r}{guess(name, installed)} A new entry point of a package that you edit "
                "appears after `pip install -e .`; a problem in a file needs no installation: --problem FILE.py"
            )
        entry = installed[name]
        function = entry.attr or "build"
        try:
            module = load_module(entry.module)
        except ConfigError as error:
            raise ConfigError(f"problem {name!r} cannot be loaded: {error}") from None
    if not callable(build := getattr(module, function, None)):
        raise ConfigError(f"problem {name!r}: {module.__file__} has no function {function}(config=None); define it.")
    defaults, config = getattr(module, "DEFAULTS", {}), getattr(module, "CONFIG", RecommenderConfig)
    return ProblemDefinition(name, inspect.cleandoc(module.__doc__ or ""), defaults, config, build)
