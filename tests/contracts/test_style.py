"""House rules that a parser can check."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from contracts.source import ROOT, modules, parsed

CATCHES_ALL = (
    "evorec/plugins.py",
    "evorec/metrics/metric.py",
    "evorec/search/evaluator.py",
    "evorec/data/content/encoder.py",
    "evorec/data/content/files.py",
    "evorec/serving/graph.py",
    "evorec/serving/slot.py",
)
"""Where a failed training is caught, foreign code is imported or called, and a foreign library reads a foreign file."""

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

every_file = pytest.mark.parametrize("path", modules("evorec").values(), ids=lambda path: str(path.relative_to(ROOT)))


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def definitions(node: ast.AST, owner: str = "") -> Iterator[tuple[str, Definition]]:
    """Functions, classes and methods by their dotted name; not what stands inside a function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Definition) and "overload" not in map(ast.unparse, child.decorator_list):
            yield owner + child.name, child
        if isinstance(child, ast.ClassDef):
            yield from definitions(child, f"{owner}{child.name}.")


def with_docstring() -> set[str]:
    """Every class, function and method of the package that says what it does, by its dotted name in its module."""
    trees = [parsed(path) for path in modules("evorec").values()]
    return {name for tree in trees for name, node in definitions(tree) if ast.get_docstring(node)}


DOCUMENTED = with_docstring() | {f"torch.autograd.Function.{name}" for name in ("forward", "backward")}
"""Methods that a base class describes: one of ours, or of PyTorch's."""


@every_file
def test_everything_public_has_a_docstring(path: Path) -> None:
    tree = parsed(path)
    bare = [] if ast.get_docstring(tree) else [f"{place(path, 1)} the module"]
    bases: dict[str, list[str]] = {}
    for name, node in definitions(tree):
        owner, _, own_name = name.rpartition(".")
        if isinstance(node, ast.ClassDef):
            bases[name] = [ast.unparse(base) for base in node.bases]
        is_hidden = any(part.startswith("_") for part in name.split("."))
        says_so_above = any(f"{base}.{own_name}" in DOCUMENTED for base in bases.get(owner, []))
        if not (is_hidden or ast.get_docstring(node) or says_so_above):
            bare.append(f"{place(path, node.lineno)} {name}")
    assert not bare, "\n".join(bare)


@every_file
def test_only_named_places_catch_every_exception(path: Path) -> None:
    if str(path.relative_to(ROOT)) in CATCHES_ALL:
        return
    wide = [
        place(path, node.lineno)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ExceptHandler) and catches_all(node) and not raises_again(node)
    ]
    assert not wide, "\n".join(wide)


def catches_all(handler: ast.ExceptHandler) -> bool:
    caught = set(ast.unparse(handler.type).strip("()").split(", ")) if handler.type else {"BaseException"}
    return bool(caught & {"Exception", "BaseException"})


def raises_again(handler: ast.ExceptHandler) -> bool:
    """Whether it only cleans up: its last statement is a bare ``raise``."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


@every_file
def test_only_the_command_line_prints(path: Path) -> None:
    if "cli" in path.relative_to(ROOT).parts:
        return
    printed = [
        place(path, node.lineno)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.stdout.write", "sys.stderr.write")
    ]
    assert not printed, "\n".join(printed)


@every_file
def test_only_the_command_line_and_data_read_the_environment(path: Path) -> None:
    if {"cli", "data"} & set(path.relative_to(ROOT).parts):
        return
    handed_on = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.Dict)]  # {**os.environ} of a child
    children = {value for node in handed_on for key, value in zip(node.keys, node.values, strict=True) if key is None}
    writes = {  # a default for a library that has no other switch is set, not read
        node.func.value
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setdefault"
    }
    read = [
        place(path, node.lineno)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute | ast.Name)
        and ast.unparse(node).split(".")[-1] in ("environ", "getenv")
        and node not in writes | children
    ]
    assert not read, "\n".join(read)
