import os

import pytest

from evorec.errors import ConfigError
from evorec.training.memory import (
    GIB,
    available_bytes,
    cgroup_bytes,
    machine_bytes,
    member_bytes,
    memory_budget,
    stack_size,
)

SIZES = {
    "n_rows": 1000,
    "columns": 16,
    "dense_parameters": 3000,
    "extra_copies": 2,
    "rows_per_step": 200,
    "batch": 64,
    "values_per_row": 100,
}


def test_a_member_is_its_tables_dense_parameters_and_activations():
    # By hand: table and two moments 3 * 1000 * 16 = 48,000; four copies of 200 touched rows 4 * 200 * 16 = 12,800;
    # parameters, gradients, two moments 4 * 3000 = 12,000; four copies of the activations 4 * 64 * 100 = 25,600.
    assert member_bytes(**SIZES) == 4 * (48_000 + 12_800 + 12_000 + 25_600)
    assert member_bytes(**SIZES, bytes_per_value=8) == 8 * (48_000 + 12_800 + 12_000 + 25_600)
    assert member_bytes(**SIZES, bytes_per_activation=2) == 4 * (48_000 + 12_800 + 12_000) + 2 * 25_600
    # One number of state for each row of 16 parameters: 1000 * 16 and 1000 instead of 48,000.
    assert member_bytes(**SIZES, table_copies=1 / 16) == 4 * (17_000 + 12_800 + 12_000 + 25_600)


def test_a_step_touches_no_more_rows_than_there_are():
    assert member_bytes(**SIZES | {"rows_per_step": 10**9}) == member_bytes(**SIZES | {"rows_per_step": 1000})


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("size", [-1, float("nan"), float("inf")])
def test_a_size_that_is_none_is_refused(name, size):
    with pytest.raises(ConfigError, match=f"{name} must be a number >= 0, got {size}"):
        member_bytes(**SIZES | {name: size})


def test_a_member_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="takes no memory"):
        member_bytes(**dict.fromkeys(SIZES, 0))


@pytest.mark.parametrize(
    ("budget", "each", "at_most", "size"),
    [
        (0, 100, 16, 1),
        (99, 100, 16, 1),  # smaller than one member: one is tried
        (100, 100, 16, 1),
        (199, 100, 16, 1),
        (200, 100, 16, 2),
        (1600, 100, 16, 16),
        (10**15, 100, 16, 16),
        (10**15, 100, 1, 1),
    ],
)
def test_a_stack_is_as_large_as_its_memory(budget, each, at_most, size):
    assert stack_size(budget, each, at_most) == size


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((-1, 100, 16), "must be >= 0 bytes, got -1"),
        ((100, 0, 16), "must take > 0 bytes, got 0"),
        ((100, -5, 16), "must take > 0 bytes, got -5"),
        ((100, 100, 0), "at least 1 member, got at most 0"),
    ],
)
def test_a_stack_of_nonsense_is_refused(arguments, text):
    with pytest.raises(ConfigError, match=text):
        stack_size(*arguments)


def test_a_budget_is_shared_by_the_workers():
    assert memory_budget(3.0) == 3 * GIB
    assert memory_budget(3.0, workers=4) == 3 * GIB // 4


def test_without_an_amount_half_of_the_available_memory_is_the_budget():
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for unsaid in (None, 0):
        assert 0 < memory_budget(unsaid) <= total // 2
    assert 0 < available_bytes() <= total


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"gib": -1.0}, "must be >= 0 GiB, got -1.0"),
        ({"gib": float("nan")}, "must be >= 0 GiB, got nan"),
        ({"workers": 0}, "at least 1 worker, got 0"),
    ],
)
def test_a_budget_of_nonsense_is_refused(arguments, text):
    with pytest.raises(ConfigError, match=text):
        memory_budget(**arguments)


def write(root, **files):
    """Files by path, in which ``__`` stands for ``/``."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_limits_of_all_groups_above_are_read(tmp_path):
    write(tmp_path, proc__self__cgroup="0::/job/step\n", sys__fs__cgroup__job__step__stat="")
    for group, limit, used in (("job/step", "max", 700), ("job", "1000", 700)):
        folder = tmp_path / "sys/fs/cgroup" / group
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text("anon 500\ninactive_file 150\n")
    assert list(cgroup_bytes(tmp_path)) == [1000 - 700 + 150]  # what was read from files can be given back


def test_limits_of_the_first_version_are_read(tmp_path):
    write(tmp_path, proc__self__cgroup="9:name=systemd:/\n4:cpu,memory:/job\n0::/\n")
    folder = tmp_path / "sys/fs/cgroup/memory/job"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text("1000\n")
    (folder / "memory.usage_in_bytes").write_text("1200\n")
    assert list(cgroup_bytes(tmp_path)) == [0]


def test_no_groups_are_no_limit(tmp_path):
    assert list(cgroup_bytes(tmp_path)) == []


def test_the_machine_says_what_is_available_or_half_is_taken(tmp_path):
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert machine_bytes(tmp_path) == total // 2
    write(tmp_path, proc__meminfo="MemTotal:  2000 kB\nMemAvailable:  1000 kB\n")
    assert machine_bytes(tmp_path) == 1000 * 1024


@pytest.mark.gpu
def test_a_gpu_says_what_is_free():
    import torch

    assert 0 < available_bytes("cuda") <= torch.cuda.get_device_properties(0).total_memory
