"""A night as a Dagster job of one command: dagster dev -f dagster_job.py"""

import subprocess

import dagster as dg

COMMAND = ("evorec", "nightly", "nightly.toml", "--time-budget", "3h")
FOLDER = "/srv/recommender"
NEEDS_A_PERSON = (2, 3, 4)  # configuration, data, all candidates failed


@dg.op(retry_policy=dg.RetryPolicy(max_retries=3, delay=300))
def night(context: dg.OpExecutionContext) -> None:
    process = subprocess.Popen(COMMAND, cwd=FOLDER)
    try:
        code = process.wait()
    finally:  # a run that is cancelled: evorec saves its work, which subprocess.run would not wait for
        process.terminate()
        process.wait(30)
    if code == 99:
        context.log.info("nothing new, or another process is at it")
    elif code:  # after 75, or its death, another start goes on with the night
        raise dg.Failure(f"evorec nightly ended with exit code {code}", allow_retries=code not in NEEDS_A_PERSON)


@dg.job
def evorec_nightly() -> None:
    night()


defs = dg.Definitions(
    jobs=[evorec_nightly],
    schedules=[dg.ScheduleDefinition(job=evorec_nightly, cron_schedule="15 2 * * *", execution_timezone="UTC")],
)
