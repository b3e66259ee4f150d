import io
import threading
from functools import partial

import numpy as np
import pytest
import torch
from analytic import Analytic

from evorec.errors import ConfigError, TrainingError
from evorec.search.executors import ProcessExecutor
from evorec.search.workers import (
    ALIGNMENT,
    ProblemFiles,
    _pickled,
    _read,
    _Unpickler,
    raised,
    result_of,
    task_message,
)


@pytest.fixture
def files():
    problems = ProblemFiles()
    yield problems
    problems.close()


def with_data(**data):
    problem = Analytic()
    problem.__dict__.update(data)
    return problem


def returned(value):
    """A value as it is after its way through a message."""
    return result_of(_pickled((False, value)))


def test_a_problem_is_not_in_the_message_and_its_file_is_read_once(files):
    problem = with_data(array=np.arange(100_000.0))
    message = task_message(partial(pow, problem, 2), files)
    assert len(message) < 1000
    first, second = (_Unpickler(io.BytesIO(task_message(partial(pow, problem, i), files))).load() for i in range(2))
    assert first.args[0] is second.args[0]
    assert first.args[0] is not problem
    assert (first.args[0].array == problem.array).all()


def test_mapped_arrays_are_aligned_and_written_privately(files):
    arrays = [np.arange(7, dtype=np.uint8), np.arange(5.0), np.asfortranarray(np.arange(6.0).reshape(2, 3))]
    problem = with_data(arrays=arrays, tensor=torch.arange(9, dtype=torch.float32))
    source = files.of(problem)
    assert files.of(problem) is source
    mapped = _read(source)
    for ours, theirs in zip(arrays, mapped.arrays, strict=True):
        assert (ours == theirs).all()
        assert ours.flags.f_contiguous == theirs.flags.f_contiguous
        assert theirs.ctypes.data % ALIGNMENT == 0
    assert mapped.tensor.data_ptr() % ALIGNMENT == 0
    assert torch.equal(mapped.tensor, problem.tensor)
    mapped.arrays[1][:] = -1.0
    mapped.tensor.fill_(-1.0)
    assert arrays[1][4] == 4.0
    again = _read.__wrapped__(source)  # as another worker reads it
    assert again.arrays[1][4] == 4.0
    assert again.tensor[8] == 8.0


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6.0).view(2, 3),
        torch.arange(6.0).view(2, 3).T,
        torch.zeros(1).expand(4),
        torch.ones(3, dtype=torch.bfloat16),
        torch.tensor([True, False]),
        torch.tensor(3),
        torch.zeros(0, 4),
        torch.ones(2, requires_grad=True),
    ],
)
def test_a_tensor_comes_back_as_it_was(tensor):
    back = returned(tensor)
    assert torch.equal(back, tensor)
    assert (back.dtype, back.stride(), back.requires_grad) == (tensor.dtype, tensor.stride(), tensor.requires_grad)


def test_a_problem_that_cannot_be_sent_says_what_to_set(files):
    with pytest.raises(ConfigError, match=r"problem analytic cannot be sent .*lock.*; set run.executor to threads"):
        task_message(partial(pow, with_data(lock=threading.Lock()), 2), files)


def test_a_task_that_cannot_be_sent_says_what_to_set(files):
    with pytest.raises(ConfigError, match=r"a task cannot be sent .*lock.*; set run.executor to threads"):
        task_message(partial(pow, threading.Lock(), 2), files)


class Peculiar(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (TrainingError("it diverged"), TrainingError, "it diverged"),
        (Peculiar(1, 2), RuntimeError, "Peculiar: 1 and 2"),
        (ValueError(threading.Lock()), RuntimeError, "ValueError: <unlocked"),
    ],
)
def test_an_exception_is_raised_where_the_result_is_read(error, kind, text):
    with pytest.raises(kind, match=text):
        result_of(raised(error))


def test_a_worker_computes_with_one_thread():
    def threads():
        return torch.get_num_threads()

    executor = ProcessExecutor(1)
    assert list(executor.run([threads])) == [(0, 1)]
    executor.close()
