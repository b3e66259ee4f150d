import errno
import fcntl
import json
import os
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evorec.config import RecommenderConfig, SearchConfig
from evorec.errors import RunError, RunLockedError
from evorec.report.record import read_record
from evorec.run.atomic import sealed_bytes, write_atomic, write_json
from evorec.run.directory import RunDirectory, run_path
from evorec.run.ledger import Evaluation
from evorec.run.lock import refuse_locked
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


def test_paths_may_be_texts_and_a_run_has_a_repr_of_a_line(tmp_path):
    with create(str(tmp_path)) as run:
        assert repr(run) == f"RunDirectory({str(run.path)!r}, open for writing)"
        run.ledger.record_event(0, "noted", {})
    assert RunDirectory.exists(str(run.path))
    with RunDirectory.open(str(run.path), read_only=True) as again:
        assert repr(again) == f"RunDirectory({str(run.path)!r}, read-only)"


def test_a_command_in_a_message_is_quoted_for_a_shell(tmp_path):
    create(tmp_path / "my runs").close()
    with pytest.raises(RunError) as caught:
        create(tmp_path / "my runs")
    assert f"`evorec resume '{tmp_path / 'my runs' / f'analytic-{FINGERPRINT}'}'` goes on" in str(caught.value)


def test_run_keeps_configuration_and_manifest(run):
    path = run.path
    run.close()
    with RunDirectory.open(path) as again:
        assert again.config == CONFIG
        assert again.fingerprint == FINGERPRINT
        assert again.environment["device"] == "cpu"
        assert again.environment["versions"]["numpy"] == np.__version__


def test_energies_of_an_evaluation_add_up(run):
    run.ledger.record_event(1, "energy", {"joules": {"a": {"estimate": 1.0}, "b": {}}})
    run.ledger.record_event(2, "energy", {"joules": {"a": {"estimate": 2.0, "nvml": 4.0}}})
    assert run.energy() == {"a": {"estimate": 3.0, "nvml": 4.0}, "b": {}}


def test_second_process_is_locked_out_until_the_first_closes(run):
    with pytest.raises(RunLockedError, match=f"held by process {os.getpid()} on "):
        RunDirectory.open(run.path)
    run.close()
    RunDirectory.open(run.path).close()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO, errno.EINVAL])
def test_a_lock_that_cannot_be_taken_is_not_held(run, code, monkeypatch):
    run.close()

    def flock(descriptor, how):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match=f"cannot be locked: {os.strerror(code)}: '.*lock'"):
        RunDirectory.open(run.path)
    refuse_locked(run.path)


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
        assert again.read_summary() == {"format": 2, "members": []}


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
        with pytest.raises(RunError, match="has format 7; this evorec reads format 2"):
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


def test_another_machine_goes_on_only_if_it_is_allowed_and_every_report_says_so(run):
    settings = {"config": CONFIG, "fingerprint": FINGERPRINT}
    old = {**ENVIRONMENT, "versions": {**run.environment["versions"], "torch": "2.13.0+cpu"}}
    run.environment = {**run.environment, **old, "cpu": "AVX2"}
    new = {**old, "cpu": "AVX512", "versions": {**old["versions"], "torch": "2.13.0"}}
    words = r"cpu: the run has 'AVX2', now it is 'AVX512'\n.*'2\.13\.0', another build of the same version\n--allow"
    with pytest.raises(RunError, match=words):
        run.check_same(**settings, environment=new)
    with pytest.raises(RunError, match="precision: the run has 'float32'"):  # such results cannot be compared
        run.check_same(**settings, environment={**new, "precision": "bfloat16"}, allow_different_machine=True)
    assert run.machines == []
    run.check_same(**settings, environment=new, allow_different_machine=True)
    run.check_same(**settings, environment=new)  # it is known now
    run.check_same(**settings, environment={**old, "cpu": "AVX2"})
    assert run.machines == [
        "cpu: the run has 'AVX2', now it is 'AVX512'",
        "versions.torch: the run has '2.13.0+cpu', now it is '2.13.0', another build of the same version",
    ]
    with pytest.raises(RunError, match="'SSE'"):
        run.check_same(**settings, environment={**old, "cpu": "SSE"})


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
    with pytest.raises(RunError, match=r"is damaged or missing: .* `evorec resume .*` trains the member again"):
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


def whole_run(root):
    """A finished run with every kind of file."""
    with create(root) as run:
        run.pin_problem({"objectives": [{"name": "quality", "metric": "quality"}], "constraints": [], "baselines": {}})
        run.stage(MEMBER, WEIGHTS)
        run.ledger.add([MEMBER, replace(MEMBER, seq=1, key="00000000000000bb", metrics=None, failure="it diverged")])
        run.ledger.record_event(1, "halving", {"rung": 10, "kept": {}})
        run.set_members([MEMBER.key])
        run.write_summary({"reason": "1 generations done", "members": [MEMBER.key], "hypervolume_share": [0.25]})
        run.write_final_weights(MEMBER.key, WEIGHTS)
        picks = [{"pick": "knee", "member": MEMBER.key, "test": {"quality": {"mean": 0.625, "sd": 0.0}}}]
        run.write_final({"opened_at": "2026-01-01", "seeds": [7], "picks": picks, "baselines": {}})
        names = ("formulas", "objectives", "k", "tasks", "diversity", "baselines", "hypervolume", "halves")
        run.write_fusion(MEMBER.key, dict.fromkeys(names, 5))
        return run.path


def content(path):
    """All that can be read from a run."""
    with RunDirectory.open(path, read_only=True) as run:
        run.check()
        key = MEMBER.key
        weights = [{n: a.tolist() for n, a in read(key).items()} for read in (run.read_weights, run.read_final_weights)]
        reports = (run.read_problem(), run.read_summary(), run.read_final(), run.read_fusion(key))
        return (
            run.config,
            run.environment,
            run.ledger.evaluations(),
            run.ledger.events(),
            run.members(),
            weights,
            reports,
        )


def refusal(path):
    """The message with which a run is refused; None when it is read."""
    try:
        content(path)
    except RunError as error:
        return str(error)
    return None


def test_a_changed_byte_in_any_file_of_a_run_is_an_error_that_names_the_file(tmp_path):
    path = whole_run(tmp_path)
    files = sorted(f for f in path.rglob("*") if f.is_file() and f.name not in ("lock", "log.jsonl"))
    assert len(files) == 10
    before, rng, n_refused = content(path), np.random.default_rng(0), 0
    for file in files:
        data = file.read_bytes()
        digits = [i for i, byte in enumerate(data) if chr(byte).isdigit()]
        is_ledger = file.name == "ledger.sqlite"
        for position in {*rng.choice(digits, 4, replace=False), *rng.integers(len(data), size=4)}:
            changed = bytearray(data)
            changed[position] = ord("7") if changed[position] != ord("7") else ord("8")
            file.write_bytes(changed)
            message = refusal(path)
            if message is None:  # SQLite ignores bytes of its index and of free space
                assert is_ledger, (file, position)
                assert content(path) == before
            else:
                assert str(file) in message or "run directory" in message
                n_refused += 1
        file.write_bytes(data)
    assert n_refused > 7 * 8
    assert content(path) == before


def test_a_deleted_file_of_a_run_is_named_with_what_to_do(tmp_path):
    path = whole_run(tmp_path)
    for file in sorted(f for f in path.rglob("*") if f.is_file() and f.name not in ("lock", "log.jsonl")):
        data = file.read_bytes()
        file.unlink()
        if file.name not in ("summary.json", "final.json"):  # such a run is not finished, or not finalized
            message = refusal(path)
            assert file.name in message or MEMBER.key in message
            assert "evorec" in message or "restore" in message
        file.write_bytes(data)


def test_every_digit_of_the_rows_of_the_ledger_is_covered(tmp_path):
    ledger = whole_run(tmp_path) / "ledger.sqlite"
    data = ledger.read_bytes()
    for text in (b'"quality": 0.5', b'"effort": 0.5', b"it diverged", b'"rung": 10', b"[0.5]", b"00000000000000aa"):
        assert data.count(text) >= 1
        changed = data.replace(text, text.replace(b"0", b"1").replace(b"d", b"e"))
        ledger.write_bytes(changed)
        with pytest.raises(RunError, match=r"ledger\.sqlite is damaged"):
            content(ledger.parent)
    ledger.write_bytes(data)


def test_a_link_in_a_run_is_refused_and_nothing_outside_is_touched(tmp_path):
    path = whole_run(tmp_path / "runs")
    outside = tmp_path / "outside"
    (outside / "00000000000000cc").mkdir(parents=True)
    (outside / "file").write_text("mine")
    for name in ("archive/.staged", "archive", "final", "fusion", "lock", "log.jsonl", "ledger.sqlite-wal", "x/y"):
        entry = path / name
        entry.parent.mkdir(exist_ok=True)
        kept = tmp_path / "kept"
        if entry.exists():
            entry.rename(kept)
        entry.symlink_to(outside / "file" if entry.suffix or entry.name == "lock" else outside)
        for read_only in (True, False):
            with pytest.raises(RunError, match=f"{entry} is a link"):
                RunDirectory.open(path, read_only=read_only)
        entry.unlink()
        if kept.exists():
            kept.rename(entry)
    for name in ("ledger.sqlite", "lock"):
        os.link(path / name, tmp_path / "twin")
        with pytest.raises(RunError, match=r"hard link"):
            RunDirectory.open(path)
        (tmp_path / "twin").unlink()
    os.mkfifo(path / "pipe")
    with pytest.raises(RunError, match="no regular file"):
        RunDirectory.open(path, read_only=True)
    (path / "pipe").unlink()
    assert sorted(p.name for p in outside.iterdir()) == ["00000000000000cc", "file"]
    assert (outside / "file").read_text() == "mine"
    (tmp_path / "link").symlink_to(path)  # a link to a run is no link in it
    RunDirectory.open(tmp_path / "link").close()


def test_only_files_that_a_run_wrote_are_removed(run):
    path = run.path
    run.close()
    mine = [path / "notes.tmp", path / "archive" / ".staged" / "x.tmp", path / "archive" / "my models"]
    leftovers = [path / "summary.json.tmp", path / "archive" / ".staged" / f"{MEMBER.key}.tmp"]
    for entry in (*mine, *leftovers[1:]):
        entry.mkdir()
    leftovers[0].touch()
    with RunDirectory.open(path) as again:
        again.set_members([])
    assert [entry.exists() for entry in mine] == [True] * 3
    assert not any(entry.exists() for entry in leftovers)


def test_a_name_that_is_no_key_never_becomes_a_path(tmp_path):
    path = whole_run(tmp_path)
    with RunDirectory.open(path) as run:
        for write in (lambda key: run.write_fusion(key, {}), lambda key: run.write_final_weights(key, WEIGHTS)):
            with pytest.raises(RunError, match=r"expected a key of 16 hexadecimal digits, got '\.\./\.\./y"):
                write("../../y")
        run.ledger.add([replace(MEMBER, seq=5, key="../../y")])
        with pytest.raises(RunError, match="row 5 cannot be read: a key must be 16 hexadecimal digits"):
            run.ledger.evaluations()
    path = whole_run(tmp_path / "other")
    for name, forged in (("summary.json", {"members": ["../x"]}), ("final.json", final_of("../x"))):
        (path / name).write_bytes(sealed_bytes(forged))
        with pytest.raises(RunError, match=r"expected a key of 16 hexadecimal digits, got '\.\./x"):
            content(path)
        (path / name).unlink()
    assert not (tmp_path / "y").exists()


def final_of(key):
    return {"opened_at": "", "seeds": [1], "picks": [{"pick": "knee", "member": key}], "baselines": {}}


def test_a_run_that_was_deleted_gets_no_second_writer(run, tmp_path):
    run.ledger.add([MEMBER])
    shutil.rmtree(run.path)
    with create(tmp_path) as second:
        for write in (
            lambda: run.ledger.add([replace(MEMBER, seq=1, key="00000000000000bb")]),
            lambda: run.stage(MEMBER, WEIGHTS),
            lambda: run.set_members([]),
            lambda: run.write_summary({"members": []}),
            lambda: run.log("generation"),
        ):
            with pytest.raises(RunError, match="was deleted or replaced while this process worked on it"):
                write()
        assert second.ledger.evaluations() == []
        assert not second.finished


WITHOUT_SURROGATE = RecommenderConfig(
    problem="analytic", search=SearchConfig(surrogate="none", population=24, generations=8)
)
"""The defaults of that time."""


def test_a_run_of_format_1_is_read(tmp_path):
    """`format_1` was written by the first release of this format; `shutil` copies it because opening takes a lock."""
    path = Path(shutil.copytree(Path(__file__).with_name("format_1"), tmp_path / "run"))
    key = "00000000000000aa"
    with RunDirectory.open(path) as run:
        assert (run.config, run.fingerprint) == (WITHOUT_SURROGATE, "0ba9a04fb748")
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


@pytest.mark.parametrize("left", ["nothing", "an empty file", "a ledger without tables"])
def test_a_run_whose_ledger_was_not_made_begins_anew(run, left):
    """The disk was full, or the process died, while SQLite made the file."""
    run.close()
    ledger = run.path / "ledger.sqlite"
    for file in run.path.glob("ledger.sqlite*"):
        file.unlink()
    if left == "an empty file":
        ledger.touch()
    elif left == "a ledger without tables":
        made = sqlite3.connect(ledger)
        made.execute("PRAGMA journal_mode = WAL")
        made.close()
        assert ledger.stat().st_size
    RunDirectory.check_start(run.path, config=CONFIG, data_sha256="data", environment=lambda: ENVIRONMENT)
    assert not RunDirectory.has_begun(run.path)
    if left != "nothing":
        with pytest.raises(RunError, match="was stopped before its first evaluation; `evorec resume"):
            RunDirectory.open(run.path, read_only=True)
    with RunDirectory.open(run.path) as again:
        again.ledger.add([MEMBER])
    assert RunDirectory.has_begun(run.path)
