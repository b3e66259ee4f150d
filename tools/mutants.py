"""How strong are the tests? Sixty random changes of the code, and how many of them no test notices.

Each mutant changes a single operator, number, condition or return value of `evorec` or `problems`, drawn with a fixed
seed from all of them. Only the tests that execute the changed line are run, the fastest first, until a test fails. A
mutant that no test notices survives; so does a mutant of a line that no test executes.

    pip install -e ".[test,dev]"
    python tools/mutants.py                          # about half an hour on two cores
    python tools/mutants.py --checkout ../other      # another checkout, e.g. of an earlier release

The checkout is copied to a temporary folder and not changed.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import math
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
}  # fmt: skip
HANGS_AFTER_S = 900.0
"""Seconds beyond three times the usual duration of its tests after which a mutant hangs, and so is noticed, too."""
IGNORED = shutil.ignore_patterns(".git", ".venv", "runs", "bundles", "__pycache__", ".mypy_cache", ".ruff_cache")


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """The mutations of a single node, each a changed copy."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        other = copy.deepcopy(node)
        other.ops[0] = COMPARISONS[type(node.ops[0])]()
        yield other
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC and not isinstance(node.left, ast.JoinedStr):
        other = copy.deepcopy(node)
        other.op = ARITHMETIC[type(node.op)]()
        yield other
    elif isinstance(node, ast.BoolOp):
        other = copy.deepcopy(node)
        other.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield other
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield copy.deepcopy(node.operand)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.copy_location(ast.Constant(not node.value), node)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield ast.copy_location(ast.Constant(node.value + 1), node)
    elif isinstance(node, ast.Return) and node.value is not None:
        yield ast.copy_location(ast.Return(ast.Constant(None)), node)
    elif isinstance(node, ast.If):
        other = copy.deepcopy(node)
        other.test = ast.UnaryOp(ast.Not(), other.test)
        yield other


def sites(tree: ast.Module) -> list[tuple[ast.AST, str, int | None]]:
    """Nodes that run in a function, with the field of their parent that holds them; no annotations and no messages."""
    out: list[tuple[ast.AST, str, int | None]] = []

    def visit(node: ast.AST, inside: bool) -> None:
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list") or isinstance(node, ast.Raise | ast.JoinedStr):
                continue
            children = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
            for index, child in children:
                if isinstance(child, ast.AST):
                    if inside and any(True for _ in changes(child)):
                        out.append((node, name, index))
                    visit(child, inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))

    visit(tree, False)
    return out


def mutant(source: str, which: int) -> tuple[str, int, str]:
    """The source with its site number `which` changed, the line, and the change in words."""
    tree = ast.parse(source)
    parent, name, index = sites(tree)[which]
    held = getattr(parent, name)
    old = held if index is None else held[index]
    new = next(changes(old))
    text = f"{ast.unparse(old).splitlines()[0]}  ->  {ast.unparse(ast.fix_missing_locations(new)).splitlines()[0]}"
    if index is None:
        setattr(parent, name, new)
    else:
        held[index] = new
    return ast.unparse(ast.fix_missing_locations(tree)), old.lineno, text


def tests_by_line(root: Path, environment: dict[str, str]) -> tuple[dict[tuple[str, int], set[str]], dict[str, float]]:
    """Node ids of the tests that execute each line, and the seconds of each test; runs the whole suite once.

    A test that fails without a mutant says nothing; its seconds are infinite.
    """
    report = root / "durations.json"
    plugin = root / "record_durations.py"
    plugin.write_text(
        "import json, math, pathlib\nspent = {}\n"
        "def pytest_runtest_logreport(report):\n"
        "    spent[report.nodeid] = spent.get(report.nodeid, 0.0) + (math.inf if report.failed else report.duration)\n"
        "def pytest_sessionfinish(session):\n"
        "    if not hasattr(session.config, 'workerinput'):\n"
        f"        pathlib.Path({str(report)!r}).write_text(json.dumps(spent))\n"
    )
    command = [
        sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile",
        "-p", "record_durations", "-p", "no:cacheprovider",
        "--cov=evorec", "--cov=problems", "--cov-context=test", "--cov-report=",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    print(done.stdout.splitlines()[-1] if done.stdout else done.stderr, flush=True)
    lines: dict[tuple[str, int], set[str]] = {}
    from coverage.numbits import numbits_to_nums

    with sqlite3.connect(root / ".coverage") as database:
        rows = database.execute(
            "select file.path, context.context, line_bits.numbits from line_bits "
            "join file on file.id = line_bits.file_id join context on context.id = line_bits.context_id"
        )
        for path, context, bits in rows:
            test = context.partition("|")[0]
            for line in numbits_to_nums(bits) if test else ():
                lines.setdefault((str(Path(path).relative_to(root)), line), set()).add(test)
    return lines, json.loads(report.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, default=Path(__file__).resolve().parents[1])
    parser.add_argument("-n", type=int, default=60, help="number of mutants")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="mutants-")) / "checkout"
    shutil.copytree(options.checkout, root, ignore=IGNORED)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    lines, seconds = tests_by_line(root, environment)
    sources = {
        str(path.relative_to(root)): path.read_text(encoding="utf-8")
        for package in ("evorec", "problems")
        for path in sorted((root / package).rglob("*.py"))
    }
    every = [(path, which) for path, source in sources.items() for which in range(len(sites(ast.parse(source))))]
    survivors = 0
    for path, which in random.Random(options.seed).sample(every, options.n):
        changed, line, text = mutant(sources[path], which)
        known = [test for test in lines.get((path, line), ()) if seconds.get(test, 0.0) < math.inf]
        chosen = sorted(known, key=lambda test: seconds.get(test, 0.0))
        start = time.monotonic()
        noticed = False
        if chosen:
            (root / path).write_text(changed, encoding="utf-8")
            (root / "chosen.txt").write_text("\n".join(chosen))
            command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "@chosen.txt"]
            limit = HANGS_AFTER_S + 3 * sum(seconds.get(test, 0.0) for test in chosen)
            try:
                done = subprocess.run(
                    command, cwd=root, env=environment, capture_output=True, timeout=limit, check=False
                )
                noticed = done.returncode != 0
            except subprocess.TimeoutExpired:
                noticed = True
            (root / path).write_text(sources[path], encoding="utf-8")
        survivors += not noticed
        state = "noticed" if noticed else "SURVIVES"
        print(f"{state:9s} {path}:{line}  {text}  ({len(chosen)} tests, {time.monotonic() - start:.0f} s)", flush=True)
    print(f"{survivors} of {options.n} mutants survive (seed {options.seed}, {len(every):,d} sites)")
    shutil.rmtree(root.parent)


if __name__ == "__main__":
    main()
