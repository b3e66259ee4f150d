"""Named extensions of a kind: mechanisms, metrics, algorithms, readers, commands.

An extension is a file that registers itself when it is imported. Built-in extensions are the modules of a package,
which are discovered; other packages name theirs in an entry point, and a configuration names files
(`evorec.plugins`).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping, ValuesView
from contextlib import contextmanager
from typing import Generic, TypeVar, final

from evorec.errors import ConfigError, guess
from evorec.plugins import load_installed

T = TypeVar("T")


@final
class Registry(Mapping[str, T], Generic[T]):
    """Extensions of a kind by name, in order of registration.

    The first look-up imports the modules of `package` and the installed plugins.

    Args:
        kind: singular noun for messages, e.g. ``"mechanism"``.
        package: full name of the package whose modules register the built-in extensions; ``None`` = they are
            registered by the module that owns the registry.
        group: entry-point group whose modules register more of this kind, besides ``evorec.plugins``.

    Example:
        >>> shapes: Registry[int] = Registry("shape")
        >>> shapes.register("square", 4)
        4
        >>> shapes["sqare"]
        Traceback (most recent call last):
            ...
        evorec.errors.ConfigError: unknown shape 'sqare'; did you mean 'square'? An extension ...
    """

    def __init__(self, kind: str, *, package: str | None = None, group: str | None = None) -> None:
        self.kind = kind
        self._package, self._group = package, group
        self._entries: dict[str, T] = {}
        self._loading = False
        self._loaded = package is None and group is None

    def register(self, name: str, value: T) -> T:
        """Add an extension and return it.

        Raises:
            ConfigError: another extension has this name.
        """
        if name in self._entries:
            raise ConfigError(
                f"two extensions register the {self.kind} {name!r}: {self._entries[name]!r} and {value!r}; rename an "
                "extension."
            )
        self._entries[name] = value
        return value

    @contextmanager
    def borrowed(self, name: str, value: T) -> Iterator[T]:
        """Add an extension for a block of code; no search space that is built outside of it offers the extension.

        Raises:
            ConfigError: another extension has this name.
        Example:
            >>> shapes: Registry[int] = Registry("shape")
            >>> with shapes.borrowed("square", 4):
            ...     shapes["square"]
            4
            >>> "square" in shapes
            False
        """
        self._load()
        self.register(name, value)
        try:
            yield value
        finally:
            del self._entries[name]

    def __getitem__(self, name: str) -> T:
        """The extension of a name.

        Raises:
            ConfigError: no extension has this name; says which was probably meant.
        """
        self._load()
        if name not in self._entries:
            raise ConfigError(
                f"unknown {self.kind} {name!r}{guess(str(name), sorted(self._entries))} "
                'An extension in a file of your own is loaded by the key plugins, e.g. plugins = ["my_file.py"].'
            )
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(self._entries)

    def __len__(self) -> int:
        self._load()
        return len(self._entries)

    def values(self) -> ValuesView[T]:
        """All extensions; that of `Mapping` would look each name up by itself."""
        self._load()
        return self._entries.values()

    def _load(self) -> None:
        if self._loading:  # a module that registers itself may look another extension up
            return
        self._loading = True
        try:
            if not self._loaded:
                if self._package is not None:
                    for module in pkgutil.iter_modules(importlib.import_module(self._package).__path__):
                        importlib.import_module(f"{self._package}.{module.name}")
                self._loaded = True
            load_installed("evorec.plugins")
            if self._group is not None:
                load_installed(self._group)
        finally:
            self._loading = False
