"""Sizes and shapes of the code: lines, files, classes, helpers with one caller, comments, import cycles.

A line of code is neither blank nor comment nor docstring. A helper is a private function or method; it has one caller
when its name occurs once outside its definition. Import cycles include imports for type checkers.

    python tools/structure.py                # this checkout
    python tools/structure.py ../other       # another checkout, e.g. of an earlier release
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from pathlib import Path

MANY_ARGUMENTS = 6
NOT_CODE = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER, tokenize.COMMENT)
KERNELS = ("models", "training", "metrics")
"""Packages of kernels and numerics, where comments should say why."""


def docstring_lines(tree: ast.Module) -> set[int]:
    """Lines of docstrings, those below assignments included."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for child in body if isinstance(body, list) else []:
            if (
                isinstance(child, ast.Expr)
                and isinstance(child.value, ast.Constant)
                and isinstance(child.value.value, str)
            ):
                lines |= set(range(child.lineno, (child.end_lineno or child.lineno) + 1))
    return lines


def count_lines(source: str) -> tuple[int, int]:
    """Lines of code, and comments."""
    code: set[int] = set()
    comments = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments += not re.match(r"#\s*(?:noqa|type:|fmt:)", token.string)
        elif token.type not in NOT_CODE:
            code |= set(range(token.start[0], token.end[0] + 1))
    return len(code - docstring_lines(ast.parse(source))), comments


def module_names(root: Path) -> dict[str, Path]:
    """Every module of evorec by its full name."""
    out = {}
    for path in sorted((root / "evorec").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        out[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return out


def import_cycles(root: Path) -> list[list[str]]:
    """Groups of modules that import each other at import time or for types, by Tarjan's algorithm."""
    modules = module_names(root)
    edges: dict[str, set[str]] = {}
    for name, path in modules.items():
        targets = set()
        for node in top_level(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                full = {f"{node.module}.{alias.name}" for alias in node.names}
                targets |= {t for t in full if t in modules} or {node.module}
        edges[name] = (targets & modules.keys()) - {name, "evorec"}
    edges.pop("evorec")  # its public names are loaded at their first use
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for target in sorted(edges.get(module, ())):
            if target not in index:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], index[target])
        if low[module] == index[module]:
            group = []
            while not group or group[-1] != module:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for module in edges:
        if module not in index:
            visit(module)
    return found


def top_level(tree: ast.AST) -> list[ast.AST]:
    """Statements outside functions, those under ``if TYPE_CHECKING`` included."""
    out: list[ast.AST] = []
    for child in ast.iter_child_nodes(tree):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            out += [child, *top_level(child)]
    return out


def n_arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Arguments without self and cls."""
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def main(root: Path) -> None:
    lines: Counter[str] = Counter()
    names: Counter[str] = Counter()
    private: Counter[str] = Counter()
    kernel_code = kernel_comments = n_comments = n_files = n_classes = n_functions = many = 0
    for path in sorted([*(root / "evorec").rglob("*.py"), *(root / "problems").rglob("*.py")]):
        source = path.read_text(encoding="utf-8")
        parts = path.relative_to(root).parts
        code, comments = count_lines(source)
        package = "/".join(parts[:2]) if parts[0] == "evorec" and len(parts) > 2 else parts[0]
        lines[package] += code
        n_comments += comments
        n_files += 1
        if parts[0] == "evorec" and parts[1] in KERNELS:
            kernel_code, kernel_comments = kernel_code + code, kernel_comments + comments
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef):
                n_classes += 1
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                n_functions += 1
                many += n_arguments(node) > MANY_ARGUMENTS
                if node.name.startswith("_") and not node.name.endswith("__"):
                    private[node.name] += 1
            elif isinstance(node, ast.Name):
                names[node.id] += 1
            elif isinstance(node, ast.Attribute):
                names[node.attr] += 1
    for package, n in sorted(lines.items()):
        print(f"{n:7,d}  {package}")
    total = sum(lines.values())
    once = sum(names[name] <= n for name, n in private.items() for _ in range(n))
    n_private = sum(private.values())
    cycles = import_cycles(root)
    tests = sum(count_lines(p.read_text(encoding="utf-8"))[0] for p in (root / "tests").rglob("*.py"))
    print(f"{total:7,d}  lines of code in evorec and problems, {tests:,d} in tests")
    print(f"{n_files:7,d}  files, {n_classes} classes, {n_functions} functions, {n_private} of them private")
    print(f"{once:7,d}  private functions with one caller ({once / max(n_private, 1):.0%})")
    print(f"{many:7,d}  functions with more than {MANY_ARGUMENTS} arguments")
    print(
        f"{n_comments:7,d}  comments ({n_comments / total:.1%} of lines; kernels {kernel_comments / kernel_code:.1%})"
    )
    print(f"{len(cycles):7,d}  import cycles" + "".join(f"\n         {' <-> '.join(group)}" for group in cycles))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1])
