"""Evolve multi-task recommender configurations into a Pareto archive of deployable models.

Every public name is imported from here and loaded at its first use: ``import evorec`` alone loads neither torch nor
pymoo.

Example:
    >>> import evorec
    >>> evorec.Integer("width", 16, 128, scale="log2", default=32).cardinality
    4.0
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

_MODULES = {
    alias: (module, name)
    for module, name, alias in re.findall(
        r"^from (\S+) import (\w+) as (\w+)$",
        Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
}
"""Public name -> its module and its name there; `__init__.pyi` lists them."""

__all__ = sorted([*_MODULES, "__version__"])


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value = version("evorec")
    elif name in _MODULES:
        module, attribute = _MODULES[name]
        value = getattr(import_module(module), attribute)
    else:
        raise AttributeError(f"module 'evorec' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
