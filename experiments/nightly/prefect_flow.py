"""A night as a Prefect flow of one command: python prefect_flow.py"""

import subprocess

from prefect import flow, get_run_logger, task
from prefect.schedules import Cron

COMMAND = ("evorec", "nightly", "nightly.toml", "--time-budget", "3h")
FOLDER = "/srv/recommender"
NEEDS_A_PERSON = (2, 3, 4)  # configuration, data, all candidates failed


class Refusal(RuntimeError):
    """An end after which another start would end in the same way."""


def may_retry(task, run, state) -> bool:
    return not isinstance(state.result(raise_on_failure=False), Refusal)


@task(retries=3, retry_delay_seconds=300, retry_condition_fn=may_retry)
def night() -> None:
    process = subprocess.Popen(COMMAND, cwd=FOLDER)
    try:
        code = process.wait()
    finally:  # a run that is cancelled: evorec saves its work, which subprocess.run would not wait for
        process.terminate()
        process.wait(30)
    if code == 99:
        get_run_logger().info("nothing new, or another process is at it")
    elif code:  # after 75, or its death, another start goes on with the night
        raise (Refusal if code in NEEDS_A_PERSON else RuntimeError)(f"evorec nightly ended with exit code {code}")


@flow
def evorec_nightly() -> None:
    night()


if __name__ == "__main__":
    evorec_nightly.serve("evorec-nightly", schedule=Cron("15 2 * * *", timezone="UTC"), limit=1)
