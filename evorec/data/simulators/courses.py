"""Courses: who enrols, who finishes, who rates well; learners climb from level to level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import numpy as np
import polars as pl

from evorec.config import SimulatorConfig
from evorec.data.simulators import world as worlds
from evorec.data.simulators.world import Float64, Int64, Mask, World
from evorec.data.tables import SECONDS_PER_DAY, Columns, Feature, Tables
from evorec.seeds import generator

TASKS: Final = ("enrol", "finish", "rated_well")
LEVELS: Final = 4
STEPS: Final = (-1, 0, 1)
STEP_SHARES: Final = (0.25, 0.5, 0.25)
"""A course on offer is this much below or above the level that comes next, and how often."""
NEXT_BONUS: Final = 0.8
"""Logit by which the level that comes next is enrolled in more than one that is done already."""
TOO_HARD: Final = 2.0
"""Logit of finishing that a missing prerequisite costs; of enrolling it costs half."""
STRIDES: Final = (1_000_003, 1_000_033, 1_000_037, 1_000_039, 1_000_081, 1_000_099, 1_000_117, 1_000_121)
"""Primes: steps of any of them through fewer courses meet each once before the first comes again."""
BASES: Final = {"enrol": -1.2, "finish": 0.3, "rated_well": -0.2}
"""Logit of each step for an average learner and course; a step counts only after the one before."""


def simulate(config: SimulatorConfig) -> Tables:
    """Visits of learners to a catalogue of courses, generated as follows.

    1. *Subjects and tastes.* Categories are subjects; tastes and drift as in the feed. The courses of a subject have
       levels 1 to 4 in turn. The prerequisite of a course is a finished course of the level below in its subject.
    2. *Visits.* Learners differ in activity (log-normal) and come at any time of the log. A visit shows a course of a
       subject by taste, of the level that comes next for the learner (50 %), one below or one above; among the courses
       of that subject and level a learner begins at a popular one (Zipf) and meets each of the others, in an order of
       the learner's own, before one comes again.
    3. *Enrol.* Taste x course, more for the level that comes next, less where the prerequisite is missing.
    4. *Finish*, after enrolling: taste x course, the learner's diligence (normal), much less where the prerequisite is
       missing. Who finishes has that level in that subject from then on, so levels rise with time.
    5. *Rated well*, after finishing: taste turned by ``conflict_angle_deg`` x course, and the course's quality.

    Candidates see the course's subject, level, price and content (a noisy view of its taste), the learner's segment
    (noisy favourite subject) and tenure, and at each visit ``stage``, the learner's highest level so far.
    ``new_item_share`` is not used.

    Args:
        config: sizes, popularity, drift, conflict and seed.
    """
    world = World.draw(config)
    courses = _Courses.draw(config, world)
    log = _Visits.draw(config, world, courses)
    rng = generator(config.seed, "simulate-courses-features")
    items = worlds.item_table(world, rng).rename({"category": "subject"})
    return Tables(
        name="simulated courses",
        interactions=log.table(),
        tasks=TASKS,
        users=worlds.user_table(world, rng),
        items=items.with_columns(level=pl.Series(courses.level)),
        context=(Feature("stage", "categorical"),),
        user_features=worlds.USER_FEATURES,
        item_features=(
            Feature("subject", "categorical"),
            Feature("level", "categorical"),
            Feature("price", "numeric"),
        ),
        content=("content", "subject"),
    )


@final
@dataclass(frozen=True, eq=False)
class _Courses:
    """Level 1 to 4 of each course ``(I,)``; the courses in groups of one subject and level, the popular ones first.

    Args:
        level: ``(I,)``.
        items: ``(I,)``, grouped.
        first: where each group begins, ``(C * LEVELS + 1,)``.
        quality: ``(I,)``.
    """

    level: Int64
    items: Int64
    first: Int64
    quality: Float64

    @classmethod
    def draw(cls, config: SimulatorConfig, world: World) -> _Courses:
        rng = generator(config.seed, "simulate-courses-catalogue")
        order = np.argsort(world.category_of, kind="stable")
        subject = world.category_of[order]
        level = np.empty(config.n_items, dtype=np.int64)
        level[order] = 1 + (np.arange(config.n_items) - np.searchsorted(subject, subject)) % LEVELS
        items = rng.permutation(config.n_items)
        group = world.category_of * LEVELS + level - 1
        items = items[np.argsort(group[items], kind="stable")]
        first = np.searchsorted(group[items], np.arange(len(world.categories) * LEVELS + 1))
        return cls(level, items, first, rng.normal(size=config.n_items))

    def size(self, groups: Int64) -> Int64:
        """Courses of each group ``(N,)``."""
        return self.first[groups + 1] - self.first[groups]


@final
@dataclass(frozen=True, eq=False)
class _Visits:
    """Visits in order of time ``(N,)``, and what became of them."""

    users: Int64
    items: Int64
    time: Int64
    stage: Int64
    labels: dict[str, Mask]

    @classmethod
    def draw(cls, config: SimulatorConfig, world: World, courses: _Courses) -> _Visits:
        rng = generator(config.seed, "simulate-courses-visits")
        n = config.n_interactions
        users = worlds.active_users(config, n, rng)
        offset = np.sort(worlds.moments(config, n, rng))
        taste = world.taste(users, config.drift * offset / (config.n_days * SECONDS_PER_DAY))
        subjects = worlds.choose(worlds.EXPOSURE_SCALE * taste @ world.categories.T, rng)
        turn = worlds.turned(config.n_factors, np.deg2rad(config.conflict_angle_deg), rng)
        learners = _Learners.draw(config, len(world.categories), n, rng)
        items, stage = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        labels = {task: np.zeros(n, dtype=np.bool_) for task in TASKS}
        for rows in _rounds(users):
            stage[rows] = learners.level[users[rows]].max(axis=1)
            items[rows] = learners.offered(rows, users[rows], subjects[rows], courses)
            shown, own = world.items[items[rows]], taste[rows]
            agreements = {
                "enrol": worlds.agreement(own, shown),
                "finish": worlds.agreement(own, shown),
                "rated_well": worlds.agreement(own @ turn, shown),
            }
            for task, done in learners.attend(rows, users[rows], items[rows], agreements, world, courses).items():
                labels[task][rows] = done
        return cls(users, items, worlds.FIRST_SECOND + offset, stage, labels)

    def table(self) -> pl.DataFrame:
        """The interactions."""
        shown = {Columns.USER: self.users, Columns.ITEM: self.items, Columns.TIME: self.time, "stage": self.stage}
        return pl.DataFrame({**shown, **self.labels})


@final
@dataclass(frozen=True, eq=False)
class _Learners:
    """What changes as learners go on, and the numbers that decide each visit.

    Args:
        level: highest finished level ``(U, C)``, 0 = none; grows.
        begun: how many courses of each group a learner was shown ``(U, C * LEVELS)``; grows.
        start: in (0, 1), where a learner begins in each group; stride: how far apart the next ones are.
        diligence: ``(U,)``.
        step: of each visit ``(N,)``, from `STEPS`.
        chance: uniform in [0, 1), one for each task of each visit ``(N, T)``.
        zipf_exponent: popularity exponent.
    """

    level: Int64
    begun: Int64
    start: Float64
    stride: Int64
    diligence: Float64
    step: Int64
    chance: Float64
    zipf_exponent: float

    @classmethod
    def draw(cls, config: SimulatorConfig, n_subjects: int, n_visits: int, rng: np.random.Generator) -> _Learners:
        return cls(
            level=np.zeros((config.n_users, n_subjects), dtype=np.int64),
            begun=np.zeros((config.n_users, n_subjects * LEVELS), dtype=np.int64),
            start=rng.random((config.n_users, n_subjects * LEVELS)),
            stride=rng.choice(STRIDES, (config.n_users, n_subjects * LEVELS)),
            diligence=rng.normal(size=config.n_users),
            step=rng.choice(STEPS, n_visits, p=STEP_SHARES),
            chance=rng.random((n_visits, len(TASKS))),
            zipf_exponent=config.zipf_exponent,
        )

    def offered(self, rows: Int64, users: Int64, subjects: Int64, courses: _Courses) -> Int64:
        """The course of each visit ``(R,)``: one round of different users."""
        level = np.clip(self.level[users, subjects] + 1 + self.step[rows], 1, LEVELS)
        groups = subjects * LEVELS + level - 1
        groups = np.where(courses.size(groups) > 0, groups, subjects * LEVELS)  # a small subject has level 1 alone
        size = courses.size(groups)
        start = (size * self.start[users, groups] ** (1 + self.zipf_exponent)).astype(np.int64)
        place = (start + self.begun[users, groups] * self.stride[users, groups]) % size
        self.begun[users, groups] += 1
        found: Int64 = courses.items[courses.first[groups] + place]
        return found

    def attend(
        self,
        rows: Int64,
        users: Int64,
        items: Int64,
        agreements: dict[str, Float64],
        world: World,
        courses: _Courses,
    ) -> dict[str, Mask]:
        """The labels of one round ``(R,)``; levels rise."""
        subjects, level = world.category_of[items], courses.level[items]
        ahead = level - self.level[users, subjects]
        extra = {
            "enrol": NEXT_BONUS * (ahead == 1) - TOO_HARD / 2 * (ahead > 1),
            "finish": self.diligence[users] - TOO_HARD * (ahead > 1),
            "rated_well": courses.quality[items],
        }
        labels: dict[str, Mask] = {}
        so_far = np.ones(len(rows), dtype=np.bool_)
        for number, task in enumerate(TASKS):
            logit = BASES[task] + worlds.TASTE_SCALE * agreements[task] + extra[task]
            so_far = so_far & (self.chance[rows, number] < worlds.sigmoid(logit))
            labels[task] = so_far
        done = labels["finish"]
        best = np.maximum(self.level[users[done], subjects[done]], level[done])
        self.level[users[done], subjects[done]] = best
        return labels


def _rounds(users: Int64) -> list[Int64]:
    """Row numbers of everybody's first visit, of everybody's second, and so on; ``users (N,)`` in order of time."""
    order = np.argsort(users, kind="stable")
    ranked = users[order]
    turn = np.empty(len(users), dtype=np.int64)
    turn[order] = np.arange(len(users)) - np.searchsorted(ranked, ranked)
    rows = np.argsort(turn, kind="stable")
    return np.split(rows, np.flatnonzero(np.diff(turn[rows])) + 1)
