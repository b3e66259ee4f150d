import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from evorec.config import RecommenderConfig
from evorec.errors import RunError, RunLockedError
from evorec.report.record import read_record
from evorec.run.atomic import write_atomic, write_json
from evorec.run.directory import RunDirectory, run_path
from evorec.run.ledger import Evaluation
from problems.analytic import AnalyticConfig

CONFIG = AnalyticConfig(problem="analytic")
FINGERPRINT = CONFIG.fingerprint("data")
ENVIRONMENT = {"device": "cpu", "precision": "float32"}
MEMBER = Evaluation(0, "00000000000000aa", 1, (0.5,), {"effort": 0.5}, {"quality": 0.5}, None, 1.0)
WEIGHTS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "scale": np.array(2.0)}


def create(root, config=CONFIG):
    return RunDirectory.create(root, config=config, fingerprint=config.fingerprint("data"), environment=ENVIRONMENT)


@pytest.fixture
def run(tmp_path):
    with create(tmp_path) as run:
        yield run


def test_run_directory_is_named_by_problem_and_fingerprint(run, tmp_path):
    assert run.path == tmp_path / f"analytic-{FINGERPRINT}" == run_path(tmp_path, CONFIG, FINGERPRINT)


def test_run_keeps_configuration_and_manifest(run):
    path = run.path
    run.close()
    with RunDirectory.open(path) as again:
        assert again.config == CONFIG
        assert again.fingerprint == FINGERPRINT
        assert again.environment["device"] == "cpu"
        assert again.environment["versions"]["numpy"] == np.__version__


def test_second_process_is_locked_out_until_the_first_closes(run):
    with pytest.raises(RunLockedError, match=f"held by process {os.getpid()} on "):
        RunDirectory.open(run.path)
    run.close()
    RunDirectory.open(run.path).close()


def test_reader_needs_no_lock_and_leaves_no_trace(run):
    before = sorted(path.name for path in run.path.iterdir())
    with RunDirectory.open(run.path, read_only=True) as reader:
        assert reader.ledger.evaluations() == []
        assert reader.members() == []
    assert sorted(path.name for path in run.path.iterdir()) == before


def test_create_on_a_run_that_was_begun_says_to_resume(run, tmp_path):
    run.close()
    with pytest.raises(RunError, match="was started before; `evorec resume "):
        create(tmp_path)


def test_create_on_a_finished_run_writes_nothing_over(run, tmp_path):
    run.write_summary({"members": []})
    run.close()
    with pytest.raises(RunError, match="is finished; `evorec front "):
        create(tmp_path)
    with RunDirectory.open(run.path) as again:
        assert again.read_summary() == {"format": 1, "members": []}


def test_create_starts_afresh_where_a_creation_was_killed(tmp_path):
    path = run_path(tmp_path, CONFIG, FINGERPRINT)
    path.mkdir()
    (path / "config.json").write_text("{")
    (path / "manifest.json.tmp").write_text("{")
    with create(tmp_path) as run:
        assert run.config == CONFIG
        assert not (path / "manifest.json.tmp").exists()


def test_open_refuses_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(RunError, match=r"is not a run directory: it has no manifest\.json"):
        RunDirectory.open(tmp_path)


def test_open_refuses_another_format_and_gives_the_lock_back(run):
    run.close()
    write_json(run.path / "manifest.json", {"format": 7})
    for _ in range(2):  # the second time fails for the same reason, not for the lock
        with pytest.raises(RunError, match="has format 7; this evorec reads format 1"):
            RunDirectory.open(run.path)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_damaged_file_is_named(run, text):
    run.close()
    (run.path / "manifest.json").write_text(text)
    with pytest.raises(RunError, match=r"manifest\.json is damaged"):
        RunDirectory.open(run.path)


def test_resume_refuses_another_configuration_naming_each_difference(run):
    other = AnalyticConfig.model_validate({"problem": "analytic", "space": {"bias": True}, "search": {"seed": 3}})
    with pytest.raises(RunError, match="cannot go on") as caught:
        run.check_same(config=other, fingerprint=other.fingerprint("data"), environment=ENVIRONMENT)
    assert "  search.seed: the run has 0, now it is 3\n  space.bias: the run has None, now it is True\n" in str(
        caught.value
    )


def test_resume_refuses_another_data_set(run):
    with pytest.raises(RunError, match="the data set, a plugin or the file of the problem has changed"):
        run.check_same(config=CONFIG, fingerprint=CONFIG.fingerprint("other data"), environment=ENVIRONMENT)


def test_resume_refuses_another_device(run):
    with pytest.raises(RunError, match="device: the run has 'cpu', now it is 'cuda'"):
        run.check_same(config=CONFIG, fingerprint=FINGERPRINT, environment={**ENVIRONMENT, "device": "cuda"})


def test_resume_accepts_other_execution_settings(run):
    other = AnalyticConfig.model_validate({"problem": "analytic", "run": {"workers": 7}})
    run.check_same(config=other, fingerprint=other.fingerprint("data"), environment=ENVIRONMENT)


def test_resume_refuses_other_objectives_or_constraints(run):
    objective = {"name": "cost", "metric": "flops", "worst": 9.0}
    run.pin_problem({"objectives": [objective], "constraints": [], "baselines": {"slow": {"seconds": 1.0}}})
    run.pin_problem({"objectives": [objective], "constraints": [], "baselines": {"slow": {"seconds": 2.0}}})
    with pytest.raises(RunError, match=r"objective cost\.worst: the run has 9\.0, now it is 8\.0"):
        run.pin_problem({"objectives": [{**objective, "worst": 8.0}], "constraints": [], "baselines": {}})


def test_member_has_its_weights_and_its_record(run):
    run.ledger.add([MEMBER])
    run.stage(MEMBER, WEIGHTS)
    assert run.members() == []  # staged is not yet a member

    run.set_members([MEMBER.key])

    assert run.members() == [MEMBER]
    read = run.read_weights(MEMBER.key)
    assert {name: array.tolist() for name, array in read.items()} == {"w": [[0, 1, 2], [3, 4, 5]], "scale": 2.0}
    record = json.loads((run.path / "archive" / MEMBER.key / "member.json").read_text())
    assert record["spec"] == {"effort": 0.5}
    assert "seconds" not in record


def test_set_members_drops_those_that_left(run):
    run.stage(MEMBER, WEIGHTS)
    run.set_members([MEMBER.key])
    run.set_members([])
    assert [path.name for path in (run.path / "archive").iterdir()] == [".staged"]


def test_set_members_refuses_a_member_without_files(run):
    with pytest.raises(RunError, match=f"no files of member {MEMBER.key}"):
        run.set_members([MEMBER.key])


def test_weights_in_fortran_order_come_back_in_their_place(run):
    run.stage(MEMBER, {"w": np.asfortranarray(WEIGHTS["w"])})
    run.set_members([MEMBER.key])
    assert run.read_weights(MEMBER.key)["w"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_one_flipped_bit_in_the_weights_is_noticed(run):
    run.stage(MEMBER, WEIGHTS)
    run.set_members([MEMBER.key])
    file = run.path / "archive" / MEMBER.key / "weights.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(RunError, match="is damaged or missing: its SHA-256 is not the recorded value; delete "):
        run.read_weights(MEMBER.key)


def test_unknown_member_is_answered_with_the_known_ones(run):
    run.stage(MEMBER, None)
    run.set_members([MEMBER.key])
    assert run.read_weights(MEMBER.key) == {}
    with pytest.raises(RunError, match=f"has no member zz; its members are: {MEMBER.key}"):
        run.read_weights("zz")


def test_write_atomic_leaves_the_old_file_when_it_dies(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    write_atomic(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"


def test_log_is_one_json_object_per_line(run):
    run.log("generation", generation=1)
    run.log("generation", generation=2)
    lines = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    assert [(line["kind"], line["generation"]) for line in lines] == [("generation", 1), ("generation", 2)]


def test_a_run_of_format_1_is_read(tmp_path):
    """`format_1` was written by the first release of this format; `shutil` copies it because opening takes a lock."""
    path = Path(shutil.copytree(Path(__file__).with_name("format_1"), tmp_path / "run"))
    key = "00000000000000aa"
    with RunDirectory.open(path) as run:
        assert (run.config, run.fingerprint) == (RecommenderConfig(problem="analytic"), "0ba9a04fb748")
        assert (run.environment["device"], run.lost(), run.finished) == ("cpu", [], True)
        rows = run.ledger.evaluations()
        assert [(row.status, row.rung) for row in rows] == [("ok", None), ("failed", None), ("dropped", 10)]
        assert rows[0].metrics == {"quality": 0.30000000000000004, "cost": 2.0}
        assert run.ledger.events() == [(1, "halving", {"rung": 10, "kept": {}})]
        assert run.members() == rows[:1]
        assert run.read_weights(key)["w"].tolist() == [[1.5, -2.0]]
        assert run.read_final_weights(key)["w"].tolist() == [[3.0, 4.0]]
        assert (run.read_final()["seeds"], run.read_fusion(key)["k"]) == ([7], 5)
    record = read_record(path)
    assert (record.hypervolume, record.final["opened_at"]) == ((0.25,), "2026-01-01T00:00:00")
    assert [objective.worst for objective in record.objectives] == [0.0, 9.0]
