"""The command `doctor`: what is installed, what the machine can do, and what is wrong."""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Final, Literal, final

import typer

from evorec.cli.app import DEFINE, command
from evorec.cli.output import Output, fact_table
from evorec.report.table import Column, Row, Table

EXTRAS: Final = {
    "bench": "comparisons with Optuna: evorec.as_optuna, experiments",
    "cluster": "workers on several machines, with Ray",
    "docs": "the documentation site",
    "excel": "logs and tables in .xlsx",
    "export": "bundles with ONNX graphs: evorec export",
    "serve": "a server over HTTP: evorec serve",
    "text": "encoders of texts as content: data.content",
    "track": "TensorBoard, MLflow, and meters of NVIDIA GPUs",
}
"""What each extra adds; those of developers are not shown."""
LEAST_SQLITE: Final = (3, 37)
"""The first version with STRICT tables, which the ledger has."""
LEAST_MEMORY_GIB: Final = 2.0
"""A search of the built-in simulator needs about 1 GiB."""


@final
@dataclass(frozen=True)
class Finding:
    """Something that was checked.

    Attributes:
        name: what.
        state: broken = a command that needs nothing else fails; warning = slower, or less than possible.
        text: what was found.
        advice: what to do; empty if it is fine.
    """

    name: str
    state: Literal["ok", "warning", "broken"]
    text: str
    advice: str = ""


@command(
    panel=DEFINE,
    order=60,
    examples=("evorec doctor", "evorec doctor --runs /data/runs --format json"),
)
def doctor(
    output: Output,
    runs: Annotated[
        Path, typer.Option("--runs", metavar="FOLDER", help="Folder for run directories, whose disk is checked.")
    ] = Path("runs"),
) -> None:
    """Check the installation and the machine: versions, devices, memory, disk, extras, and known problems.

    The exit code is 1 if something that every search needs is broken.
    """
    findings = [*_versions(), *_plugins(), *_disk(runs)]
    facts: dict[str, Any] = {}
    try:
        from evorec.training.machine import machine_facts

        facts = {**machine_facts(), "mkl_cbwr": os.environ.get("MKL_CBWR", "")}
        findings += _machine(facts)
    except (ImportError, OSError) as error:  # e.g. a shared library that is missing
        advice = "install PyTorch again: https://pytorch.org/get-started"
        findings.append(Finding("torch", "broken", f"cannot be imported: {error}", advice))
    extras = [_extra(name) for name in _extra_names()]
    versions = {"python": sys.version.split()[0]} | {
        name: metadata.version(name) for name, _ in _requirements("") if _installed(name)
    }
    n_broken = sum(finding.state == "broken" for finding in findings)
    columns = (Column("state"), Column("found"), Column("advice"))
    rows = tuple(Row(found.name, (found.state, found.text, found.advice)) for found in findings)
    value = {
        "evorec": metadata.version("evorec"), "broken": n_broken, "findings": [asdict(found) for found in findings],
        "machine": facts, "versions": versions, "extras": extras,
    }  # fmt: skip
    tables = [Table("Checks", "check", columns, rows)]
    if facts:
        shown = {
            each["device"]: f"{each['name']}, {each['free_gib']:.1f} of {each['memory_gib']:.1f} GiB free, bfloat16 "
            f"{'yes' if each['bfloat16'] else 'no'}"
            for each in facts["devices"]
        }
        shown |= {"cores": facts["cores"], "threads per operation": facts["threads"]}
        shown |= {"CPU capability": facts["cpu_capability"], "MKL": facts["mkl_cbwr"] if facts["mkl"] else "none"}
        tables.append(fact_table("Machine", shown))
    columns = (Column("installed"), Column("adds"), Column("install with"))
    rows = tuple(Row(each["extra"], (each["installed"], each["adds"], each["install"])) for each in extras)
    tables += [Table("Extras", "extra", columns, rows), fact_table("Versions", versions)]
    text = f"{n_broken} broken" if n_broken else "everything that a search needs works"
    output.result(value, *tables, text=text)
    if n_broken:
        raise typer.Exit(1)


def _requirements(extra: str) -> Iterator[tuple[str, Any]]:
    """Distributions that evorec needs, or an extra of it, with their version specifiers, here."""
    from packaging.requirements import Requirement

    for text in metadata.requires("evorec") or ():
        found = Requirement(text)
        in_extra = found.marker is not None and "extra" in str(found.marker)
        if in_extra == bool(extra) and (found.marker is None or found.marker.evaluate({"extra": extra})):
            yield found.name, found.specifier


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _wrong(extra: str) -> Iterator[tuple[str, str]]:
    """Distributions of an extra, or of evorec itself, that are missing or of a wrong version; with what is wrong."""
    for name, specifier in _requirements(extra):
        if not _installed(name):
            yield name, "is not installed"
        elif not specifier.contains(version := metadata.version(name), prereleases=True):
            yield name, f"has version {version}, and evorec needs {specifier}"


def _versions() -> Iterator[Finding]:
    wrong = list(_wrong(""))
    for name, text in wrong:
        yield Finding(name, "broken", text, f"pip install -U '{name}', with the constraints.txt of this version")
    if not wrong:
        yield Finding("libraries", "ok", "all that evorec needs are installed, in versions that it takes")
    if sqlite3.sqlite_version_info < LEAST_SQLITE:
        text = f"SQLite {sqlite3.sqlite_version} has no STRICT tables"
        yield Finding("sqlite", "broken", text, "use a Python with SQLite 3.37 or newer")
    else:
        yield Finding("sqlite", "ok", f"SQLite {sqlite3.sqlite_version}")


def _plugins() -> Iterator[Finding]:
    """Entry points of other packages that cannot be imported."""
    import importlib

    for group in ("evorec.plugins", "evorec.algorithms", "evorec.trackers", "evorec.problems"):
        for entry in metadata.entry_points(group=group):
            try:
                importlib.import_module(entry.module)
            except ImportError as error:
                owner = entry.dist.name if entry.dist else "an unknown package"
                text = f"{entry.value} of {owner} cannot be imported: {error}"
                yield Finding(f"plugin {entry.name}", "warning", text, f"update or uninstall {owner}")


def _disk(runs: Path) -> Iterator[Finding]:
    """Free space and locks in the folder of the runs, and the space for temporary files."""
    from evorec.config import ExecutionConfig
    from evorec.outputs import free_gib, lock_file

    least = ExecutionConfig().min_free_gib
    for name, folder in (("disk of runs", runs), ("disk of temporary files", Path(tempfile.gettempdir()))):
        free = free_gib(folder.absolute())
        state: Literal["ok", "broken"] = "ok" if free >= least else "broken"
        advice = "" if state == "ok" else "free some space, or set run.output or TMPDIR to another disk"
        yield Finding(name, state, f"{free:.1f} GiB free in {folder.absolute()}", advice)
    nearest = next(folder for folder in (runs.absolute(), *runs.absolute().parents) if folder.is_dir())
    try:
        with tempfile.TemporaryDirectory(prefix=".evorec-doctor-", dir=nearest) as own:
            os.close(lock_file(Path(own) / "lock"))
    except OSError as error:
        text = f"{nearest}: {error.strerror or error}"
        yield Finding("locks", "broken", text, "choose a folder that can be written, on a file system with locks")
    else:
        yield Finding("locks", "ok", f"files in {nearest} can be written and locked")


def _machine(facts: dict[str, Any]) -> Iterator[Finding]:
    free = facts["devices"][0]["free_gib"]
    if free < LEAST_MEMORY_GIB:
        advice = "end other programs, or set run.workers = 1 and run.memory_gib"
        yield Finding("memory", "warning", f"{free:.1f} GiB available", advice)
    else:
        yield Finding("memory", "ok", f"{free:.1f} GiB available")
    n_gpus = len(facts["devices"]) - 1
    if facts["nvidia"] and not n_gpus:
        why = "is a build for CPUs" if facts["cuda_build"] is None else f"(CUDA {facts['cuda_build']}) finds no device"
        advice = "install a CUDA build of PyTorch that suits the driver: https://pytorch.org/get-started"
        yield Finding("gpu", "warning", f"the system has NVIDIA's driver, but PyTorch {why}", advice)
    else:
        yield Finding("gpu", "ok", f"{n_gpus} CUDA devices" if n_gpus else "none; searches run on the CPU")
    if facts["mkl"] and facts["mkl_cbwr"].upper() in ("OFF", "BRANCH_OFF"):
        text = f"MKL_CBWR={facts['mkl_cbwr']}: results may differ between equal runs"
        yield Finding("reproducible", "warning", text, "unset MKL_CBWR; evorec sets it to AUTO")
    else:
        yield Finding("reproducible", "ok", "equal runs give equal results on this CPU")


def _extra_names() -> list[str]:
    names = metadata.metadata("evorec").get_all("Provides-Extra") or []
    return sorted(name for name in names if name in EXTRAS)


def _extra(name: str) -> dict[str, Any]:
    missing = [distribution for distribution, _ in _wrong(name)]
    return {
        "extra": name, "installed": not missing, "missing": missing, "adds": EXTRAS[name],
        "install": "" if not missing else f"pip install 'evorec[{name}]'",
    }  # fmt: skip
