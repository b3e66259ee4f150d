import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from evorec.config import (
    Bounds,
    QuantileKind,
    RecommenderConfig,
    keys,
    load_config,
    merge,
    parse_config,
    recommender_config,
)
from evorec.config.loading import parse_override, read_toml
from evorec.errors import ConfigError


def message(overlay: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(overlay, source="my.toml")
    return str(caught.value)


def test_a_config_survives_json() -> None:
    config = parse_config(
        {
            "space": {
                "width": {"low": 16, "high": 64},
                "history": True,
                "depth": 1,
                "weights": [1.5, 0.5],
                "mode": "a",
                "modes": ["a", "b"],
            },
            "tasks": {
                "ranked": ["click", "buy", "watch", "long"],
                "funnel": ["click", "buy"],
                "given": {"buy": "click"},
                "kinds": {"click": "binary", "watch": "regression", "long": {"quantile": 0.9}},
            },
            "training": {"rungs": [50, 100]},
            "split": {"validation_from": "2022-05-04", "test_from": "2022-05-06"},
            "box": {"cost": {"ideal": 1e6, "worst": 1e9}},
        }
    )
    again = parse_config(json.loads(json.dumps(config.model_dump(mode="json"))))
    assert again == config
    assert again.space["width"] == Bounds(low=16, high=64)
    assert again.tasks.kinds["long"] == QuantileKind(quantile=0.9)


def test_an_override_keeps_the_type_of_its_value() -> None:
    space = parse_config({"space": {"a": 1, "b": True, "c": 1.0, "d": "1", "e": [1, 2], "f": ["1", "2"]}}).space
    assert [type(space[name]) for name in "abcdef"] == [int, bool, float, str, tuple, tuple]
    assert (space["e"], space["f"]) == ((1.0, 2.0), ("1", "2"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "space.w (my.toml) must be a value, a list of task weights or of options, or {low, high}, got None."),
        (
            {"low": 2, "high": 1},
            "space.w (my.toml): low (2.0) must be below high (1.0); give a single value to fix the gene.",
        ),
        ({"low": 2}, "space.w.high (my.toml) is missing."),
        (math.nan, "space.w (my.toml) must be a finite number, got nan."),
        ([1, "a"], "space.w.1 (my.toml) must be a finite number, got 'a'."),
    ],
)
def test_a_wrong_override_is_one_sentence(value: Any, expected: str) -> None:
    assert message({"space": {"w": value}}) == expected


@pytest.mark.parametrize(
    ("overlay", "expected"),
    [
        ({"training": {"batch_size": 0}}, "training.batch_size (my.toml) must be an integer in 2..65536, got 0."),
        ({"training": {"steps": True}}, "training.steps (my.toml) must be an integer in 1..1000000, got True."),
        ({"training": 5}, "training (my.toml) must be a table of settings, got 5."),
        (
            {"evaluation": {"candidates": "x"}},
            "evaluation.candidates (my.toml) must be an integer or \"all\", got 'x'.",
        ),
        (
            {"split": {"test_share": 0.5}},
            "split.test_share (my.toml) must be a number between 0 and 0.5, both excluded, got 0.5.",
        ),
        ({"run": {"device": "gpu"}}, "run.device (my.toml) must be a text such as auto, cpu, cuda, cuda:1, got 'gpu'."),
        ({"objectives": []}, "objectives (my.toml) must be a list of texts, at least 1, got []."),
        ({"box": {"cost": {"ideal": 1.0}}}, "box.cost.worst (my.toml) is missing."),
        (
            {"split": {"test_from": "2022-05-06"}},
            "split (my.toml): validation_from and test_from must be given together.",
        ),
        (
            {"training": {"rungs": [5, 5], "steps": 9}},
            "training (my.toml): rungs must ascend and stay below steps (9), got [5, 5].",
        ),
        (
            {"training": {"rungs": [5, 9], "steps": 9}},
            "training (my.toml): rungs must ascend and stay below steps (9), got [5, 9].",
        ),
        ({"training": {"rungs": 5}}, "training.rungs (my.toml) must be a list of integers, got 5."),
        ({"training": {"rung_keep": 1.0}}, "training.rung_keep (my.toml) must be a number >= 0.5 and < 1, got 1.0."),
        (
            {"training": {"precision": "float16"}},
            'training.precision (my.toml) must be "float32" or "float64" or "bfloat16" or "auto", got \'float16\'.',
        ),
        ({"tasks": {"given": "a"}}, "tasks.given (my.toml) must be a table of texts, got 'a'."),
        (
            {"training": {"batchsize": 5}},
            "training.batchsize (my.toml) is not a known key; did you mean training.batch_size? "
            "`evorec validate --keys` lists them all.",
        ),
    ],
)  # fmt: skip
def test_an_error_says_key_file_expected_and_found(overlay: dict[str, Any], expected: str) -> None:
    assert message(overlay) == expected


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        ({"ranked": ["a", "a"]}, "ranked lists a task twice: ['a', 'a']"),
        ({"funnel": ["a"]}, "funnel must have two or more tasks, or none, got ['a']"),
        ({"funnel": ["a", "a"]}, "funnel lists a task twice: ['a', 'a']"),
        ({"funnel": ["a", "x"]}, "funnel names ['x'], which must be among ranked, ['a', 'b', 'c']"),
        ({"kinds": {"x": "regression"}}, "kinds names ['x'], which must be among ranked, ['a', 'b', 'c']"),
        (
            {"funnel": ["a", "b"], "kinds": {"b": {"quantile": 0.5}}},
            "the steps of the funnel and the target must be binary, got ['b'] with numbers in kinds; define a binary "
            "label, e.g. rating >= 4",
        ),
        (
            {"target": "c", "kinds": {"c": "regression"}},
            "the steps of the funnel and the target must be binary, got ['c'] with numbers in kinds; define a binary "
            "label, e.g. rating >= 4",
        ),
        ({"lower_is_better": ["b", "b"]}, "lower_is_better lists a task twice: ['b', 'b']"),
        ({"lower_is_better": ["x"]}, "lower_is_better names ['x'], which must be among ranked, ['a', 'b', 'c']"),
        (
            {"target": "c", "lower_is_better": ["c"]},
            "lower_is_better must not name the target or steps of the funnel, which lists maximise, got ['c']",
        ),
        (
            {"funnel": ["a", "b"], "lower_is_better": ["c", "b"]},
            "lower_is_better must not name the target or steps of the funnel, which lists maximise, got ['b']",
        ),
        ({"given": {"x": "a"}}, "given names ['x'], which must be among ranked, ['a', 'b', 'c']"),
        ({"given": {"a": "a"}}, "given has a cycle: a among a"),
        ({"given": {"a": "b", "b": "c", "c": "a"}}, "given has a cycle: a among b among c among a"),
        ({"given": {"a": "b", "b": "c", "c": "b"}}, "given has a cycle: a among b among c among b"),
    ],
)
def test_tasks_that_do_not_fit_together_are_refused(tasks: dict[str, Any], expected: str) -> None:
    assert message({"tasks": {"ranked": ["a", "b", "c"], **tasks}}) == f"tasks (my.toml): {expected}."


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("number", 'tasks.kinds.a (my.toml) must be "binary", "regression" or {quantile = NUMBER}, got \'number\'.'),
        (0.5, 'tasks.kinds.a (my.toml) must be "binary", "regression" or {quantile = NUMBER}, got 0.5.'),
        ({}, "tasks.kinds.a.quantile (my.toml) is missing."),
        ({"quantile": 1}, "tasks.kinds.a.quantile (my.toml): Input should be less than 1, got 1."),
        ({"quantile": "x"}, "tasks.kinds.a.quantile (my.toml) must be a finite number, got 'x'."),
    ],
)
def test_a_wrong_kind_of_task_is_one_sentence(kind: Any, expected: str) -> None:
    assert message({"tasks": {"ranked": ["a"], "kinds": {"a": kind}}}) == expected


def test_tasks_without_a_kind_are_binary() -> None:
    tasks = parse_config({"tasks": {"ranked": ["a", "b"], "kinds": {"b": {"quantile": 0.5}}}}).tasks
    assert tasks.kind_of_each() == {"a": "binary", "b": QuantileKind(quantile=0.5)}


def test_conditions_of_a_task_are_a_chain() -> None:
    given = {"a": "b", "b": "shown"}  # a label that is not ranked may be a condition
    tasks = parse_config({"tasks": {"ranked": ["a", "b"], "given": given}}).tasks
    assert tasks.conditions("a") == ("a", "b", "shown")
    assert tasks.conditions("b") == ("b", "shown")


def test_other_ranked_tasks_bring_their_own_funnel() -> None:
    weak = {"tasks": {"ranked": ["a", "b"], "target": "a", "funnel": ["a", "b"], "given": {"b": "a"}}}
    assert merge(weak, {"tasks": {"ranked": ["b"]}}) == {"tasks": {"ranked": ["b"], "target": "a"}}
    counted = {"tasks": {**weak["tasks"], "kinds": {"b": "regression"}}}
    assert merge(counted, {"tasks": {"ranked": ["c"]}}) == {"tasks": {"ranked": ["c"], "target": "a"}}
    feared = {"tasks": {"ranked": ["a", "b"], "target": "a", "lower_is_better": ["b"]}}
    assert merge(feared, {"tasks": {"ranked": ["c"]}}) == {"tasks": {"ranked": ["c"], "target": "a"}}
    assert merge(weak, {"tasks": {"given": {"a": "c"}}})["tasks"]["given"] == {"b": "a", "a": "c"}
    overrides = ['tasks.funnel=["b", "c"]', 'tasks.ranked=["b", "c"]']
    for order in (overrides, overrides[::-1]):
        assert parse_config(weak, overrides=order).tasks.funnel == ("b", "c")


def test_what_later_versions_added_changes_nothing_by_default() -> None:
    config = RecommenderConfig()
    assert (config.tasks.funnel, config.tasks.given, config.tasks.kinds) == ((), {}, {})
    assert (config.tasks.lower_is_better, config.tasks.signs()) == ((), ())
    assert (config.training.rungs, config.training.rung_keep, config.training.precision) == ((), 0.5, "float32")
    assert (config.run.executor, config.run.memory_gib, config.run.chunk) == ("auto", 0.0, 32)


def test_a_table_is_listed_as_toml_writes_it() -> None:
    kinds = {"a": "regression", "b": {"quantile": 0.9}}
    config = parse_config({"tasks": {"ranked": ["a", "b"], "given": {"b": "a"}, "kinds": kinds}})
    listed = {key.name: key for key in keys(config)}
    assert listed["tasks.given"].default == '{b = "a"}'
    assert listed["tasks.kinds"].default == '{a = "regression", b = {quantile = 0.9}}'
    overrides = ['tasks.ranked=["a", "b"]', *(f"tasks.{n}={listed[f'tasks.{n}'].default}" for n in ("given", "kinds"))]
    assert parse_config({}, overrides=overrides) == config


def test_all_errors_are_listed_at_once() -> None:
    text = message({"training": {"steps": 0, "batch_size": 0}, "zip": 1, "space": {"a": None, "b": None}})
    assert len(text.split("\n")) == 5


def test_nothing_but_a_config_error_comes_from_random_settings() -> None:
    rng = random.Random(0)
    values: list[Any] = [None, True, 0, -1, 10**9, 0.3, math.nan, "", "all", [], [1], ["a"], {}, {"low": 1, "high": 2}]
    names = [key.name for key in keys()] + ["space.w", "box.cost", "nothing", "training", "data.simulator"]
    for _ in range(300):
        overlay: dict[str, Any] = {}
        for name in rng.sample(names, k=3):
            value = rng.choice(values)
            for part in reversed(name.split(".")):
                value = {part: value}
            overlay = merge(overlay, value)
        try:
            parse_config(overlay)
        except ConfigError:
            continue


def test_every_setting_is_listed_with_range_and_meaning() -> None:
    listed = {key.name: key for key in keys()}
    assert len(listed) == len(keys())
    assert all(key.expects and key.meaning for key in listed.values())
    assert listed["training.batch_size"].expects == "an integer in 2..65536"
    assert listed["training.batch_size"].default == "1024"
    assert listed["evaluation.candidates"].expects == 'an integer or "all"'
    assert listed["split.validation_from"].expects == "a date as 2024-01-31"


def test_every_listed_default_can_be_set() -> None:
    overrides = [f"{key.name}={key.default}" for key in keys() if key.default]
    assert parse_config({}, overrides=overrides) == RecommenderConfig()


def test_the_list_shows_the_values_of_a_given_config() -> None:
    config = parse_config({"training": {"steps": 7}})
    assert {key.name: key.default for key in keys(config)}["training.steps"] == "7"


def test_the_command_line_wins_over_the_file_and_the_file_over_the_problem(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text("[training]\nsteps = 2\nlayers = 2\n")
    (tmp_path / "own.py").write_text(
        'DEFAULTS = {"training": {"steps": 1, "layers": 1, "batch_size": 64}}\ndef build(config=None): ...\n'
    )
    config = load_config(path, problem=str(tmp_path / "own.py"), overrides=["training.steps=3"])
    training = recommender_config(config).training
    assert (training.steps, training.layers, training.batch_size) == (3, 2, 64)


def test_a_gene_override_is_replaced_whole() -> None:
    merged = merge({"space": {"w": {"low": 1, "high": 2}, "d": 1}}, {"space": {"w": {"low": 3, "high": 4}}})
    assert merged == {"space": {"w": {"low": 3, "high": 4}, "d": 1}}


@pytest.mark.parametrize("text", ["training.steps", "=3", "a..b=1", ""])
def test_an_override_without_key_or_value_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--set expects KEY=VALUE"):
        parse_override(text)


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("steps 3")
    with pytest.raises(ConfigError, match=r"bad\.toml is not valid TOML"):
        load_config(path)
    with pytest.raises(ConfigError, match=r"none\.toml does not exist"):
        load_config(tmp_path / "none.toml")


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path, text = tmp_path / "my.toml", '# é\r\n[run]\r\nname = "é"\r\n'
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes(text.encode(encoding))
        assert read_toml(path) == {"run": {"name": "é"}}
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"my\.toml, line 1 is not UTF-8 text; save the file as UTF-8"):
        read_toml(path)


def test_the_fingerprint_names_results_not_places() -> None:
    base = RecommenderConfig().fingerprint("aa")
    assert len(base) == 12
    for same in (
        {"run": {"workers": 3, "executor": "serial", "memory_gib": 1.5}},
        {"data": {"path": "/elsewhere"}},
        {"finalize": {"seeds": 5}},
        {"fuse": {"population": 8, "seed": 3}},
    ):
        assert parse_config(same).fingerprint("aa") == base
    assert parse_config({"search": {"seed": 1}}).fingerprint("aa") != base
    assert RecommenderConfig().fingerprint("bb") != base
