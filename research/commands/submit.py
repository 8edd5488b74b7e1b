"""`--submit=slurm`: an experiment's arms as a job array; needs the extra `slurm` (submitit)."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from research.config import REQUEUE, UserError, unknown
from research.study import Study, sources_of

SCHEDULERS = ("slurm",)
MINUTES = 24 * 60  # unless --slurm=time=… says another


def submit(study: Study, scheduler: str, options: str, arguments: list[str]) -> None:
    """Submit the study's arms as a job array, one task for each, all into its one workdir.

    Arms that start from the same other arm share a task, which trains that one first. A task that
    is preempted, or runs into its time, checkpoints and is queued again. `--mode=report` gathers.

    Args:
        study: what to run.
        scheduler: slurm.
        options: `key=value,…`, as `sbatch` calls them, time in minutes: `partition=gpu,time=240,
            gpus_per_node=1`.
        arguments: the command line, but for its program.

    Raises:
        UserError: an option that does not exist; submitit or sbatch is not there, or refuses.
    """
    if scheduler not in SCHEDULERS:
        raise unknown("--submit", scheduler, SCHEDULERS)
    try:
        import submitit
    except ImportError:
        raise UserError(
            "--submit: found no submitit, expected it: pip install 'ablate[slurm]'"
        ) from None
    if shutil.which("sbatch") is None:
        raise UserError(
            "--submit: found no sbatch, expected a machine from which SLURM takes jobs; without "
            "--submit the arms are trained here"
        )
    launcher = Path(sys.argv[0]).resolve()
    here = shlex.quote(str(launcher.parent))  # the task finds this code, wherever it is started
    asked = {"job_name": study.name, "time": MINUTES} | parse_options(options)
    asked["setup"] = [f'export PYTHONPATH={here}"${{PYTHONPATH:+:$PYTHONPATH}}"']
    known = submitit.SlurmExecutor._valid_parameters()
    for name in asked:
        if name not in known:
            raise unknown("--slurm", name, sorted(known))
    workdir = study.workdir.absolute()
    groups = together(study)
    launch = [sys.executable, str(launcher), *arguments]
    tasks = [
        Task([*launch, f"--arms={','.join(arms)}", f"--workdir={workdir}", "--submit=", "--slurm="])
        for arms in groups
    ]
    try:
        executor = submitit.SlurmExecutor(folder=workdir / "slurm")
        executor.update_parameters(**asked)
        jobs = executor.map_array(Task.__call__, tasks)
    except (submitit.core.utils.FailedJobError, subprocess.CalledProcessError, OSError) as error:
        said = str(error).strip().splitlines()[-1]
        raise UserError(f"--submit: sbatch refused with --slurm={options}: {said}") from error
    print(f"Submitted job {jobs[0].job_id.split('_')[0]} into {workdir}, {len(jobs)} tasks:")
    for job, arms in zip(jobs, groups, strict=True):
        print(f"  {job.job_id}  {', '.join(arms)}")
    print(f"Logs: {workdir / 'slurm'}. squeue shows them; when they are done, gather with")
    print(f"  python launch.py {' '.join(_without_submit(arguments))} --mode=report")


class Task:
    """What a task of the array runs: a launch of a few arms."""

    def __init__(self, command: list[str]):
        """Hold the launch's `command`."""
        self.command = command
        self._launch: subprocess.Popen | None = None

    def __call__(self) -> None:
        """Launch; one that was preempted asks for another try."""
        self._launch = subprocess.Popen(self.command)
        status = self._launch.wait()
        if status == REQUEUE:
            if os.environ.get("SLURM_PROCID", "0") == "0":
                subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=True)
            time.sleep(60)  # the scheduler ends this task meanwhile
        sys.exit(status)

    def checkpoint(self) -> Any:
        """As submitit asks before the time is over: end the launch, and be queued again."""
        from submitit.helpers import DelayedSubmission

        if self._launch:
            self._launch.send_signal(signal.SIGTERM)
            self._launch.wait()
        return DelayedSubmission(Task(self.command))


def together(study: Study) -> list[list[str]]:
    """Return the arms of each task: one, or those that need the same arm, directly or not."""
    configs = study.sources | study.configs

    def needed(arm: str) -> set[str]:
        return {arm}.union(*map(needed, sources_of(configs[arm]).values()))

    groups: list[tuple[set[str], list[str]]] = []
    for arm in study.configs:
        needs = needed(arm)
        joined = [group for group in groups if group[0] & needs]
        groups = [group for group in groups if group not in joined]
        arms = [other for _, others in joined for other in others]
        groups.append((needs.union(*(others for others, _ in joined)), [*arms, arm]))
    order = list(study.configs)
    return sorted((arms for _, arms in groups), key=lambda arms: order.index(arms[0]))


def parse_options(text: str) -> dict[str, Any]:
    """Return the options that `--slurm` means, numbers as such.

    Example:
        >>> parse_options("partition=gpu,time=240")
        {'partition': 'gpu', 'time': 240}
    """
    options: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not (equals and name and value):
            raise UserError(f"--slurm: found {part!r}, expected key=value, such as partition=gpu")
        options[name.strip().replace("-", "_")] = int(value) if value.isdigit() else value
    if not isinstance(options.get("time", MINUTES), int):
        raise UserError(f"--slurm: time: found {options['time']!r}, expected a number of minutes")
    return options


def _without_submit(arguments: list[str]) -> list[str]:
    return [a for a in arguments if not a.lstrip("-").startswith(("submit=", "slurm="))]
