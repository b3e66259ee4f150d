"""Imports run one way, and heavy libraries stay where they are needed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from contracts.source import ROOT, Import, imports, modules

LAYERS = (
    ("errors",),
    ("energy", "heartbeat", "outputs", "plugins", "seeds", "streams"),
    ("registry",),
    ("config",),
    ("space", "metrics"),
    ("objectives",),
    ("data", "archive", "run"),
    ("serving",),
    ("tracking",),
    ("models",),
    ("training",),
    ("problem",),
    ("recommender",),
    ("search",),
    ("deploy", "report"),
    ("nightly",),
    ("cli",),
    ("__main__",),
)
"""Parts of `evorec` from the ground up. A part may import itself and what is below, never its neighbours."""
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}

TORCH = ("models", "training", "recommender", "deploy", "nightly")
"""Parts that may import torch; `models.spec` and `models.baselines` do without, which `validate` relies on."""
TORCH_FREE_MODELS = ("evorec.models", "evorec.models.spec", "evorec.models.baselines")
TORCH_FREE_PACKAGES = tuple(
    f"evorec.models.{kind}" for kind in ("mechanisms", "balancings", "optimizers", "retrieval_losses", "item_items")
)
"""Options of genes, which the search space loads: they import torch inside functions only."""
TORCH_INSIDE = "evorec.data.content.encoder"
"""Imports torch in the function that encodes texts."""
PYMOO = ("evorec.search", "evorec.space.operators", "evorec.deploy.fusion")
"""Where pymoo and deap may be imported."""
LATE = ("plotly", "matplotlib", "sklearn", "joblib", "scipy.stats", "safetensors", "pooch", "requests")
"""Libraries that are imported inside the functions that use them: a command that does not need them must not wait."""
STARTUP_S = 600.0  # a Python process that imports most of the package, on a busy machine


def part(module: str) -> str:
    return module.split(".")[1]


def own_imports(module: str) -> list[Import]:
    """What a module imports of evorec itself."""
    return [found for found in imports(modules("evorec")[module]) if found.target.split(".")[0] == "evorec"]


def is_inside(target: str, package: str) -> bool:
    return target == package or target.startswith(f"{package}.")


INNER = [name for name in modules("evorec") if name != "evorec"]
"""A rule is one test over all of them: a test for each module took seconds to collect."""


def test_a_module_imports_only_what_is_below_it() -> None:
    breaches = []
    for module in INNER:
        assert part(module) in LEVEL, f"{module} has no place in LAYERS"
        for found in own_imports(module):
            if found.target == "evorec":
                breaches.append(f"{module}:{found.line}: the public names of evorec are not for its own modules")
            elif part(found.target) != part(module) and LEVEL[part(found.target)] >= LEVEL[part(module)]:
                breaches.append(f"{module}:{found.line}: {found.target} is not below {part(module)}")
    assert not breaches, "\n".join(breaches)


def test_a_library_is_imported_only_where_it_belongs() -> None:
    breaches = [f"{module}:{breach}" for module in INNER for breach in misplaced_libraries(module)]
    assert not breaches, "\n".join(breaches)


def misplaced_libraries(module: str) -> Iterator[str]:
    """Lines of a module that import a library which belongs to other modules, or into a function."""
    may_torch = part(module) in TORCH and module not in TORCH_FREE_MODELS
    may_pymoo = any(is_inside(module, place) for place in PYMOO)
    for found in imports(modules("evorec")[module]):
        library = found.target.split(".")[0]
        inside = module == TORCH_INSIDE and not found.at_import
        if library == "torch" and not (may_torch or inside or found.for_types):
            yield f"{found.line}: torch"
        if library in ("pymoo", "deap") and not may_pymoo:
            yield f"{found.line}: {library}"
        if library == "problems":
            yield f"{found.line}: problems are found through their entry-point group"
        if found.at_import and any(is_inside(found.target, late) for late in LATE):
            yield f"{found.line}: {found.target} belongs inside the function that uses it"


def test_imports_make_no_cycle() -> None:
    """Imports that only a type checker sees count too."""
    below = {
        module: sorted({found.target for found in own_imports(module)} - {module})
        for module in modules("evorec")
        if module != "evorec"
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for target in below.get(module, []):
                visit(target, (*path, module))
            done.add(module)

    for module in below:
        visit(module, ())


@pytest.mark.parametrize("package", ["evorec", "problems"])
def test_no_module_is_called_utils(package: str) -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert [name for name in modules(package) if name.split(".")[-1] in vague] == []


def loaded(names: list[str]) -> set[str]:
    """Libraries that are loaded, by their top names, after a fresh process has imported the given modules."""
    code = (
        f"import importlib, json, sys\nfor name in {names!r}: importlib.import_module(name)\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=STARTUP_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_the_package_alone_loads_no_library() -> None:
    assert loaded(["evorec"]) & {"torch", "pymoo", "deap", "numpy", "scipy", "polars", "pydantic", "plotly"} == set()


def served() -> list[str]:
    """Modules that read and ask a bundle; the others answer over HTTP."""
    over_http = {"connections", "http", "messages"}
    return [
        name for name in modules("evorec") if part(f"{name}.") == "serving" and name.split(".")[-1] not in over_http
    ]


@pytest.mark.parametrize("module", served())
def test_a_bundle_is_read_with_numpy_and_onnxruntime_alone(module: str) -> None:
    """Whatever is imported, at once or late; polars, which reads tables of users, is late and named here."""
    allowed = {*sys.stdlib_module_names, "numpy", "onnxruntime", "evorec", *(["polars"] if "batch" in module else [])}
    breaches = []
    for found in imports(modules("evorec")[module]):
        library = found.target.split(".")[0]
        if library not in allowed or (library in ("polars", "onnxruntime") and found.at_import):
            breaches.append(f"line {found.line}: {found.target}")
    assert not breaches, "\n".join(breaches)


def test_a_process_that_reads_bundles_loads_no_other_library() -> None:
    """Through what evorec itself imports, too."""
    assert len(served()) > 10
    names = loaded(served())
    heavy = {
        "torch", "polars", "pydantic", "scipy", "typer", "rich", "pymoo", "deap", "plotly", "sklearn", "safetensors",
        "onnx", "fastapi", "joblib", "moocore",
    }  # fmt: skip
    assert names & heavy == set()
    assert "numpy" in names


def test_parts_without_training_load_no_torch() -> None:
    free = [name for name in modules("evorec") if name == "evorec" or part(name) not in TORCH]
    choices = [name for name in modules("evorec") if any(is_inside(name, package) for package in TORCH_FREE_PACKAGES)]
    assert len(choices) > 20
    assert "torch" not in loaded([*free, *TORCH_FREE_MODELS, *choices, *modules("problems")])


def test_parts_outside_the_search_load_no_pymoo() -> None:
    free = [name for name in modules("evorec") if not any(is_inside(name, place) for place in PYMOO)]
    assert loaded([*free, *modules("problems")]) & {"pymoo", "deap", "plotly", "joblib"} == set()
