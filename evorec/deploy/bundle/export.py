"""A member as a folder that runs elsewhere: weights, graphs, ids, encoders, manifest and model card.

The lists of a bundle are compared with those of the member before the bundle is written; a bundle that differs is
refused. `evorec.serving` reads bundles, without torch.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch

from evorec.archive.ensemble import PREFIX as ENSEMBLE_PREFIX
from evorec.archive.ensemble import Ensemble
from evorec.data.catalogue import licence_of
from evorec.data.dataset import Dataset
from evorec.data.encode import Fit
from evorec.data.held_out import RankingUsers
from evorec.deploy.bundle.card import model_card
from evorec.deploy.bundle.checks import (
    CHECKED_USERS,
    latency_text,
    list_loss,
    parity,
    same_lists,
    same_predictions,
)
from evorec.deploy.bundle.encoders import encoders, past_arrays, priors, serving_arrays, shown_columns
from evorec.deploy.bundle.graphs import (
    GRAPHS,
    ITEM_ITEM,
    PARAMETERS,
    ItemVectors,
    Member,
    SmallRecommend,
    catalogue_inputs,
    example_inputs,
    traced,
)
from evorec.deploy.bundle.mixed_graphs import MIXED_SCORE, MixedMember, MixedPart, programs_of
from evorec.deploy.bundle.onnx_files import LARGEST, StoredArrays, name_axes, require_onnx, with_catalogue, write_graph
from evorec.deploy.explanation.description import describe
from evorec.deploy.explanation.neighbours import neighbours
from evorec.deploy.final.finalize import shipped_models
from evorec.deploy.fusion.formula import Formula, member_formula
from evorec.deploy.runs import check_belongs
from evorec.errors import ConfigError, RunError, command
from evorec.models.item_item import Positives, latest_item_item
from evorec.models.population import Population
from evorec.models.recommend import Lists
from evorec.models.spec import ModelSpec
from evorec.outputs import check_free_space, move_folder, workspace
from evorec.recommender.encoding import EncodedData
from evorec.recommender.problem import RecProblem
from evorec.run.atomic import write_atomic, write_json
from evorec.run.directory import RunDirectory
from evorec.search.confirm import read_confirmed
from evorec.serving.bundle import (
    CARD,
    ENCODERS,
    FORMAT,
    IDS,
    MANIFEST,
    MIXED_FORMAT,
    RECOMMEND,
    SEAL,
    SHOWN,
    WEIGHTS,
    seal_of,
    sha256_of,
    types_of,
)
from evorec.serving.recommender import load_bundle
from evorec.serving.rows import load_rows
from evorec.training.evaluate import mixture_lists

SMALLER: Final = ("fp16", "int8")
"""Variants of the graph for small devices."""


@final
@dataclass(frozen=True)
class ExportOptions:
    """Contents of a bundle besides the member.

    Attributes:
        formula: the list score; ``None`` = the member's own.
        mmr: weight of the re-ranking for diversity, 0..1.
        formula_source: origin of the formula, for the model card.
        variants: of `SMALLER`, further graphs for small devices.
        largest_loss: share of the listed items that a variant may change; a variant that changes more is refused.
        show: columns of the items table that lists can show.
        all_data: whether to export the model that was trained on all data after the test.
    """

    formula: Formula | None = None
    mmr: float = 0.0
    formula_source: str = ""
    variants: tuple[str, ...] = ()
    largest_loss: float = 0.02
    show: tuple[str, ...] = ()
    all_data: bool = False

    def __post_init__(self) -> None:
        if unknown := [name for name in self.variants if name not in SMALLER]:
            raise ConfigError(f"variants must be of {', '.join(SMALLER)}, got {unknown[0]!r}.")
        for name, value in (("mmr", self.mmr), ("largest_loss", self.largest_loss)):
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} must be in 0..1, got {value!r}.")


COPIES: Final = 4
"""Of a model, while its bundle is written: weights, the vectors of items that graphs hold, and variants of a graph."""
DATA_BYTES: Final = 1 << 24
"""Least space for ids, encoders and the card."""
AS_TRAINED: Final = ExportOptions()


def export_bundle(
    run: RunDirectory,
    problem: RecProblem,
    member: str,
    out: str | Path,
    *,
    options: ExportOptions = AS_TRAINED,
    progress: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write the bundle of a member or an ensemble: the final models if `finalize` trained them, else of the search.

    Args:
        run: the run, may be open read-only.
        problem: the problem it searched.
        member: key of an archive member, or of an ensemble.
        out: folder to make.
        options: formula and variants.
        progress: called with a line of text per step.
    Returns:
        `out`.
    Raises:
        RunError: `out` exists, the run belongs to another problem, a file is damaged, or a graph differs from the
            member.
        ConfigError: the libraries of the extra ``export`` are missing, or a variant changes too much; or an ensemble is
            to have a formula or variants.
    """
    require_onnx()
    out = Path(out)
    if os.path.lexists(out):
        raise RunError(f"{out} exists already and is not overwritten; choose another folder with --out or delete it")
    check_belongs(run, problem)
    ensemble = _ensemble(run, member, options) if member.startswith(ENSEMBLE_PREFIX) else None
    shares = Ensemble((member,), (1.0,), (1.0,)) if ensemble is None else Ensemble.from_json(ensemble)
    keys = shares.members
    encoded, weights, fit = shipped_models(run, problem, keys, all_data=options.all_data)
    room = sum(array.nbytes for own in weights.values() for array in own.values())
    check_free_space(out, room * COPIES + DATA_BYTES, purpose="export")
    specs = {found.key: ModelSpec.from_genes(found.spec) for found in run.members() if found.key in keys}
    if not encoded.dataset.has_items:
        spec, arrays = specs[keys[0]], weights[keys[0]]
        return _export_rows(run, problem, member, out, Shipped(encoded, spec, arrays, fit), options, progress)
    by_items = [key for key, spec in specs.items() if spec.uses_item_item]
    if len(by_items) > 1:
        raise ConfigError(
            f"{len(by_items)} members of {member} have item-item scores ({', '.join(by_items)}), and a bundle holds "
            "the faded past and the matrix of one; select an ensemble with at most one of them, or export its members."
        )
    shown = shown_columns(problem, encoded.dataset.item_ids.tolist(), options.show)
    with workspace(out) as folder:
        progress("writing weights, ids and encoders")
        stored_encoders, tables = encoders(encoded.dataset)
        parts = [_member(encoded, specs[key], weights[key], tables) for key in keys]
        own: Member | MixedMember = parts[0][0]
        if ensemble is not None:
            mixed = zip(parts, shares.tasks, shares.lists, strict=True)
            own = MixedMember.of([MixedPart(part, tasks, lists, prior) for (part, prior), tasks, lists in mixed])
        _write_data(folder, encoded, own.arrays, stored_encoders)
        if shown:
            write_atomic(folder / SHOWN, json.dumps(shown, ensure_ascii=False).encode())
        served: Member | MixedMember = own
        if options.formula is not None and isinstance(own, Member):
            served = replace(own, formula=options.formula)
        manifest = _manifest(run, problem, encoded, served, options, fit=fit)
        if isinstance(served, Member):
            manifest |= _of_member(run, problem, member, served, options, fit=fit) | {"new_item_prior": parts[0][1]}
        else:
            manifest |= _of_ensemble(run, problem, ensemble or {}, served, fit=fit) | {"new_item_prior": 0.0}
        progress("tracing the graphs and comparing them with the trained models")
        stored = StoredArrays(folder / WEIGHTS, own.arrays)
        for name in programs_of(own):
            _write_graph(folder, name, own, stored)
        seal(folder, manifest)
        # With the member's own score, so that all parts except another formula are checked.
        stack = encoded.stack([specs[key] for key in keys], [weights[key] for key in keys])
        listed = partial(_lists, encoded, stack, shares)
        agreement = same_lists(load_bundle(folder), encoded, listed)
        if served is not own:
            _write_graph(folder, "recommend", served, stored)
        manifest |= {"parity": parity(folder, served), "lists": agreement}
        ids = encoded.dataset.user_ids
        users = ids[:: max(1, len(ids) // CHECKED_USERS)][:CHECKED_USERS].tolist()
        if options.variants:
            progress(f"making and measuring {', '.join(options.variants)}")
            assert isinstance(served, Member)  # others have none
            manifest["variants"] = _write_variants(folder, users, served, manifest, options)
        write_atomic(folder / CARD, model_card(manifest).encode())
        seal(folder, manifest)
        progress(latency_text(load_bundle(folder), users))
        move_folder(folder, out)
    return out


@final
@dataclass(frozen=True, eq=False)
class Shipped:
    """The model to export.

    Attributes:
        encoded: its data.
        spec: of the member.
        weights: its arrays.
        fit: the rows that it was trained on.
    """

    encoded: EncodedData
    spec: ModelSpec
    weights: Mapping[str, np.ndarray]
    fit: Fit


def _export_rows(
    run: RunDirectory,
    problem: RecProblem,
    member: str,
    out: Path,
    model: Shipped,
    options: ExportOptions,
    progress: Callable[[str], None],
) -> Path:
    """The bundle of a member that predicts the labels of rows: weights, encoders of the features, and the ranker."""
    from safetensors.numpy import save

    given = {"formula": options.formula, "mmr": options.mmr, "variants": options.variants, "show": options.show}
    if wrong := [name for name, value in given.items() if value]:
        raise ConfigError(f"a table of rows has no lists of items: leave {', '.join(wrong)} out of the export.")
    dataset = model.encoded.dataset
    arrays = {PARAMETERS + name: np.asarray(array, dtype=np.float32) for name, array in model.weights.items()}
    own = Member(
        model.spec, model.encoded.tensors.shape, arrays, _number_scales(dataset), 0, 0, len(dataset.context_mode),
        member_formula(model.spec, dataset.tasks, dataset.signs), dataset.tasks,
    )  # fmt: skip
    with workspace(out) as partial:
        progress("writing weights and encoders")
        write_atomic(partial / WEIGHTS, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))
        write_atomic(partial / IDS, json.dumps({"users": [], "items": []}).encode())
        stored = {"context": encoders(dataset)[0]["context"]}
        write_atomic(partial / ENCODERS, json.dumps(stored, ensure_ascii=False).encode())
        progress("tracing the graph and comparing it with the member")
        _write_graph(partial, "ranker", own, StoredArrays(partial / WEIGHTS, arrays))
        manifest = _manifest(run, problem, model.encoded, own, options, fit=model.fit)
        manifest |= _of_member(run, problem, member, own, options, fit=model.fit)
        read = {field.name for field in dataset.context_columns}
        manifest |= {
            "rows": True,
            "ignored_features": sorted(name for side, name in dataset.declared if name not in read),
        }
        seal(partial, manifest)
        manifest["parity"] = parity(partial, own)
        manifest["predictions"] = same_predictions(
            load_rows(partial), problem, model.encoded, model.spec, model.weights, model.fit
        )
        write_atomic(partial / CARD, model_card(manifest).encode())
        seal(partial, manifest)
        move_folder(partial, out)
    return out


def seal(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest with the SHA-256 of every file of the folder, and its own SHA-256 in a second file."""
    if not (folder / CARD).exists():
        write_atomic(folder / CARD, b"")
    names = sorted(path.name for path in folder.iterdir() if path.name not in (MANIFEST, SEAL))
    manifest["files"] = {name: sha256_of(folder / name) for name in names}
    write_json(folder / MANIFEST, manifest)
    write_atomic(folder / SEAL, seal_of(sha256_of(folder / MANIFEST)).encode())


def _ensemble(run: RunDirectory, key: str, options: ExportOptions) -> dict[str, Any]:
    """An ensemble as the run stores it.

    Raises:
        ConfigError: there is none, or the options are those of single members.
    """
    stored = {row["key"]: row for row in (run.read_ensembles() or {}).get("ensembles", ())}
    if key not in stored:
        known = ", ".join(stored) or f"none; {command('ensemble', run.path)} selects some"
        raise ConfigError(f"run {run.path} has no ensemble {key}; it has: {known}.")
    if options.formula is not None or options.variants:
        what = "a formula of --formula combines the heads" if options.formula is not None else "--variant is made"
        raise ConfigError(f"{what} of a single member, and {key} is an ensemble; leave the option out.")
    return dict(stored[key])


def _lists(encoded: EncodedData, stack: Population, shares: Ensemble, users: RankingUsers) -> Lists:
    """Lists of the trained models, by the code that measures them."""
    return mixture_lists(stack, shares.lists, encoded.dataset, encoded.tensors, users, encoded.config.evaluation)


def _member(
    encoded: EncodedData, spec: ModelSpec, weights: Mapping[str, np.ndarray], tables: Mapping[str, np.ndarray]
) -> tuple[Member, float]:
    """A member for the graphs, with all arrays, and a new item's prior."""
    dataset = encoded.dataset
    arrays = {PARAMETERS + name: np.asarray(array, dtype=np.float32) for name, array in weights.items()}
    arrays |= serving_arrays(encoded)
    if spec.uses_item_item:
        arrays |= past_arrays(dataset, spec)
        model = latest_item_item(spec.item_item, Positives.of(dataset), spec.item_item_settings)
        arrays |= {ITEM_ITEM + name: array for name, array in model.arrays().items()}
        largest = max((array for name, array in arrays.items() if name.startswith(ITEM_ITEM)), key=lambda a: a.nbytes)
        if largest.nbytes > LARGEST:
            raise ConfigError(
                f"the item-item matrix of this member takes {largest.nbytes} bytes, and an array of an ONNX graph at "
                f"most {LARGEST}; export a member with fewer neighbours."
            )
    arrays |= tables
    arrays["catalogue.prior"], new_item_prior = priors(dataset, spec)
    arrays["catalogue.statistics"] = np.ascontiguousarray(dataset.item_statistics[:-1], dtype=np.float32)
    member = Member(
        spec,
        encoded.tensors.shape,
        arrays,
        _number_scales(dataset),
        dataset.user_statistics.shape[1],
        dataset.item_statistics.shape[1],
        len(dataset.context_mode),
        member_formula(spec, dataset.tasks, dataset.signs),
        dataset.tasks,
    )
    inputs = {f"item_{name}": torch.tensor(arrays[f"item.{name}"][:-1]) for name in ("rows", "weights")}
    if member.shape.n_content:
        inputs["item_content"] = torch.tensor(arrays["item.content"][:-1])
    with torch.no_grad():
        vectors, keys = ItemVectors(member)(inputs)
    arrays["catalogue.vectors"], arrays["catalogue.keys"] = vectors.contiguous().numpy(), keys.T.contiguous().numpy()
    return member, float(new_item_prior)


def _write_data(
    folder: Path, encoded: EncodedData, arrays: Mapping[str, np.ndarray], stored_encoders: Mapping[str, Any]
) -> None:
    """Write arrays, ids and encoders."""
    from safetensors.numpy import save

    dataset = encoded.dataset
    write_atomic(folder / WEIGHTS, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))
    ids = {"users": dataset.user_ids.tolist(), "items": dataset.item_ids.tolist()}
    write_atomic(folder / IDS, json.dumps(ids).encode())
    write_atomic(folder / ENCODERS, json.dumps(stored_encoders, ensure_ascii=False).encode())


def _number_scales(dataset: Dataset) -> list[tuple[float, float] | None]:
    """Of each task ``None``, or shift and scale from the output to the label's unit."""
    return [
        None if kind == "binary" else (float(shift), float(scale))
        for kind, shift, scale in zip(dataset.kinds, dataset.label_shift, dataset.label_scale, strict=True)
    ]


def _write_graph(folder: Path, name: str, member: Member | MixedMember, stored: StoredArrays) -> None:
    program, outputs = programs_of(member)[name]
    inputs = example_inputs(member, name, n=4, n_items=member.shape.n_items, seed=0)
    if name == "recommend":
        inputs |= catalogue_inputs(member)
    model = traced(program(member), inputs, outputs, name=name)
    with_catalogue(model, member.arrays)
    stored.share(model)
    name_axes(model, common="" if name != "ranker" else "pairs" if member.shape.has_items else "rows")
    write_graph(folder / f"{name}.onnx", model)


def _write_variants(
    folder: Path, users: list[Any], served: Member, manifest: dict[str, Any], options: ExportOptions
) -> dict[str, Any]:
    """Write smaller graphs; returns their bytes and their effect on the lists.

    Raises:
        ConfigError: a variant changes more than `ExportOptions.largest_loss`.
    """
    names = {kind: f"{RECOMMEND.removesuffix('.onnx')}.{kind}.onnx" for kind in options.variants}
    inputs = example_inputs(served, "recommend", n=4, n_items=len(served.arrays["catalogue.prior"]), seed=0)
    for kind, name in names.items():
        model = traced(SmallRecommend(served, kind), inputs, GRAPHS["recommend"][1], name=f"recommend_{kind}")
        name_axes(model)
        write_graph(folder / name, model)
    seal(folder, manifest)
    full, out = load_bundle(folder), {}
    read = [array.nbytes for name, array in served.arrays.items() if name.startswith((PARAMETERS, "catalogue."))]
    for kind, name in names.items():
        small = load_bundle(folder, graph=name)
        loss = list_loss(full, small, users)
        if loss > options.largest_loss:
            raise ConfigError(
                f"variant {kind} changes {loss:.1%} of the listed items, at most {options.largest_loss:.1%} may "
                "change; leave it out or raise --max-loss."
            )
        out[kind] = {
            "file": name,
            "bytes": (folder / name).stat().st_size,
            "bytes_of_full": (folder / RECOMMEND).stat().st_size + sum(read),
            "list_loss": loss,
            "users": len(users),
        }
    return out


def _fading(spec: ModelSpec) -> dict[str, float | None]:
    """How the past fades; without a half-life ``None``, because JSON has no infinity."""
    half_life = spec.past_half_life if math.isfinite(spec.past_half_life) else None
    return {"decay": spec.past_decay, "half_life_days": half_life}


def _manifest(
    run: RunDirectory,
    problem: RecProblem,
    encoded: EncodedData,
    served: Member | MixedMember,
    options: ExportOptions,
    *,
    fit: Fit,
) -> dict[str, Any]:
    """What members and ensembles have in common."""
    specs = [served.spec] if isinstance(served, Member) else [part.member.spec for part in served.parts]
    by_items = next((spec for spec in specs if spec.uses_item_item), None)
    config, dataset = problem.config, encoded.dataset
    return {
        "format": FORMAT if isinstance(served, Member) else MIXED_FORMAT,
        "problem": problem.name,
        "tasks": list(config.tasks.ranked),
        "kinds": config.tasks.model_dump(mode="json")["kinds"],
        "lower_is_better": list(config.tasks.lower_is_better),
        "target": config.tasks.target,
        "objectives": [
            {"name": objective.name, "metric": objective.metric, "better": objective.direction}
            for objective in problem.objectives
        ],
        "k": config.evaluation.k,
        "candidates": config.evaluation.n_candidates(dataset.n_items),
        "mmr": options.mmr,
        "history_recency": dataset.history_recency,
        **({} if by_items is None else {"past": _fading(by_items)}),
        "statistics": list(dataset.statistics),
        "tensors": types_of(served.arrays),
        "fit": "train+validation+test" if fit == "all" else fit,
        "machines": run.machines,
        "memory": run.memory_text,
        "data": {
            "name": dataset.name,
            "licence": licence_of(config.data.reader),
            "sha256": problem.data_sha256,
            "encoded_sha256": dataset.sha256,
            "users": problem.size.n_users,
            "items": problem.size.n_items,
            "listed_items": dataset.n_items,
            "training_rows": int(dataset.item_counts.sum()) if dataset.has_items else dataset.train.n_rows,
            "remarks": list(problem.remarks),
        },
        "versions": {name: version(name) for name in ("evorec", "torch", "numpy", "onnx", "onnxruntime")},
    }


def _of_member(
    run: RunDirectory, problem: RecProblem, member: str, served: Member, options: ExportOptions, *, fit: Fit
) -> dict[str, Any]:
    """The part of the manifest that is about a single member."""
    members = {found.key: found for found in run.members()}
    own, front = members[member], {key: (found.spec, found.metrics or {}) for key, found in members.items()}
    report = run.read_final() if fit != "train" else None
    fresh = None
    if (confirmed := read_confirmed(run)) is not None:
        again = confirmed.members[member]
        fresh = {"seeds": confirmed.n_seeds, "standing": again.standing, "means": again.means, "sds": again.sds}
    entry = next((entry for entry in report["picks"] if entry["member"] == member), None) if report else None
    return {
        "member": member,
        "spec": dict(own.spec),
        "formula": {
            "text": served.formula.text,
            "short": served.formula.short,
            "source": options.formula_source or "the member's own list score",
        },
        "steps": entry.get("steps") if entry else problem.config.training.steps,
        "metrics": {
            "validation": dict(entry["validation"] if entry else own.metrics or {}),
            "test": entry and entry["test"],
            "fresh": fresh,
        },
        "against": entry and entry["against"],
        "words": describe(own.spec, problem.space),
        "neighbours": [near.text for near in neighbours(member, front, problem.objectives)],
    }


def _of_ensemble(
    run: RunDirectory, problem: RecProblem, ensemble: Mapping[str, Any], served: MixedMember, *, fit: Fit
) -> dict[str, Any]:
    """The part of the manifest that is about an ensemble."""
    report = run.read_final() if fit != "train" else None
    entries = {entry["ensemble"]: entry for entry in (report or {}).get("ensembles", ())}
    entry, specs = entries.get(ensemble["key"]), {found.key: found.spec for found in run.members()}
    steps = {one["key"]: one["steps"] for one in entry["members"]} if entry else {}
    rows = [
        {**row, "spec": dict(specs[row["key"]]), "steps": steps.get(row["key"], problem.config.training.steps)}
        for row in ensemble["members"]
    ]
    return {
        "member": ensemble["key"],
        "spec": {},
        "ensemble": {"members": rows, "best": ensemble["best"], "prior_rows": served.prior_rows},
        "formula": {"text": "", "short": MIXED_SCORE, "source": "the mean of its members"},
        "metrics": {
            "validation": dict(entry["validation"] if entry else ensemble["metrics"]),
            "test": entry and entry["test"],
            "fresh": None,
        },
        "against": entry and entry["against"],
        "words": [f"{row['key']}: {line}" for row in rows for line in describe(row["spec"], problem.space)],
        "neighbours": [],
    }
