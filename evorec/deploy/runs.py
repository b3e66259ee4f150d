"""Whether a run can be deployed: finished, and made by the problem at hand."""

from __future__ import annotations

from evorec.errors import RunError, command
from evorec.recommender.problem import RecProblem
from evorec.run.directory import RunDirectory


def check_belongs(run: RunDirectory, problem: RecProblem) -> None:
    """Check that a run was made from this problem's configuration and data.

    Raises:
        RunError: it was made from others.
    """
    if run.fingerprint_of(problem.config, problem.data_sha256) != run.fingerprint:
        raise RunError(f"run {run.path} was made from another configuration or data set than problem {problem.name}")


def check_finished(run: RunDirectory, problem: RecProblem) -> None:
    """Check that a run is finished, and was made from this problem's configuration and data.

    Raises:
        RunError: it is not finished, or was made from others.
    """
    if not run.finished:
        raise RunError(f"run {run.path} is not finished; {command('resume', run.path)} continues it")
    check_belongs(run, problem)


def check_whole(run: RunDirectory, problem: RecProblem) -> None:
    """`check_finished`, and that no file of the run is lost.

    Raises:
        RunError: it is not finished, was made from others, or has lost files.
    """
    check_finished(run, problem)
    if lost := run.lost():
        raise RunError(f"run {run.path} has lost {', '.join(lost)}; {command('resume', run.path)} restores it")
