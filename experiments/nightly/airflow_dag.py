"""A night as an Airflow DAG of one command; put this file into the folder of DAGs (Airflow 3)."""

from datetime import timedelta

import pendulum
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with DAG(
    "evorec_nightly",
    schedule="15 2 * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
):
    BashOperator(
        task_id="nightly",
        # exec: signals of Airflow then reach evorec itself.
        bash_command="exec evorec nightly nightly.toml --time-budget 3h",
        cwd="/srv/recommender",
        skip_on_exit_code=99,  # nothing new, or another process is at it
        # A start after exit code 75 goes on with the night. 2, 3 and 4 need a person; they fail again within a minute.
        retries=3,
        retry_delay=timedelta(minutes=5),
        execution_timeout=timedelta(hours=4),
    )
