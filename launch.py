"""Run an ablation: every arm of an experiment, over several seeds, to a table with uncertainty.

python launch.py
python launch.py --experiment=normalization --arms=batch,group --seeds=5 --workdir=runs/norms
python launch.py --config.optimizer.learning_rate=0.05 --config.train.steps=400
python launch.py --mode=list
python launch.py --mode=models --model=resnet50
python launch.py --experiment=parallelism --scale=cluster --mode=plan --topology=v5e:16x16
"""

import os
import shlex
import sys
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from research.config import (
    REQUEUE,
    Preempted,
    UserError,
    flatten,
    get_config,
    nearest,
    unknown,
)

MODES = ("train", "evaluate", "predict", "generate", "translate", "report", "publish", "preview")
MODES += ("list", "claims", "models", "plan", "export", "inspect")

_EXPERIMENT = flags.DEFINE_string(
    "experiment", "normalization", "Name of an experiment in experiments/, or path to a .py file."
)
_SCALE = flags.DEFINE_string("scale", "laptop", "laptop, gpu or cluster: values, never code paths.")
_ARMS = flags.DEFINE_list("arms", [], "Arms to run, or patterns such as '*_b2'; default: its own.")
_SEEDS = flags.DEFINE_string("seeds", None, "A count (3 is 0,1,2) or a list (1,4 or 3,).")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where runs live; runs/<experiment>-<scale>.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared TFDS sets (or TFDS_DATA_DIR); images.")
_MODE = flags.DEFINE_string("mode", "train", f"One of {', '.join(MODES)}.")
_MODEL = flags.DEFINE_string("model", None, "The model whose layers --mode=models shows.")
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "A trained model to use: a run's directory, or one checkpoint in it."
)
_IMAGES = flags.DEFINE_string("images", None, "To predict: a file, a pattern ('*.png'), a folder.")
_GENERATE = (
    flags.DEFINE_string("prompt", None, "To generate: the text to go on with."),
    flags.DEFINE_float("temperature", None, "To generate: below 1 the likelier; 0: greedily."),
    flags.DEFINE_integer("top_k", None, "To generate: among the k most probable tokens."),
    flags.DEFINE_float("top_p", None, "To generate: among the likeliest of this share together."),
)
_TRANSLATE = (
    flags.DEFINE_string("text", None, "To translate."),
    flags.DEFINE_string("input", None, "To translate: a file of lines."),
    flags.DEFINE_integer("beams", None, "To translate: of the beam search; 1: greedily."),
    flags.DEFINE_float("alpha", None, "To translate: the power of the length penalty."),
)
_INSPECT = (
    flags.DEFINE_string("what", None, "To inspect: occlusion,saliency,…, or all that fits."),
    flags.DEFINE_string("endpoint", None, "To inspect: an activation of the model, by its name."),
    flags.DEFINE_integer(
        "patch", None, "Of occlusion: its side in pixels; a quarter of the image."
    ),
    flags.DEFINE_integer("stride", None, "Of occlusion: from place to place; half the patch."),
    flags.DEFINE_string("fill", None, "Of occlusion: a grey from 0 to 1, or mean."),
    flags.DEFINE_integer("examples", None, "To inspect: how many of the test split; 128."),
)
_LENGTH = flags.DEFINE_integer("length", None, "The most tokens or steps to generate.")
_TOPOLOGY = flags.DEFINE_string(
    "topology", None, "To plan: a machine that is not here, such as v5e:16x16 or h100:32x8."
)
TRAINED = (
    "evaluate",
    "predict",
    "inspect",
    "generate",
    "translate",
    "export",
)  # what one does with a trained model
_CLUSTER = (
    flags.DEFINE_string("coordinator_address", None, "host:port of process 0, of several."),
    flags.DEFINE_integer("num_processes", None, "How many processes train together."),
    flags.DEFINE_integer("process_id", None, "Which of them this is, from 0."),
    flags.DEFINE_float("cluster_timeout", None, "Seconds until all must be there; 300."),
    flags.DEFINE_float("heartbeat", None, "Seconds of silence until one counts as gone; 60."),
)
_SUBMIT = flags.DEFINE_string("submit", None, "slurm: submit the arms as a job array.")
_SLURM = flags.DEFINE_string("slurm", None, "Of its tasks: partition=gpu,time=240,…")
ONLY = (  # flags that some modes alone heed
    (_SUBMIT, ("train",)),
    (_SLURM, ("train",)),
    *((flag, ("train",)) for flag in _CLUSTER),
    (_CHECKPOINT, TRAINED),
    (_IMAGES, ("predict",)),
    *((flag, ("generate",)) for flag in _GENERATE),
    *((flag, ("translate",)) for flag in _TRANSLATE),
    (_LENGTH, ("generate", "translate")),
    *((flag, ("inspect",)) for flag in _INSPECT),
    (_TOPOLOGY, ("plan",)),
)
_MESH = flags.DEFINE_string(
    "mesh", None, "Devices of a run, such as data:4,model:2; axes: seed data fsdp model; -1: rest."
)
_PARALLEL = flags.DEFINE_string("parallel", None, "How a step is compiled: jit, shard_map, pmap.")
_PROFILE = flags.DEFINE_string("profile", None, "Steps to trace, such as 10:20.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Show what would run and its cost; run nothing.")


def main(argv: list[str]) -> None:
    """Do what the flags say."""
    logging.set_verbosity(logging.WARNING)
    if len(argv) > 1:
        raise UserError(f"command line: found {argv[1]!r}, expected flags only (--experiment=…)")
    if _MODE.value not in MODES:
        raise unknown("--mode", _MODE.value, MODES)
    # Imports wait until here: flags are checked at once, and --help does not load JAX.
    from research.experiment import parse_seeds, resolve

    if _MODE.value == "list":
        from research.commands.list import list_experiments

        return list_experiments()
    if _MODE.value == "claims":
        from research.commands.claims import write_claims

        return write_claims()

    overrides = config_flags.get_override_values(flags.FLAGS["config"])
    shorthands = given(_MESH, _PARALLEL, _PROFILE)
    overrides |= {f"train.{name}": value for name, value in shorthands.items()}
    if _MODE.value == "models":
        from research.commands.models import show_models

        return show_models(_MODEL.value, overrides)
    if _MODEL.value is not None:
        raise UserError(
            f"--model: found {_MODEL.value!r} with --mode={_MODE.value}, expected --mode=models, "
            "or --config.model.name to train it"
        )
    for flag, modes in ONLY:
        if flag.value is not None and _MODE.value not in modes:
            raise UserError(
                f"--{flag.name}: found {flag.value!r} with --mode={_MODE.value}, expected "
                f"--mode={' or '.join(modes)}"
            )
    published = _MODE.value == "evaluate" and "init_from" in overrides
    if _MODE.value in TRAINED[1:] or _CHECKPOINT.value or published:
        return use_trained(overrides)
    study = resolve(
        _EXPERIMENT.value,
        _SCALE.value,
        overrides=overrides,
        arms=_ARMS.value,
        seeds=None if _SEEDS.value is None else parse_seeds(_SEEDS.value),
        workdir=_WORKDIR.value,
    )
    if _SUBMIT.value:
        from research.commands.submit import submit

        return submit(study, _SUBMIT.value, _SLURM.value or "", sys.argv[1:])
    if _SLURM.value:
        raise UserError(
            f"--slurm: found {_SLURM.value!r} without --submit, expected --submit=slurm"
        )
    from research.distributed.mesh import host_devices
    from research.distributed.startup import start

    processes = 1
    if _MODE.value == "train" and not _DRY_RUN.value:
        from research.distributed.cluster import leave, start_cluster

        processes = start_cluster(**given(*_CLUSTER))
    configs = [*study.sources.values(), *study.configs.values()]
    devices = host_devices([c.train.mesh for c in configs])
    if _TOPOLOGY.value is not None:
        from research.distributed.topology import parse_topology

        devices = parse_topology(_TOPOLOGY.value).host_devices
    start(
        deterministic=any(c.train.deterministic for c in configs),
        devices=-(-devices // processes),
        processes=processes,
    )
    if _DRY_RUN.value:
        from research.commands.dry_run import dry_run

        dry_run(study, _DATA_DIR.value)
    elif _MODE.value == "train":
        from research.commands.train import run_study

        run_study(study, _DATA_DIR.value, recorded(sys.argv[1:]))
        leave(0)
    elif _MODE.value == "evaluate":
        from research.commands.evaluate import evaluate_study

        evaluate_study(study, _DATA_DIR.value)
    elif _MODE.value == "report":
        from research.commands.report import report_again

        report_again(study, overrides)
    elif _MODE.value == "preview":
        from research.commands.preview import preview

        preview(study, _DATA_DIR.value)
    elif _MODE.value == "plan":
        from research.commands.plan import plan

        plan(study, _TOPOLOGY.value, _DATA_DIR.value)
    elif _MODE.value == "publish":
        from research.commands.report import publish_results

        publish_results(study, _EXPERIMENT.value)


def recorded(arguments: list[str]) -> str:
    """The command line as a page shows it: where the data lie is each machine's own affair."""
    here = ("--data_dir=", "-data_dir=")
    words = [
        "--data_dir=$TFDS_DATA_DIR" if a.startswith(here) else shlex.quote(a) for a in arguments
    ]
    return " ".join(["python launch.py", *words])


def use_trained(overrides: dict) -> None:
    """Evaluate, inspect, export, or predict, generate or translate with, the model that
    `--checkpoint` names, whose run says all else; or the published one that `--config.init_from`
    names, with which nothing is generated or translated.
    """
    images = _MODE.value in ("evaluate", "predict", "inspect", "export")
    named = _CHECKPOINT.value or (images and overrides.get("init_from"))
    for flag, value in (("checkpoint", named), ("images", _IMAGES.value)):
        if not value and (flag == "checkpoint" or _MODE.value == "predict"):
            raise UserError(f"--{flag}: found none, expected one: --mode={_MODE.value} needs it")
    where = _CHECKPOINT.value, _DATA_DIR.value, overrides
    if _MODE.value == "generate":
        from research.commands.generate import generate
        from research.experiment import parse_seeds

        seeds = {} if _SEEDS.value is None else {"seeds": parse_seeds(_SEEDS.value)}
        generate(*where, **seeds, **given(*_GENERATE, _LENGTH))
    elif _MODE.value == "translate":
        from research.commands.translate import translate_lines

        translate_lines(*where, **given(*_TRANSLATE, _LENGTH))
    elif _MODE.value == "inspect":
        from research.commands.inspect import inspect

        inspect(*where, **given(*_INSPECT))
    elif _MODE.value == "predict":
        from research.commands.predict import predict

        predict(_CHECKPOINT.value, _IMAGES.value, _DATA_DIR.value, overrides)
    elif _MODE.value == "export":
        from research.commands.export import export

        export(*where)
    else:
        from research.commands.evaluate import evaluate_checkpoint

        evaluate_checkpoint(*where)


def given(*holders: flags.FlagHolder) -> dict[str, Any]:
    """Return the flags that the command line sets, by name."""
    return {flag.name: flag.value for flag in holders if flag.value is not None}


def parse_flags(argv: list[str]) -> list[str]:
    """Parse the command line; whatever is wrong with it is a `UserError`."""
    config = get_config()
    known = flatten(config)
    for argument in argv[1:]:
        field = argument.partition("=")[0].lstrip("-").removeprefix("config.")
        if argument.lstrip("-").startswith("config.") and field not in known:
            raise unknown("--config.", field, known)
    try:
        # Defining this flag parses its overrides, so it has to come after the check above.
        config_flags.DEFINE_config_dict("config", config, "Overrides, --config.a.b=value.")
        return flags.FLAGS(argv)
    except flags.UnrecognizedFlagError as error:
        hint = nearest(error.flagname, list(flags.FLAGS))
        raise UserError(f"--{error.flagname}: found an unknown flag{hint}") from None
    except flags.IllegalFlagValueError as error:
        name, value = str(error).removeprefix("flag --").split(": ")[0].split("=", 1)
        field = name.removeprefix("config.")
        expected = type(known[field]).__name__ if field in known else flags.FLAGS[name].flag_type()
        raise UserError(f"--{name}: found {value!r}, expected {expected}") from None
    except (flags.Error, AttributeError, TypeError, ValueError) as error:
        raise UserError(str(error)) from None


def run() -> None:
    """Run `main`; an error that the user can mend is one message and exit status 2."""
    try:
        app.run(main, flags_parser=parse_flags)
    except UserError as error:
        _stop(f"launch.py: {error}", 2)
    except Preempted as notice:
        _stop(f"launch.py: {notice}", REQUEUE)
    except KeyboardInterrupt:
        _stop("\nlaunch.py: interrupted; launch again to go on from there", 130)
    except Exception as error:
        if cluster := sys.modules.get("research.distributed.cluster"):
            cluster.failed(error)
        raise


def _stop(message: str, status: int) -> None:
    """Say why and end at once, whatever other runs' threads are doing."""
    print(message, file=sys.stderr, flush=True)
    sys.stdout.flush()
    if cluster := sys.modules.get("research.distributed.cluster"):
        cluster.leave(status, message.strip().removeprefix("launch.py: "))
    os._exit(status)


if __name__ == "__main__":
    run()
