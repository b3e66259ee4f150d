"""A member as a folder that runs elsewhere: weights, ids, manifest and model card.

Nothing in a bundle is unpickled, and every file's SHA-256 stands in the manifest and is checked before use.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch

from evorec.data.dataset import Csr, Dataset
from evorec.deploy.card import model_card
from evorec.deploy.finalize import check_belongs, exact, final_weights, read_final
from evorec.errors import DataError, RunError
from evorec.models.blocks import InputBlock
from evorec.models.inputs import InputShape
from evorec.models.population import Bag, member_shapes, stack_members
from evorec.models.recommend import NO_ITEM, ItemSide, UserSide, popularity_prior, recommend
from evorec.models.spec import ModelSpec
from evorec.rec_problem import Fitted, RecProblem
from evorec.store import RunDirectory, write_atomic, write_json
from evorec.training.evaluate import masked_items, positive_ages
from evorec.training.plan import history_weights

FORMAT: Final = 1
WEIGHTS: Final = "model.safetensors"
IDS: Final = "ids.json"
MANIFEST: Final = "manifest.json"
CARD: Final = "README.md"
PARAMETERS: Final = "parameters."
"""Prefix of the trained arrays in `WEIGHTS`; the others are the encoded data that serving needs."""

Recommendations = list[list[tuple[int | str, float]]]
"""Per user the items, best first, each with its score."""


def export_bundle(run: RunDirectory, problem: RecProblem, member: str, out: Path) -> Path:
    """Writes the bundle of one member: of its final model where `finalize` trained one, else of the search's.

    Args:
        run: the run, may be open read-only.
        problem: the problem it searched.
        member: key of an archive member.
        out: folder to make.
    Returns:
        `out`.
    Raises:
        RunError: `out` exists, the run belongs to another problem, or a file is damaged.
    """
    if out.exists():
        raise RunError(f"{out} exists already; nothing is written over. Choose another folder with --out or delete it")
    check_belongs(run, problem)
    weights = final_weights(run, member)
    fitted = problem.fitted
    if weights is None:
        weights = run.read_weights(member)
    else:
        fitted = Fitted(problem.tables, exact(problem.config), fit="train+validation", seed=fitted.seed, at_most=None)
    evaluation = next(e for e in run.ledger.evaluations() if e.key == member)  # `member` has weights, so it is there
    spec = ModelSpec.from_genes(evaluation.spec)
    final_report = _final_entry(run, member) if fitted is not problem.fitted else None
    partial = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _write_files(partial, fitted, spec, weights)
    validation = final_report["validation"] if final_report else evaluation.metrics or {}  # of all users, of a sample
    manifest = _manifest(problem, fitted, member, evaluation.spec, validation, final_report)
    write_atomic(partial / CARD, model_card(manifest).encode())
    manifest["files"] = {path.name: _sha256(path) for path in sorted(partial.iterdir())}
    write_json(partial / MANIFEST, manifest)
    partial.rename(out)
    return out


def load_bundle(path: str | Path, *, device: str = "cpu") -> Recommender:
    """A recommender from a bundle.

    Args:
        path: folder that `export_bundle` wrote.
        device: ``cpu`` or ``cuda``.
    Raises:
        RunError: a file is missing, damaged or of another format.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = Path(path)
    manifest = _read_manifest(path)
    data = _read_files(path, manifest)
    try:
        ids = json.loads(data[IDS])
        found = Recommender(manifest, load(data[WEIGHTS]), ids["users"], ids["items"], device=torch.device(device))
        found.check()
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise RunError(f"bundle {path} contradicts itself ({error!r}); export it again") from None
    return found


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path} is no bundle: {error.filename}: {error.strerror}; `evorec export` writes one") from None
    except ValueError as error:
        raise RunError(f"{path / MANIFEST} is damaged: {error}; export the bundle again") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise RunError(f"{path} is no bundle: {MANIFEST} lists no files; `evorec export` writes one")
    if manifest.get("format") != FORMAT:
        raise RunError(f"bundle {path} has format {manifest.get('format')}; this evorec reads format {FORMAT}")
    if not {WEIGHTS, IDS} <= set(manifest["files"]):
        raise RunError(f"bundle {path} lists no {WEIGHTS} or {IDS} in its manifest; export it again")
    return manifest


def _read_files(path: Path, manifest: Mapping[str, Any]) -> dict[str, bytes]:
    """Content of every listed file, checked; a manifest may name files of its own folder alone, and no links."""
    data = {}
    for name, sha256 in manifest["files"].items():
        file = path / name
        if Path(name).name != name or "\0" in name or file.is_symlink():
            raise RunError(f"bundle {path} lists {name!r}, which is no plain file of its own folder; do not trust it")
        if not file.is_file():
            raise RunError(f"bundle {path} has lost {name}; export it again")
        data[name] = file.read_bytes()
        if hashlib.sha256(data[name]).hexdigest() != sha256:
            raise RunError(f"{file} is damaged: its SHA-256 is not the manifest's; export the bundle again")
    return data


@final
class Recommender:
    """A bundle in memory.

    Args:
        manifest: the bundle's manifest.
        arrays: the bundle's arrays.
        users: external ids ``(U,)``.
        items: external ids ``(I,)``.
        device: where scores are computed.
    Raises:
        ValueError: the parameters are not those of the manifest's spec; found before memory is taken for it.
    """

    def __init__(
        self,
        manifest: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray],
        users: Sequence[int | str],
        items: Sequence[int | str],
        *,
        device: torch.device,
    ) -> None:
        self.manifest = manifest
        self._items = list(items)
        self._user_places = {user: place for place, user in enumerate(users)}
        self._device = device
        spec = ModelSpec.from_genes(manifest["spec"])
        shape = _shape_of(manifest["shape"])
        parameters = {n.removeprefix(PARAMETERS): a for n, a in arrays.items() if n.startswith(PARAMETERS)}
        if {name: array.shape for name, array in parameters.items()} != member_shapes(spec, shape):
            raise ValueError("the parameters do not have the shapes that the spec gives them")
        self._population = stack_members([spec], shape, [parameters], device=device)
        self._arrays = arrays
        self._prior = arrays["item.prior"][None]
        content = self._tensor("item.content") if shape.n_content else None
        contexts = self._tensor("context.rows")
        self._item_side = ItemSide(
            Bag(self._tensor("item.rows"), self._tensor("item.weights"), content),
            self._tensor("item.statistics"),
            Bag(contexts, torch.ones(contexts.shape, dtype=self._population.flat.dtype, device=device)),
        )
        self._masked = Csr(arrays["masked.indptr"], arrays["masked.indices"])

    def check(self) -> None:
        """Whether ids, arrays and manifest fit together.

        Raises:
            ValueError: names what does not.
        """
        n_users, n_items, n_rows = len(self._user_places), len(self._items), self._population.shape.n_rows
        for name in ("item.rows", "item.weights", "item.content", "item.statistics", "item.prior", *_USER_ARRAYS):
            expected = n_items if name.startswith("item.") else n_users + 1
            if len(self._arrays[name]) != expected:
                raise ValueError(f"{name} has {len(self._arrays[name])} rows for {expected}")
        for name in ("item.rows", "user.rows", "history.rows", "context.rows"):
            rows = self._arrays[name]
            if rows.size and not 0 <= rows.min() <= rows.max() < n_rows:
                raise ValueError(f"{name} points outside of the {n_rows} embedding rows")
        masked = self._arrays["masked.indices"]
        if masked.size and not 0 <= masked.min() <= masked.max() < n_items:
            raise ValueError(f"masked.indices points outside of the {n_items} items")
        if len(self._arrays["masked.indptr"]) != n_users + 2:
            raise ValueError(f"masked.indptr has {len(self._arrays['masked.indptr'])} places for {n_users} users")
        for name in ("k", "candidates"):
            if not isinstance(self.manifest[name], int) or self.manifest[name] < 1:
                raise ValueError(f"{name} is {self.manifest[name]!r}")

    def knows(self, user: int | str) -> bool:
        """Whether the model was trained with this user; another one gets the list of an unknown user."""
        return self._place(user) < len(self._user_places)

    def recommend(self, users: Sequence[int | str], *, k: int | None = None, seen: bool = False) -> Recommendations:
        """The best items of each user.

        Args:
            users: external ids; numbers may be given as text.
            k: length of a list; by default the one the member was measured with.
            seen: whether items of the user's past may be listed.
        Raises:
            DataError: no user, or ``k < 1``.
        """
        k = int(self.manifest["k"]) if k is None else k
        if k < 1 or len(users) == 0:
            raise DataError(f"recommend needs one or more users and k >= 1, got {len(users)} users and k = {k}.")
        k = min(k, len(self._items))
        places = np.array([self._place(user) for user in users])
        masked = Csr.from_pairs(places[:0], places[:0], n_rows=len(places)) if seen else self._masked.select(places)
        sides = {name: torch.tensor(self._arrays[name][places], device=self._device) for name in _USER_ARRAYS}
        lists = recommend(
            self._population,
            self._item_side,
            UserSide(
                Bag(sides["user.rows"], sides["user.weights"]),
                Bag(sides["history.rows"], sides["history.weights"]),
                sides["user.statistics"],
                masked,
            ),
            self._prior,
            k=k,
            candidates=max(int(self.manifest["candidates"]), k),
        )
        return [
            [(self._items[item], float(score)) for item, score in zip(*pair, strict=True) if item != NO_ITEM]
            for pair in zip(lists.final[0], lists.scores[0], strict=True)
        ]

    def _place(self, user: int | str) -> int:
        unknown = len(self._user_places)
        if user in self._user_places:
            return self._user_places[user]
        text = str(user)
        as_number = int(text) if re.fullmatch(r"-?[0-9]{1,19}", text) else text
        return self._user_places.get(as_number, self._user_places.get(text, unknown))

    def _tensor(self, name: str) -> torch.Tensor:
        return torch.tensor(self._arrays[name], device=self._device)


def _shape_of(stored: Mapping[str, Any]) -> InputShape:
    """Sizes as the manifest has them, where tuples are lists; a bundle from before there were signs has none."""
    blocks = tuple(InputBlock(*block) for block in stored.get("blocks", ()))
    signs = tuple(stored.get("signs", ()))
    if len(signs) not in (0, stored["n_tasks"]) or not {1, -1}.issuperset(signs):
        raise ValueError(f"signs must be 1 or -1 for each of {stored['n_tasks']} tasks, got {signs}")
    known = {"parents": tuple(stored["parents"]), "absent": tuple(stored.get("absent", ()))}
    return InputShape(**{**stored, **known, "blocks": blocks, "signs": signs})


_USER_ARRAYS = ("user.rows", "user.weights", "user.statistics", "history.rows", "history.weights")


def _write_files(folder: Path, fitted: Fitted, spec: ModelSpec, weights: Mapping[str, np.ndarray]) -> None:
    from safetensors.numpy import save

    arrays = {PARAMETERS + name: array for name, array in weights.items()} | _serving_arrays(fitted, spec)
    write_atomic(folder / WEIGHTS, save({name: np.ascontiguousarray(a) for name, a in arrays.items()}))
    ids = {"users": fitted.dataset.user_ids.tolist(), "items": fitted.dataset.item_ids.tolist()}
    write_atomic(folder / IDS, json.dumps(ids).encode())


def _serving_arrays(fitted: Fitted, spec: ModelSpec) -> dict[str, np.ndarray]:
    """What a request needs besides the trained parameters, in the number type of the training."""
    dataset: Dataset = fitted.dataset
    real = np.float64 if fitted.config.training.precision == "float64" else np.float32
    items, ages = positive_ages(dataset)
    masked = masked_items(dataset, fitted.config.evaluation)
    return {
        "item.rows": dataset.item_rows[:-1],
        "item.weights": dataset.item_weights[:-1].astype(real),
        "item.content": dataset.item_content[:-1].astype(real),
        "item.statistics": dataset.item_statistics[:-1].astype(real),
        "item.prior": popularity_prior(items, ages, dataset.item_counts > 0, [spec])[0],
        "user.rows": dataset.user_rows,
        "user.weights": dataset.user_weights.astype(real),
        "user.statistics": dataset.user_statistics.astype(real),
        "history.rows": dataset.history_rows,
        "history.weights": history_weights(dataset.history_rows, dataset.history_recency).astype(real),
        "context.rows": dataset.context_mode[None, :],
        "masked.indptr": masked.indptr,
        "masked.indices": masked.indices,
    }


def _manifest(
    problem: RecProblem,
    fitted: Fitted,
    member: str,
    spec: Mapping[str, Any],
    validation: Mapping[str, float],
    final_entry: Mapping[str, Any] | None,
) -> dict[str, Any]:
    config, shape = problem.config, fitted.data.shape
    return {
        "format": FORMAT,
        "problem": problem.name,
        "member": member,
        "spec": dict(spec),
        "tasks": list(config.tasks.ranked),
        "kinds": config.tasks.model_dump(mode="json")["kinds"],
        "lower_is_better": list(config.tasks.lower_is_better),
        "target": config.tasks.target,
        "k": config.evaluation.k,
        "candidates": config.evaluation.n_candidates(fitted.dataset.n_items),
        "shape": {name: getattr(shape, name) for name in shape.__dataclass_fields__},
        "fit": "train" if final_entry is None else "train+validation",
        "metrics": {"validation": dict(validation), "test": final_entry and final_entry["test"]},
        "against": final_entry and final_entry["against"],
        "data": {
            "name": fitted.dataset.name,
            "sha256": fitted.dataset.sha256,
            "users": fitted.dataset.n_users,
            "items": fitted.dataset.n_items,
            "training_rows": fitted.dataset.train.n_rows,
        },
        "versions": {name: version(name) for name in ("evorec", "torch", "numpy")},
    }


def _final_entry(run: RunDirectory, member: str) -> Mapping[str, Any]:
    entries: list[dict[str, Any]] = read_final(run)["picks"]
    return next(entry for entry in entries if entry["member"] == member)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
