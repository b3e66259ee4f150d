"""A search algorithm whose offspring compete with a pool of candidates for the places of the next generation."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final, final

import numpy as np

from evorec.archive.indicators import share_of_box
from evorec.archive.pareto import pareto_fronts
from evorec.objectives import FAILED_VIOLATION, FloatArray
from evorec.search.algorithm import AlgorithmContext, AskTell
from evorec.search.memory.prior import MemoryPrior
from evorec.search.rungs import n_kept
from evorec.search.surrogate.candidates import candidates, one_gene_changed
from evorec.search.surrogate.curves import LearningCurves
from evorec.search.surrogate.gain import expected_gain, greedy_batch, reach, unit_directions
from evorec.search.surrogate.gaussian_process import rank_correlation
from evorec.search.surrogate.model import MOST_ROWS, Rows, SurrogateModel, follow, objective_of
from evorec.search.survival import box_coordinates
from evorec.seeds import generator

FIRST_ROWS: Final = 16
"""Rows before the model is asked; until then genomes are random. With 40 genes, a start after 8 rows loses."""
PLAIN: Final = 1 / 8
"""Share of a generation that stays plain offspring, so that the search explores what the model does not expect."""
POOL, ROUNDS, BEST = 600, 2, 0.1
"""Candidates; rounds in which the best tenth of them is mutated and added."""
IN_BATCH: Final = 300
"""Best candidates among which the batch is chosen by joint draws."""
DRAWS, DIRECTIONS = 48, 96
SKILL_OF: Final = 2
"""Generations over which the model is judged."""
COMES_TRUE, UNSURE = 0.6, 0.5
"""Share of a promised gain of hypervolume that comes true, before a search has shown its own, and half the width of the
interval around it. Chosen on ten generations of problem feed."""
LEAST_SKILL: Final = 0.1
"""Rank correlation of predicted and measured objectives below which the next generation is plain offspring."""
LEAST_SHARE: Final = 0.4
"""Share of their genomes that the less skilled of memory and model keeps: half and half is better than either alone."""


@final
class SurrogateSearch:
    """An algorithm whose offspring are chosen by models of the objectives (`SurrogateModel`).

    The model of the own rows and, with a prior, the model that starts from earlier searches share each generation
    according to how well each predicted the last generations. All draws come from (seed, generation) and the models
    from told rows only, so a replay repeats them.

    Args:
        inner: proposes plain offspring, and is told every row; it must accept rows that it did not propose.
        context: of the search.
        prior: an opinion from earlier searches.
        asks_ahead: whether it is asked again before it was told its last proposals. A generation is then what it
            proposes at once; what it still waits for gains nothing twice, like genomes of the same generation.

    Attributes:
        notes: facts on the last generation for the ledger: ``chosen``, number of genomes by source; ``skill``, the mean
            rank correlation of prediction and measurement in the last generations by model; ``hypervolume``, the 10th,
            50th and 90th percentile of the share of the box that is expected after the generation; ``predicted``, in
            the first generation, by key the expected objectives in their own unit.
    """

    def __init__(
        self,
        inner: AskTell,
        context: AlgorithmContext,
        prior: MemoryPrior | None = None,
        *,
        asks_ahead: bool = False,
    ) -> None:
        self._inner, self._context, self._prior, self._asks_ahead = inner, context, prior, asks_ahead
        arguments = context.space, context.objectives, context.constraints, context.known_points
        self._models = {"model": SurrogateModel(*arguments)}
        if prior:
            self._models = {"memory": SurrogateModel(*arguments, prior)} | self._models
        n_objectives, n_constraints = len(context.objectives), len(context.constraints)
        self._rows = Rows(np.empty((0, context.space.n_var)), np.empty((0, n_objectives)), np.empty((0, n_constraints)))
        self._generation = 0
        self._best = ""
        self._awaited: dict[bytes, dict[str, FloatArray]] = {}  # predictions by model of the genomes not told yet
        self._n_batches = 1  # proposals that have as many genomes as a generation
        self._curves = LearningCurves(n_objectives)
        self._judged: deque[tuple[dict[str, FloatArray], FloatArray]] = deque()
        self._promise: tuple[float, float] | None = None
        self._came_true = [COMES_TRUE]
        self.notes: dict[str, Any] = {}

    def ask(self) -> FloatArray:
        """See `AskTell.ask`."""
        self._generation += 1
        plain, n_rows, seed = self._inner.ask(), len(self._rows), self._context.config.seed
        if self._asks_ahead:
            self._n_batches = max(1, self._context.config.population // max(1, len(plain)))
        else:
            self._awaited.clear()
        skills = {name: self._skill(name) for name in self._models}
        shares = self._shares(len(plain), skills)
        X = plain[: shares["plain"]]
        is_later = n_rows or (self._asks_ahead and self._generation > 1)
        if is_later and n_rows < FIRST_ROWS and not self._prior:  # random genomes teach the model more than offspring
            X = self._context.new_genomes(generator(seed, "genomes before the surrogate", self._generation), len(plain))
        rng = generator(seed, "surrogate", self._generation)
        awaited = np.array([np.frombuffer(x) for x in self._awaited]).reshape(-1, X.shape[1])
        for name, model in self._models.items():
            if n_rows >= (1 if model.prior else FIRST_ROWS):
                model.fit(self._newest())
            if shares.get(name):
                taken = np.vstack([awaited, X])
                X = np.vstack([X, self._picked(model, shares[name], taken, plain[shares["plain"] :], rng)])
        X = self._context.space.snap(X)
        predicted = {
            name: model.means(X) for name, model in self._models.items() if n_rows >= FIRST_ROWS or model.prior
        }
        for row, x in enumerate(X):
            self._awaited[x.tobytes()] = {name: values[row] for name, values in predicted.items()}
        self.notes = {"chosen": shares, "skill": skills}
        if predicted:
            self._best = max(predicted, key=lambda name: skills.get(name) or 0.0)
            if not self._asks_ahead:
                self.notes |= {"hypervolume": self._expected(self._models[self._best], X)}
            if not n_rows and self._generation == 1:  # what earlier searches say, before anything is measured
                columns = zip(self._context.objectives, predicted[self._best].T, strict=True)
                values = np.stack([objective.natural(column) for objective, column in columns], axis=1)
                keys = map(self._context.space.key, X)
                self.notes |= {"predicted": dict(zip(keys, values.tolist(), strict=True))}
        return X

    def survivors(self, X: FloatArray, rungs: FloatArray, G: FloatArray, keep: float) -> np.ndarray:
        """Which members of a generation continue training after a rung, bool ``(P,)``.

        Those that together are expected to gain most hypervolume by the end of their training (`LearningCurves`).

        Args:
            X: genomes of this generation ``(P, V)``.
            rungs: objectives at the R rungs so far ``(P, R, M)``, minimised.
            G: constraints at the last of them ``(P, C)``.
            keep: share that continues, rounded up.
        """
        context, n_keep = self._context, n_kept(len(X), keep)
        means, spreads = self._curves.predict(self._in_box(rungs), self._opinion(X))
        known = context.known_points(X)
        means, spreads = np.where(np.isfinite(known), known, means), spreads * ~np.isfinite(known).all(axis=0)
        rng = generator(context.config.seed, "survivors", self._generation, rungs.shape[1])
        drawn = means + spreads * rng.standard_normal((DRAWS, *means.shape))
        follows = [objective_of(constraint, context.objectives) is not None for constraint in context.constraints]
        own = [column for column in range(G.shape[1]) if not any(follows[column : column + 1])]
        violation = np.maximum(G[:, own], 0.0).sum(axis=1)
        feasible = follow(context.constraints, context.objectives, drawn) & (violation == 0.0)
        directions = unit_directions(rng, DRAWS, DIRECTIONS, means.shape[1])
        base = _base(self._rows.points[self._front()] if self._rows.feasible.any() else None, directions)
        reached = reach(drawn, directions)
        reached[~feasible] = 0.0
        order = np.lexsort((means.mean(axis=1), -feasible.mean(axis=0), violation))  # where none gains, the likely best
        kept = np.zeros(len(X), dtype=bool)
        kept[order[greedy_batch(reached[:, order], base, n_keep)]] = True
        return kept

    def tell_rungs(self, X: FloatArray, rungs: FloatArray, F: FloatArray) -> None:
        """Learn from members of this generation that reached the end of their training; called before `tell`.

        Args:
            X: genomes ``(N, V)``.
            rungs: objectives at all rungs ``(N, R, M)``, minimised.
            F: objectives at the end ``(N, M)``.
        """
        self._curves.add(self._in_box(rungs), self._opinion(X), box_coordinates(F, self._context.objectives))

    def _in_box(self, rungs: FloatArray) -> FloatArray:
        objectives = self._context.objectives
        return box_coordinates(rungs.reshape(-1, len(objectives)), objectives).reshape(rungs.shape)

    def _opinion(self, X: FloatArray) -> FloatArray:
        """Objectives of genomes of this generation as the more skilled model predicted them; NaN without a model."""
        if not self._best:
            return np.full((len(X), len(self._context.objectives)), np.nan)
        return np.array([self._awaited[x.tobytes()][self._best] for x in X])

    def tell(self, X: FloatArray, F: FloatArray, G: FloatArray) -> None:
        """See `AskTell.tell`."""
        self._inner.tell(X, F, G)
        points, G = box_coordinates(F, self._context.objectives), G[:, : len(self._context.constraints)]
        # a failed evaluation has the worst value of every objective and violates every constraint
        done = ~((points == 1.0).all(axis=1) & (G == FAILED_VIOLATION).all(axis=1))
        opinions = [self._awaited[x.tobytes()] for x in X[done]]
        for x in X:
            self._awaited.pop(x.tobytes(), None)
        X, points, G = X[done], points[done], G[done]
        if len(X):
            unknown = ~np.isfinite(self._context.known_points(X)).all(axis=0)
            names = [name for name in self._models if all(name in opinion for opinion in opinions)]
            predicted = {name: np.array([opinion[name] for opinion in opinions])[:, unknown] for name in names}
            self._judged.append((predicted, points[:, unknown]))
            while len(self._judged) > SKILL_OF * self._n_batches:
                self._judged.popleft()
        rows = self._rows
        self._rows = Rows(np.vstack([rows.X, X]), np.vstack([rows.points, points]), np.vstack([rows.G, G]))

    def _expected(self, model: SurrogateModel, X: FloatArray) -> list[float]:
        """Percentiles of the share of the box that the rows and a new generation will dominate.

        The genomes with the highest predictions were chosen, so the draws promise too much. Their gain is multiplied by
        the share of the promised gain that came true in this search so far, which starts from `COMES_TRUE`.
        """
        rng = generator(self._context.config.seed, "expected hypervolume", self._generation)
        drawn, feasible = model.draws(X, rng, DRAWS)
        front = self._rows.points[self._front()] if self._rows.feasible.any() else np.empty((0, drawn.shape[2]))
        shares = [share_of_box(np.vstack([front, d[f]])) for d, f in zip(drawn, feasible, strict=True)]
        now, promised = share_of_box(front), np.quantile(shares, (0.1, 0.5, 0.9))
        if self._promise is not None:
            before, gain = self._promise
            self._came_true.append(min(max((now - before) / gain, 0.0), 1.0))
        self._promise = (now, promised[1] - now) if promised[1] > now else None
        factors = np.mean(self._came_true) * np.array([1 - UNSURE, 1.0, 1 + UNSURE])
        return [round(float(share), 4) for share in now + factors * (promised - now)]

    def _skill(self, name: str) -> float | None:
        """Mean rank correlation of a model's predictions of the last generations; ``None`` before any."""
        pairs = [(predicted[name], points) for predicted, points in self._judged if name in predicted]
        if not pairs:
            return None
        predicted, measured = (np.vstack(parts) for parts in zip(*pairs, strict=True))
        found = [rank_correlation(p, m) for p, m in zip(predicted.T, measured.T, strict=True)]
        return float(np.mean(found)) if found else None

    def _shares(self, n: int, skills: Mapping[str, float | None]) -> dict[str, int]:
        """How many of n genomes each source chooses: plain offspring, given genomes included, and the models."""
        n_given = len(self._context.start) if self._generation == 1 else 0
        n_plain = min(n, n_given + max(1, round(PLAIN * n)))
        if len(self._rows) < FIRST_ROWS:
            return {"plain": n_plain, "memory": n - n_plain} if self._prior else {"plain": n}
        trusted = {name: 1.0 if skill is None else max(skill, 0.0) for name, skill in skills.items()}
        if max(trusted.values()) < LEAST_SKILL:
            return {"plain": n}
        if not self._prior:
            return {"plain": n_plain, "model": n - n_plain}
        share = trusted["memory"] ** 2 / (trusted["memory"] ** 2 + trusted["model"] ** 2)
        n_memory = round((n - n_plain) * min(max(share, LEAST_SHARE), 1 - LEAST_SHARE))
        return {"plain": n_plain, "memory": n_memory, "model": n - n_plain - n_memory}

    def _newest(self) -> Rows:
        """At most `MOST_ROWS` rows: the front first, then the newest."""
        rows = self._rows
        if len(rows) <= MOST_ROWS:
            return rows
        newest = np.arange(len(rows))[::-1]
        order = np.concatenate([self._front(), newest])
        _, first = np.unique(order, return_index=True)
        return rows.select(np.sort(order[np.sort(first)[:MOST_ROWS]]))

    def _front(self) -> np.ndarray:
        """Non-dominated feasible rows; the least infeasible row if none is feasible."""
        feasible = np.flatnonzero(self._rows.feasible)
        if not len(feasible):
            return np.argsort(np.maximum(self._rows.G, 0).sum(axis=1), kind="stable")[:1]
        (first, *_) = pareto_fronts(self._rows.points[feasible], 1)
        return feasible[first]

    def _picked(
        self, model: SurrogateModel, n: int, taken: FloatArray, offspring: FloatArray, rng: np.random.Generator
    ) -> FloatArray:
        """The n new genomes that a model expects to gain most together, besides `taken`."""
        context, space, rows = self._context, self._context.space, self._rows
        directions = unit_directions(rng, DRAWS, DIRECTIONS, len(context.objectives))
        base = _base(model.means(rows.X[rows.feasible]) if rows.feasible.any() else None, directions)
        if len(rows):
            parents = rows.X[self._front()]
        else:
            assert self._prior is not None
            predicted = model.means(self._prior.X)
            parents = self._prior.X[pareto_fronts(predicted, 1)[0]]
        seen = {space.key(x) for x in taken}
        pool, gains = np.empty((0, space.n_var)), np.empty(0)
        fresh = np.vstack([offspring, candidates(space, parents, POOL, rng)])
        for round_ in range(ROUNDS + 1):
            new = self._unseen(fresh, seen)
            if len(new):
                pool = np.vstack([pool, new])
                gains = np.concatenate([gains, expected_gain(self._reached(model, new, rng, directions), base)])
            if not len(pool):
                return pool
            if round_ < ROUNDS:
                best = np.argsort(-gains, kind="stable")[: max(1, int(BEST * POOL))]
                fresh = one_gene_changed(space, pool[best], rng)
        best = np.argsort(-gains, kind="stable")[:IN_BATCH]
        # genomes chosen before, at least one plain offspring, gain nothing twice
        joint = self._reached(model, np.vstack([taken, pool[best]]), rng, directions)
        base = np.maximum(base, joint[:, : len(taken)].max(axis=1))
        return pool[best[greedy_batch(joint[:, len(taken) :], base, n)]]

    def _reached(
        self, model: SurrogateModel, X: FloatArray, rng: np.random.Generator, directions: FloatArray
    ) -> FloatArray:
        draws, feasible = model.draws(X, rng, DRAWS)
        reached = reach(draws, directions)
        reached[~feasible] = 0.0
        return reached

    def _unseen(self, X: FloatArray, seen: set[str]) -> FloatArray:
        """Rows that were neither evaluated nor seen, each once; their keys are added to `seen`."""
        space, new = self._context.space, []
        for x in X:
            key = space.key(x)
            if key not in seen and key not in self._context.evaluated:
                seen.add(key)
                new.append(x)
        return np.array(new).reshape(len(new), space.n_var)


def _base(front: FloatArray | None, directions: FloatArray) -> FloatArray:
    """How far a front ``(N, M)`` reaches along the directions of each draw, ``(DRAWS, DIRECTIONS)``; None = nowhere."""
    if front is None:
        return np.zeros((DRAWS, DIRECTIONS))
    farthest: FloatArray = reach(np.broadcast_to(front, (DRAWS, *front.shape)), directions).max(axis=1)
    return farthest
