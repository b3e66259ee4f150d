"""What `import evorec` offers."""

from __future__ import annotations

import ast
import importlib
import tomllib

import numpy as np
import pytest
from contracts.source import ROOT, modules, parsed

import evorec
from evorec.errors import EvorecError


def checked_names() -> dict[str, str]:
    """Names that a type checker sees in `evorec`, with the module and name they come from."""
    tree = parsed(ROOT / "evorec" / "__init__.pyi")
    found = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {name.asname or name.name: f"{node.module}:{name.name}" for node in found for name in node.names}


def test_type_checkers_and_programs_see_the_same_names() -> None:
    assert {*checked_names(), "__version__"} == set(evorec.__all__)
    assert dir(evorec) == evorec.__all__, "tab completion shows the public names, and nothing else"


@pytest.mark.parametrize("name", sorted(checked_names()))
def test_a_public_name_is_what_its_module_defines(name: str) -> None:
    module, _, attribute = checked_names()[name].partition(":")
    assert getattr(evorec, name) is getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("name", sorted(checked_names()))
def test_no_public_name_hides_behind_a_module(name: str) -> None:
    assert f"evorec.{name}" not in modules("evorec"), "once the module is imported, it takes the name"


def test_every_kind_of_error_is_public() -> None:
    assert {kind.__name__ for kind in EvorecError.__subclasses__() if kind.__module__ == "evorec.errors"} <= set(
        evorec.__all__
    )


def test_the_version_is_the_one_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert evorec.__version__ == project["version"]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="module 'evorec' has no attribute 'serach'"):
        _ = evorec.serach  # type: ignore[attr-defined]


def test_public_objects_show_themselves_in_a_line() -> None:
    from evorec.config import RunConfig, SearchConfig
    from evorec.problem import Outcome
    from problems import analytic

    problem = analytic.build()
    result = evorec.run_search(problem, SearchConfig(population=8, generations=2))
    shown = [problem, problem.space, evorec.ParetoArchive(), result, evorec.as_optuna(problem), problem.objectives[0]]
    shown += [Outcome({}, weights={"w": np.zeros((99, 99))}), RunConfig(), *problem.space.genes]
    for value in shown:
        assert "\n" not in repr(value), type(value)
        assert " object at 0x" not in repr(value), type(value)
    assert repr(problem).startswith("Analytic('analytic', ")
    assert len(repr(result)) < 120


def test_the_front_of_a_search_is_a_table() -> None:
    from evorec.config import SearchConfig
    from problems import analytic

    problem = analytic.build()
    result = evorec.run_search(problem, SearchConfig(population=8, generations=2))
    front = result.front()
    names = [objective.name for objective in problem.objectives]
    assert front.columns == ["member", *names]
    assert dict(zip(front["member"], front[names[0]], strict=True)) == {
        member.key: (member.metrics or {})[problem.objectives[0].metric] for member in result.members
    }
    assert front[names[0]].is_sorted(descending=problem.objectives[0].direction == "max")
    assert result.path is None
