"""The notebook of the guides is run as Jupyter runs it: cell by cell, and the last value of each cell is shown."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebook.ipynb"


def shown(code: str, names: dict[str, Any]) -> Any:
    """Run a cell and return what a notebook shows below it."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), names)


def test_the_notebook_runs_and_shows_tables_and_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in code), "figures of another machine would be out of date"
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    values = [shown("".join(cell["source"]), names) for cell in code]
    figures = [value for value in values if hasattr(value, "_repr_png_")]
    assert [figure._repr_png_()[:4] for figure in figures] == [b"\x89PNG"] * 3
    assert sum(hasattr(value, "_repr_html_") for value in values) == 3, "the run and two frames"
    assert (tmp_path / "front.svg").is_file()
