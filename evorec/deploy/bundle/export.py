"""A member as a folder that runs elsewhere: weights, graphs, ids, encoders, manifest and model card.

What a bundle recommends is compared with the member of the archive before the bundle is there: one that differs is not
written. `evorec.serving` reads bundles, without torch.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch

from evorec.data.catalogue import licence_of
from evorec.deploy.bundle.card import model_card
from evorec.deploy.bundle.checks import CHECKED_USERS, latency, list_loss, parity, same_lists
from evorec.deploy.bundle.encoders import described, encoders, number_scales, priors, serving_arrays
from evorec.deploy.bundle.graphs import (
    GRAPHS,
    PARAMETERS,
    ItemVectors,
    Member,
    SmallRecommend,
    catalogue_inputs,
    example_inputs,
    traced,
)
from evorec.deploy.bundle.onnx_files import (
    Stored,
    as_proto,
    named_axes,
    require_onnx,
    with_catalogue,
    write_graph,
)
from evorec.deploy.explaining.words import differences, genome_in_words, neighbour_in_words, neighbours
from evorec.deploy.final.finalize import check_belongs, shipped_model
from evorec.deploy.fusion.formula import Formula, member_formula
from evorec.errors import ConfigError, RunError
from evorec.models.spec import ModelSpec
from evorec.rec_problem import Fitted, RecProblem
from evorec.run.atomic import write_atomic, write_json
from evorec.run.directory import RunDirectory
from evorec.run.ledger import Evaluation
from evorec.serving.bundle import CARD, ENCODERS, FORMAT, IDS, MANIFEST, RECOMMEND, SEAL, WEIGHTS, seal_of, sha256_of
from evorec.serving.recommender import load_bundle

SMALLER: Final = ("fp16", "int8")
"""Variants of the graph for small devices."""
LARGEST_LOSS: Final = 0.02
"""Share of the places of the lists that a variant may change."""


@final
@dataclass(frozen=True)
class ExportOptions:
    """What goes into a bundle besides the member.

    Attributes:
        formula: the list score; ``None`` = the member's own.
        mmr: weight of the re-ranking for diversity, 0..1.
        formula_source: where the formula comes from, for the model card.
        variants: of `SMALLER`, further graphs for small devices.
        largest_loss: share of the places of the lists that a variant may change; one that changes more is refused.
    """

    formula: Formula | None = None
    mmr: float = 0.0
    formula_source: str = ""
    variants: tuple[str, ...] = ()
    largest_loss: float = LARGEST_LOSS

    def __post_init__(self) -> None:
        if unknown := [name for name in self.variants if name not in SMALLER]:
            raise ConfigError(f"variants must be of {', '.join(SMALLER)}, got {unknown[0]!r}.")
        if not 0 <= self.mmr <= 1:
            raise ConfigError(f"mmr must be in 0..1, got {self.mmr!r}.")
        if not 0 <= self.largest_loss <= 1:
            raise ConfigError(f"the largest loss of a variant must be in 0..1, got {self.largest_loss!r}.")


AS_TRAINED: Final = ExportOptions()


def export_bundle(
    run: RunDirectory,
    problem: RecProblem,
    member: str,
    out: Path,
    *,
    options: ExportOptions = AS_TRAINED,
    progress: Callable[[str], None] = lambda _: None,
) -> Path:
    """Writes the bundle of one member: of its final model where `finalize` trained one, else of the search's.

    Args:
        run: the run, may be open read-only.
        problem: the problem it searched.
        member: key of an archive member.
        out: folder to make.
        options: formula and variants.
        progress: told what goes on, one line each.
    Returns:
        `out`.
    Raises:
        RunError: `out` exists, the run belongs to another problem, a file is damaged, or a graph differs from the
            member.
        ConfigError: the libraries of the extra ``export`` are missing, or a variant changes too much.
    """
    require_onnx()
    if out.exists():
        raise RunError(f"{out} exists already; nothing is written over. Choose another folder with --out or delete it")
    check_belongs(run, problem)
    chosen = _Chosen.of(run, problem, member)
    partial = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        progress("writing weights, ids and encoders")
        own, prior = _write_data(partial, chosen, problem)
        served = replace(own, formula=options.formula or own.formula)
        manifest = _manifest(problem, chosen, served, prior, options)
        progress("tracing the graphs and comparing them with the member")
        manifest |= _write_graphs(partial, chosen, own, served, manifest)
        if options.variants:
            progress(f"making and measuring {', '.join(options.variants)}")
            manifest["variants"] = _write_variants(partial, chosen.fitted, served, manifest, options)
        seal(partial, manifest)
        manifest["latency"] = latency(load_bundle(partial), _some_users(chosen.fitted))
        write_atomic(partial / CARD, model_card(manifest).encode())
        seal(partial, manifest)
        load_bundle(partial)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


@final
@dataclass(frozen=True, eq=False)
class _Chosen:
    """The member that is exported: its weights, the data they were trained on, and what is known of it."""

    evaluation: Evaluation
    spec: ModelSpec
    fitted: Fitted
    weights: Mapping[str, np.ndarray]
    final: Mapping[str, Any] | None
    words: Sequence[str]
    beside: Sequence[str]

    @classmethod
    def of(cls, run: RunDirectory, problem: RecProblem, member: str) -> _Chosen:
        """From the run."""
        fitted, weights, is_final = shipped_model(run, problem, member)
        picks = (run.read_final() or {})["picks"] if is_final else []
        final_entry = next((entry for entry in picks if entry["member"] == member), None)
        members = {evaluation.key: evaluation for evaluation in run.members()}
        own, measured = members[member], {key: one.metrics or {} for key, one in members.items()}
        beside = [
            neighbour_in_words(one, problem.objectives, differences(own.spec, members[one.key].spec))
            for one in neighbours(member, measured, problem.objectives)
        ]
        tasks = problem.config.tasks
        words = genome_in_words(own.spec, tasks.ranked, target=tasks.target)
        return cls(own, ModelSpec.from_genes(own.spec), fitted, weights, final_entry, words, beside)


def seal(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes the manifest with the SHA-256 of every file that is there, and its own beside it."""
    names = sorted(path.name for path in folder.iterdir() if path.name not in (MANIFEST, SEAL))
    if CARD not in names:
        write_atomic(folder / CARD, b"")
        names = sorted([*names, CARD])
    manifest["files"] = {name: sha256_of(folder / name) for name in names}
    write_json(folder / MANIFEST, manifest)
    write_atomic(folder / SEAL, seal_of(sha256_of(folder / MANIFEST)).encode())


def _write_data(folder: Path, chosen: _Chosen, problem: RecProblem) -> tuple[Member, float]:
    """Weights, ids and encoders; also the member for the graphs, with all arrays, and the prior of a new item."""
    from safetensors.numpy import save

    fitted, spec, dataset = chosen.fitted, chosen.spec, chosen.fitted.dataset
    arrays = {PARAMETERS + name: np.asarray(array, dtype=np.float32) for name, array in chosen.weights.items()}
    arrays |= serving_arrays(fitted)
    how, tables = encoders(dataset)
    arrays |= tables
    of_items, new_item = priors(dataset, spec)
    tasks = problem.config.tasks
    made = Member(
        spec,
        fitted.data.shape,
        arrays,
        number_scales(dataset),
        dataset.user_statistics.shape[1],
        dataset.item_statistics.shape[1],
        len(dataset.context_mode),
        member_formula(spec, tasks.ranked, fitted.data.shape.signs),
        tuple(tasks.ranked),
    )
    vectors, keys = _item_vectors(made)
    arrays["catalogue.vectors"], arrays["catalogue.keys"] = vectors, np.ascontiguousarray(keys.T)
    arrays["catalogue.prior"] = of_items
    arrays["catalogue.statistics"] = np.ascontiguousarray(dataset.item_statistics[:-1], dtype=np.float32)
    write_atomic(folder / WEIGHTS, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))
    ids = {"users": dataset.user_ids.tolist(), "items": dataset.item_ids.tolist()}
    write_atomic(folder / IDS, json.dumps(ids).encode())
    write_atomic(folder / ENCODERS, json.dumps(how, ensure_ascii=False).encode())
    return made, new_item


def _item_vectors(member: Member) -> tuple[np.ndarray, np.ndarray]:
    """Vectors ``(G, I, E)`` and keys ``(I, E)`` of the catalogue."""
    inputs = {f"item_{name}": torch.tensor(member.arrays[f"item.{name}"][:-1]) for name in ("rows", "weights")}
    if member.shape.n_content:
        inputs["item_content"] = torch.tensor(member.arrays["item.content"][:-1])
    with torch.no_grad():
        vectors, keys = ItemVectors(member)(inputs)
    return vectors.contiguous().numpy(), keys.numpy()


def _write_graphs(
    folder: Path, chosen: _Chosen, own: Member, served: Member, manifest: Mapping[str, Any]
) -> dict[str, Any]:
    """All graphs; with how they agree with the member, as the manifest has it.

    Lists are compared with the member's own score, so that everything but another formula is checked.
    """
    stored = Stored(folder / WEIGHTS, own.arrays)
    for name in GRAPHS:
        _write_graph(folder, name, own, stored)
    seal(folder, dict(manifest))
    agreement = same_lists(load_bundle(folder), chosen.fitted, chosen.spec, chosen.weights)
    if served.formula != own.formula:
        _write_graph(folder, "recommend", served, stored)
    return {"parity": parity(folder, served), "lists": asdict(agreement)}


def _write_graph(folder: Path, name: str, member: Member, stored: Stored) -> None:
    program, outputs = GRAPHS[name]
    inputs = example_inputs(member, name, n=4, n_items=len(member.arrays["catalogue.prior"]), seed=0)
    if name == "recommend":
        inputs |= catalogue_inputs(member)
    model = as_proto(traced(program(member), inputs, outputs), name, (program.__doc__ or "").strip())
    with_catalogue(model, member.arrays)
    stored.share(model)
    named_axes(model, pairs=name == "ranker")
    write_graph(folder / f"{name}.onnx", model)


def _write_variants(
    folder: Path, fitted: Fitted, served: Member, manifest: dict[str, Any], options: ExportOptions
) -> dict[str, Any]:
    """Smaller graphs with their bytes and what they change of the lists.

    Raises:
        ConfigError: one changes more than `ExportOptions.largest_loss`.
    """
    names = {kind: f"{RECOMMEND.removesuffix('.onnx')}.{kind}.onnx" for kind in options.variants}
    for kind, name in names.items():
        inputs = example_inputs(served, "recommend", n=4, n_items=len(served.arrays["catalogue.prior"]), seed=0)
        model = as_proto(traced(SmallRecommend(served, kind), inputs, GRAPHS["recommend"][1]), f"recommend_{kind}", "")
        named_axes(model, pairs=False)
        write_graph(folder / name, model)
    seal(folder, manifest)
    full, users, out = load_bundle(folder), _some_users(fitted), {}
    read = [array.nbytes for name, array in served.arrays.items() if name.startswith((PARAMETERS, "catalogue."))]
    whole = (folder / RECOMMEND).stat().st_size + sum(read)
    for kind, name in names.items():
        small = load_bundle(folder, graph=name)
        loss = list_loss(full, small, users)
        if loss > options.largest_loss:
            raise ConfigError(
                f"variant {kind} changes {loss:.1%} of the places of the lists, allowed are "
                f"{options.largest_loss:.1%}; leave it out or raise --max-loss."
            )
        out[kind] = {
            "file": name,
            "bytes": (folder / name).stat().st_size,
            "bytes_of_full": whole,
            "list_loss": loss,
            "users": len(users),
            "latency": latency(small, users),
        }
    return out


def _some_users(fitted: Fitted) -> list[Any]:
    """Users that lists are compared and timed for, spread over all."""
    ids = fitted.dataset.user_ids
    step = max(1, len(ids) // CHECKED_USERS)
    found: list[Any] = ids[::step][:CHECKED_USERS].tolist()
    return found


def _manifest(
    problem: RecProblem, chosen: _Chosen, served: Member, new_item_prior: float, options: ExportOptions
) -> dict[str, Any]:
    config, fitted = problem.config, chosen.fitted
    dataset, final_entry = fitted.dataset, chosen.final
    validation = final_entry["validation"] if final_entry else chosen.evaluation.metrics or {}
    return {
        "format": FORMAT,
        "problem": problem.name,
        "member": chosen.evaluation.key,
        "spec": dict(chosen.evaluation.spec),
        "tasks": list(config.tasks.ranked),
        "kinds": config.tasks.model_dump(mode="json")["kinds"],
        "lower_is_better": list(config.tasks.lower_is_better),
        "target": config.tasks.target,
        "objectives": [{"name": one.name, "metric": one.metric, "better": one.direction} for one in problem.objectives],
        "k": config.evaluation.k,
        "candidates": config.evaluation.n_candidates(dataset.n_items),
        "formula": {
            "text": served.formula.text,
            "short": served.formula.short,
            "source": options.formula_source or "the member's own list score",
        },
        "mmr": options.mmr,
        "history_recency": dataset.history_recency,
        "new_item_prior": new_item_prior,
        "statistics": list(dataset.statistics),
        "tensors": described(served.arrays),
        "fit": "train" if final_entry is None else "train+validation",
        "steps": final_entry.get("steps") if final_entry else config.training.steps,
        "metrics": {"validation": dict(validation), "test": final_entry and final_entry["test"]},
        "against": final_entry and final_entry["against"],
        "words": list(chosen.words),
        "neighbours": list(chosen.beside),
        "data": {
            "name": dataset.name,
            "licence": licence_of(config.data.reader),
            "sha256": dataset.sha256,
            "users": dataset.n_users,
            "items": dataset.n_items,
            "training_rows": dataset.train.n_rows,
        },
        "versions": {name: version(name) for name in ("evorec", "torch", "numpy", "onnx", "onnxruntime")},
    }
