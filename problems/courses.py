"""Courses: enrolment, completion and good ratings.

A learning platform shows a learner courses of subjects and levels. Tasks: enrol, finish and rated_well, each only after
the previous task (a funnel); retrieval ranks the next enrolment. Learners progress from level to level, so the latest
courses say most about a learner. Some learners enrol in a course without its prerequisite and few of them finish it, so
attractive courses are not those that are finished and rated well: the front shows how much lists for enrolment
(``recall@k``) lose of ``gain/rated_well``.

With a log of your own (``data.reader = "table"``): a row per course shown, with user, item, time and the labels
``enrol``, ``finish`` and ``rated_well`` (0 or 1). The item table should contain subject and level, the log the
learner's level at that moment (``log.context``). `simulate` describes the simulated world.
"""

from __future__ import annotations

from typing import Final, final

import numpy as np
import polars as pl

from evorec.config.simulator import Scenario
from evorec.data import simulator as sim
from evorec.data.simulator import Float64, Int64, World
from evorec.data.tables import SECONDS_PER_DAY, Columns, Tables, categorical, numeric
from evorec.seeds import generator
from problems import recommender, short_run

TASKS: Final = ("enrol", "finish", "rated_well")
DEFAULTS = short_run(
    "courses",
    {
        "data": {
            "history_recency": 0.75,
        },
        "tasks": {"ranked": TASKS, "target": "enrol", "funnel": TASKS},
        "training": {"next_item": True},
        "objectives": ("accuracy", "recall@k", "gain/rated_well", "cost"),
        "box": {"accuracy": {"ideal": 0.85, "worst": 0.5}, "recall@k": {"ideal": 0.5, "worst": 0.0}},
    },
)
"""Settings of this problem; a configuration file overrides them."""

build = recommender(DEFAULTS)

LEVELS: Final = 4
STEPS: Final = (-1, 0, 1)
STEP_SHARES: Final = (0.25, 0.5, 0.25)
"""Level of a course on offer relative to the learner's next level, and how often each occurs."""
NEXT_BONUS: Final = 0.8
"""Increase of the logit of enrolling at the learner's next level."""
TOO_HARD: Final = 2.0
"""Decrease of the logit of finishing without the prerequisite; half of it for enrolling."""
STRIDES: Final = (1_000_003, 1_000_033, 1_000_037, 1_000_039, 1_000_081, 1_000_099, 1_000_117, 1_000_121)
"""Primes: steps of such a length through fewer courses visit each course once before any repeats."""
BASES: Final = {"enrol": -1.2, "finish": 0.3, "rated_well": -0.2}
"""Logit of each task for an average learner and course, given the previous task."""


@final
class CoursesConfig(sim.WorldConfig):
    """Settings of the simulated courses."""

    scenario: Scenario = "courses"
    conflict_angle_deg: sim.ConflictAngle = 45.0


def simulate(config: CoursesConfig) -> Tables:
    """Visits of learners to a catalogue of courses, generated as follows.

    1. *Subjects and tastes.* Categories are subjects; tastes and drift as in the feed. The courses of a subject have
       levels 1 to 4 in turn. The prerequisite of a course is a finished course of the level below in its subject.
    2. *Visits.* Learners differ in activity (log-normal) and come at any time of the log. A visit shows a course of a
       subject by taste, of the learner's next level in it (50 %), a level below or a level above. Among the courses of
       that subject and level a learner starts at a popular course (Zipf) and sees all the others, in an order of the
       learner's own, before any repeats.
    3. *Enrol.* Taste x course, more for the learner's next level, less without the prerequisite.
    4. *Finish*, after enrolling: taste x course, the learner's diligence (normal), much less without the prerequisite.
       A learner who finishes has reached that level in that subject, so levels rise with time.
    5. *Rated well*, after finishing: taste turned by ``conflict_angle_deg`` x course, and the course's quality.

    Candidates see the course's subject, level, price and content (a noisy copy of its taste vector), the learner's
    segment (noisy favourite subject) and tenure, and at each visit ``stage``, the learner's highest level so far.
    """
    world = World.draw(config)
    catalogue = _catalogue(config, world)
    visits = _visits(config, world, *catalogue)
    rng = generator(config.seed, "simulate-courses-features")
    items = sim.item_table(world, rng).rename({"category": "subject"})
    return Tables(
        name="simulated courses",
        interactions=visits,
        tasks=TASKS,
        users=sim.user_table(world, rng),
        items=items.with_columns(level=pl.Series(catalogue[0])),
        context=categorical("stage"),
        user_features=sim.USER_FEATURES,
        item_features=categorical("subject", "level") + numeric("price"),
        content=("content", "subject"),
    )


def _catalogue(config: CoursesConfig, world: World) -> tuple[Int64, Float64, Int64, Int64]:
    """Level 1 to 4 and quality of each course ``(I,)``; the courses in groups of the same subject and level.

    Returns:
        Level ``(I,)``; quality ``(I,)``; courses ``(I,)``, grouped, popular courses first; index of the first course of
        each group ``(C * LEVELS + 1,)``.
    """
    rng = generator(config.seed, "simulate-courses-catalogue")
    order = np.argsort(world.category_of, kind="stable")
    subject = world.category_of[order]
    level = np.empty(config.n_items, dtype=np.int64)
    level[order] = 1 + (np.arange(config.n_items) - np.searchsorted(subject, subject)) % LEVELS
    items = rng.permutation(config.n_items)
    group = world.category_of * LEVELS + level - 1
    items = items[np.argsort(group[items], kind="stable")]
    first = np.searchsorted(group[items], np.arange(len(world.categories) * LEVELS + 1))
    return level, rng.normal(size=config.n_items), items, first


def _visits(
    config: CoursesConfig, world: World, level_of: Int64, quality: Float64, grouped: Int64, first_of: Int64
) -> pl.DataFrame:
    """The interactions in order of time, with ``stage`` and the labels; the catalogue is that of `_catalogue`."""
    rng = generator(config.seed, "simulate-courses-visits")
    n, group_sizes = config.n_interactions, np.diff(first_of)
    users = sim.active_users(config, n, rng)
    offset = np.sort(sim.moments(config, n, rng))
    taste = world.taste(users, config.drift * offset / (config.n_days * SECONDS_PER_DAY))
    subjects = sim.choose(sim.EXPOSURE_SCALE * taste @ world.categories.T, rng)
    turn = sim.rotation(config.n_factors, config.conflict_angle_deg, rng)

    level = np.zeros((config.n_users, len(world.categories)), dtype=np.int64)  # highest finished level, 0 = none
    n_shown = np.zeros((config.n_users, len(group_sizes)), dtype=np.int64)
    start = rng.random((config.n_users, len(group_sizes)))
    stride = rng.choice(STRIDES, (config.n_users, len(group_sizes)))
    diligence = rng.normal(size=config.n_users)
    step = rng.choice(STEPS, n, p=STEP_SHARES)
    chance = rng.random((n, len(TASKS)))
    items, stage = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    labels = {task: np.zeros(n, dtype=np.bool_) for task in TASKS}
    for rows in _rounds(users):
        user, subject, own = users[rows], subjects[rows], taste[rows]
        stage[rows] = level[user].max(axis=1)

        group = subject * LEVELS + np.clip(level[user, subject] + 1 + step[rows], 1, LEVELS) - 1
        group = np.where(group_sizes[group] > 0, group, subject * LEVELS)  # a small subject has level 1 only
        size = group_sizes[group]
        first = (size * start[user, group] ** (1 + config.zipf_exponent)).astype(np.int64)
        item = grouped[first_of[group] + (first + n_shown[user, group] * stride[user, group]) % size]
        n_shown[user, group] += 1
        items[rows] = item

        ahead = level_of[item] - level[user, subject]
        likes = sim.TASTE_SCALE * sim.agreement(own, world.items[item])
        logits = {
            "enrol": likes + (NEXT_BONUS * (ahead == 1) - TOO_HARD / 2 * (ahead > 1)),
            "finish": likes + (diligence[user] - TOO_HARD * (ahead > 1)),
            "rated_well": sim.TASTE_SCALE * sim.agreement(own @ turn, world.items[item]) + quality[item],
        }
        done = np.ones(len(rows), dtype=np.bool_)
        for number, task in enumerate(TASKS):
            done = done & (chance[rows, number] < sim.sigmoid(BASES[task] + logits[task]))
            labels[task][rows] = done
        finished = labels["finish"][rows]
        reached = (user[finished], subject[finished])
        level[reached] = np.maximum(level[reached], level_of[item[finished]])
    shown = {Columns.USER: users, Columns.ITEM: items, Columns.TIME: sim.FIRST_SECOND + offset, "stage": stage}
    return pl.DataFrame({**shown, **labels})


def _rounds(users: Int64) -> list[Int64]:
    """Rows of each user's first visit, of each user's second visit, and so on; ``users (N,)`` in order of time."""
    order = np.argsort(users, kind="stable")
    ranked = users[order]
    turn = np.empty(len(users), dtype=np.int64)
    turn[order] = np.arange(len(users)) - np.searchsorted(ranked, ranked)
    rows = np.argsort(turn, kind="stable")
    return np.split(rows, np.flatnonzero(np.diff(turn[rows])) + 1)


sim.register(CoursesConfig, simulate)
