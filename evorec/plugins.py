"""Plugins: code outside of evorec that registers extensions, in installed packages, modules and single files.

Importing a plugin registers its metrics, mechanisms, genes, readers, algorithms and commands. An installed package
names its modules in the entry-point group ``evorec.plugins``; a configuration names further modules and files in
``plugins``. Plugins run with the rights of the process, as any import does.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import logging
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from evorec.errors import ConfigError, Interruption

_logger = logging.getLogger(__name__)
_loaded_groups: set[str] = set()
_loaded: dict[str, None] = {}


def load_installed(group: str) -> None:
    """Import every module that installed packages name in an entry-point group, once per process.

    A module that cannot be imported is reported in a line of the log, and its extensions are missing: a broken
    package must not stop commands that do not need it.
    """
    if group in _loaded_groups:
        return
    _loaded_groups.add(group)
    for entry in sorted(entry_points(group=group), key=lambda entry: entry.name):
        try:
            importlib.import_module(entry.module)
        except Interruption:
            raise
        except (Exception, SystemExit) as error:
            package = entry.dist.name if entry.dist else "an unknown package"
            _logger.warning(
                "plugin %r (%s) of %s cannot be imported: %s; update or uninstall %s",
                entry.name, entry.value, package, error, package,
            )  # fmt: skip


def load_plugins(names: Iterable[str], *, folder: Path | None = None) -> tuple[str, ...]:
    """Import the plugins that a configuration names.

    Args:
        names: module names, or paths that end in ``.py``.
        folder: where relative paths start; ``None`` = the working directory.
    Returns:
        The names with absolute paths, as worker processes and a resumed run need them.
    Raises:
        ConfigError: a plugin does not exist or cannot be imported.
    """
    return tuple(_load(name, folder or Path()) for name in names)


def load_module(name: str, *, folder: Path | None = None) -> ModuleType:
    """A module by its name, or by the path of its file; a file is imported once per process.

    Args:
        name: ``package.module`` or ``path/to/file.py``.
        folder: where a relative path starts; ``None`` = the working directory.
    Raises:
        ConfigError: it does not exist or cannot be imported.
    """
    path = ((folder or Path()) / name).resolve() if name.endswith(".py") else None
    if path is not None and not path.is_file():
        raise ConfigError(f"file {path} does not exist; give a Python file, or the name of an installed module.")
    try:
        module = importlib.import_module(name) if path is None else _file_module(path)
    except Interruption:
        raise
    except (Exception, SystemExit) as error:  # a file may call sys.exit
        cause = f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"{path or f'module {name!r}'} cannot be imported: {cause}; install or correct it."
        ) from error
    _loaded[str(path or name)] = None
    return module


def _file_module(path: Path) -> ModuleType:
    # The name is derived from the path, so two files of equal name do not replace each other.
    name = f"evorec_file_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # the path ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it is executed: dataclasses and pickle look it up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def loaded_modules() -> tuple[str, ...]:
    """Names and paths that this process has loaded; a worker process must load them before its first task."""
    return tuple(_loaded)


def code_sha256(name: str) -> str:
    """SHA-256 of the file of a module or a plugin file; of a package, of its ``__init__.py``.

    Raises:
        ConfigError: the file does not exist.
    """
    if name.endswith(".py"):
        path = Path(name)
    else:
        spec = importlib.util.find_spec(name)
        path = Path(spec.origin if spec and spec.origin else name)
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"file {path} cannot be read: {error.strerror}; put it back, or edit plugins.") from None


def _load(name: str, folder: Path) -> str:
    load_module(name, folder=folder)
    return str((folder / name).resolve()) if name.endswith(".py") else name
