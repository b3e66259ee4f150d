"""The package's own source, parsed; what the contracts of this folder look at."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Import:
    """One imported module, with its place.

    Args:
        target: full name; of ``from a import b`` the module ``a.b`` where there is one, else ``a``.
        line: line number.
        at_import: whether it is carried out when the importing module is loaded.
        for_types: whether only a type checker sees it.
    """

    target: str
    line: int
    at_import: bool
    for_types: bool


@cache
def modules(package: str) -> dict[str, Path]:
    """Every module of a package of this repository, by its full name."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> Iterator[Import]:
    """Every import statement of a file, wherever it stands."""
    yield from _imports(parsed(path), at_import=True, for_types=False)


def _imports(node: ast.AST, *, at_import: bool, for_types: bool) -> Iterator[Import]:
    known = modules("evorec")
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for name in child.names:
                yield Import(name.name, child.lineno, at_import and not for_types, for_types)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: relative imports hide what is imported"
            module = child.module or ""
            targets = {f"{module}.{name.name}" if f"{module}.{name.name}" in known else module for name in child.names}
            for target in sorted(targets):
                yield Import(target, child.lineno, at_import and not for_types, for_types)
        else:
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            types = isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
            yield from _imports(child, at_import=at_import and not is_function, for_types=for_types or types)
