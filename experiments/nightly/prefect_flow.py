"""A night as a Prefect flow of one command: python prefect_flow.py"""

import subprocess

from prefect import flow, get_run_logger, task
from prefect.schedules import Cron

COMMAND = ("evorec", "nightly", "nightly.toml", "--time-budget", "3h")
FOLDER = "/srv/recommender"


class InterruptedNight(Exception):
    """Exit code 75: the next start goes on with the night."""


def is_interrupted(task, run, state) -> bool:
    return isinstance(state.result(raise_on_failure=False), InterruptedNight)


@task(retries=3, retry_delay_seconds=300, retry_condition_fn=is_interrupted)
def night() -> None:
    process = subprocess.Popen(COMMAND, cwd=FOLDER)
    try:
        code = process.wait()
    finally:  # a run that is cancelled: evorec saves its work, which subprocess.run would not wait for
        process.terminate()
        process.wait(30)
    if code == 99:
        get_run_logger().info("nothing new, or another process is at it")
    elif code == 75:
        raise InterruptedNight
    elif code:
        raise RuntimeError(f"evorec nightly ended with exit code {code}")


@flow
def evorec_nightly() -> None:
    night()


if __name__ == "__main__":
    evorec_nightly.serve("evorec-nightly", schedule=Cron("15 2 * * *", timezone="UTC"), limit=1)
