"""House rules that a parser can check."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from contracts.source import ROOT, modules, parsed

CATCHES_ALL = (
    "evorec/plugins.py",
    "evorec/metrics/metric.py",
    "evorec/search/algorithm.py",
    "evorec/search/evaluator.py",
    "evorec/data/content/encoder.py",
    "evorec/data/content/files.py",
    "evorec/report/run_list.py",
    "evorec/tracking/observers.py",
    "evorec/search/workers.py",
    "evorec/serving/graph.py",
    "evorec/serving/slot.py",
)
"""Where a failed training is caught, foreign code is imported or called, a foreign library reads a foreign file, and
the runs of others are listed."""

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

FILES = tuple(modules("evorec").values())
"""A rule is one test over all of them: a test for each file took seconds to collect."""


def position(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def definitions(node: ast.AST, owner: str = "") -> Iterator[tuple[str, Definition]]:
    """Functions, classes and methods by their dotted name, without those inside a function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Definition) and "overload" not in map(ast.unparse, child.decorator_list):
            yield owner + child.name, child
        if isinstance(child, ast.ClassDef):
            yield from definitions(child, f"{owner}{child.name}.")


def definitions_of_package() -> Iterator[tuple[str, Definition]]:
    for path in modules("evorec").values():
        yield from definitions(parsed(path))


DOCUMENTED = {name for name, node in definitions_of_package() if ast.get_docstring(node)}
DOCUMENTED |= {f"torch.autograd.Function.{name}" for name in ("forward", "backward")}
BASES: defaultdict[str, list[str]] = defaultdict(list)
"""Names of the base classes by name of a class; classes of equal name in different modules share an entry."""
for name, node in definitions_of_package():
    if isinstance(node, ast.ClassDef):
        BASES[name] += [ast.unparse(base).partition("[")[0] for base in node.bases]


def is_documented(owner: str, method: str) -> bool:
    """Whether a class, or a class that it extends in however many steps, documents a method."""
    return f"{owner}.{method}" in DOCUMENTED or any(is_documented(base, method) for base in BASES[owner])


def test_everything_public_has_a_docstring() -> None:
    bare = []
    for path in FILES:
        tree = parsed(path)
        if not ast.get_docstring(tree):
            bare.append(f"{position(path, 1)} the module")
        for name, node in definitions(tree):
            owner, _, own_name = name.rpartition(".")
            is_hidden = any(part.startswith("_") for part in name.split("."))
            is_inherited = any(is_documented(base, own_name) for base in BASES[owner])
            if not (is_hidden or ast.get_docstring(node) or is_inherited):
                bare.append(f"{position(path, node.lineno)} {name}")
    assert not bare, "\n".join(bare)


def test_only_named_files_catch_every_exception() -> None:
    wide = [
        position(path, node.lineno)
        for path in FILES
        if str(path.relative_to(ROOT)) not in CATCHES_ALL
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


def test_only_the_command_line_prints() -> None:
    printed = [
        position(path, node.lineno)
        for path in FILES
        if "cli" not in path.relative_to(ROOT).parts
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.stdout.write", "sys.stderr.write")
    ]
    assert not printed, "\n".join(printed)


READS = ("evorec/search/executor_choice.py",)
"""CUDA_VISIBLE_DEVICES is the only source of the names of the GPUs that a worker may get."""


def test_only_the_command_line_and_data_read_the_environment() -> None:
    read = [
        position(path, line)
        for path in FILES
        if not {"cli", "data"} & set(path.relative_to(ROOT).parts) and str(path.relative_to(ROOT)) not in READS
        for line in reads_of_the_environment(path)
    ]
    assert not read, "\n".join(read)


def reads_of_the_environment(path: Path) -> list[int]:
    """Lines that read environment variables."""
    nodes = list(ast.walk(parsed(path)))
    allowed = {  # a default for a library that has no other switch is set, not read
        node.func.value
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setdefault"
    }
    for node in nodes:  # a child process gets the whole environment: {**os.environ, ...}
        if isinstance(node, ast.Dict):
            allowed.update(value for key, value in zip(node.keys, node.values, strict=True) if key is None)
    return [
        node.lineno
        for node in nodes
        if isinstance(node, ast.Attribute | ast.Name)
        and ast.unparse(node).split(".")[-1] in ("environ", "getenv")
        and node not in allowed
    ]
