"""`--mode=export`: a trained model as one file that any JAX runs, with a card that describes it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from research.commands.trained import Trained, open_model
from research.config import UserError
from research.files import read_json, write, write_json
from research.tasks.additions import CARRY
from research.train.checkpoint import finished
from research.train.start import variable_shapes
from research.train.state import params_digest
from research.train.tasks import task_name
from research.transfer.export import described, exported

FORMAT = 1  # of model.json
SEEN = ("image", "inputs", "length", "side")  # what of an example a model may be shown


def export(checkpoint: str | None, data_dir: str | None, overrides: Mapping[str, Any]) -> Path:
    """Write `export/` into the run's directory: the program, the facts on it, the model's card.

    `model.stablehlo` holds preprocessing, network and parameters, and runs on CPUs, GPUs and TPUs,
    on any number of rows: see `research.transfer.export`. `model.json` tells its inputs, outputs
    and classes, `README.md` where the model comes from and how well it does.

    Args:
        checkpoint: as `--checkpoint`; without one, `init_from` among `overrides` names weights.
        data_dir: as `--data_dir`.
        overrides: fields of the config that are to differ from the run's.

    Returns:
        The folder.

    Raises:
        UserError: a run that diverged or has not finished, or a task that needs more than a call.
    """
    trained = open_model(checkpoint, data_dir, overrides)
    result = finished(trained.directory, "--checkpoint") if checkpoint else {}
    spec, name = trained.dataset.train.spec, task_name(trained.config, trained.dataset)
    if "image" not in spec and name == "translation":
        raise UserError(
            f"--mode=export: found a run for the task {name!r}, which answers word by word; "
            "expected a task that answers in one call, such as 'classification'; "
            "--mode=translate runs this one"
        )
    variables = {k: v for k, v in trained.variables.items() if k != CARRY}
    digest = params_digest(variables["params"])
    with trained.precision():
        if (kind := trained.config.quantize.kind) != "none":
            from research.compression.quantization import quantize  # imports qwix

            variables["params"] = quantize(variables["params"], kind)
        inputs = {k: jax.ShapeDtypeStruct(*spec[k]) for k in SEEN if k in spec}
        program = exported(trained.task.answer, variables, inputs)
    source = _foreign_weights(str(trained.directory) if checkpoint else trained.config.init_from)
    facts = _facts(trained, result, name, digest, source) | described(program)
    folder = trained.directory / "export"
    file = write(folder / "model.stablehlo", bytes(program.serialize()))
    facts["bytes"] = file.stat().st_size
    write_json(folder / "model.json", facts)
    write(folder / "README.md", _card(facts))
    print(f"{file} ({facts['bytes']:,} bytes), model.json, README.md")
    return folder


def _foreign_weights(source: str) -> str:
    """Return the file of weights that a network goes back to: a run may have started from a run
    that started from them. "" where all have started from nothing.

    Args:
        source: the directory of a run, or what `init_from` names.
    """
    while source and (record := Path(source) / "config.json").is_file():
        source = read_json(record).get("init_from", "")
    path = Path(source)
    return path.name if path.is_absolute() or path.exists() else source  # or the hub's name


def _facts(
    trained: Trained, result: dict[str, Any], task: str, digest: str, source: str
) -> dict[str, Any]:
    config, dataset = trained.config, trained.dataset
    metrics, shapes = result.get("metrics", {}), variable_shapes(config, dataset)
    # They are of the best step, and so is the network that a quantised run saves.
    if trained.origin not in (f"step {metrics.get('best_step')}", "network.safetensors"):
        metrics = {}
    tested = {k: v for k, v in metrics.items() if k.startswith("test/") and v is not None}
    return {
        "format": FORMAT,
        "model": config.model.name,
        "task": task,
        "data": dataset.name,
        "normalization": config.data.normalize,
        "quantized": config.quantize.kind,
        "classes": list(dataset.class_names),
        "experiment": result.get("experiment", ""),
        "arm": result.get("arm", ""),
        "seed": result.get("seed"),
        "checkpoint": trained.origin,
        "metrics": tested,
        "parameters": sum(p.size for p in jax.tree.leaves(shapes["params"])),
        "params_digest": digest,
        "code": result.get("code", {}).get("sha256", ""),
        "git": (result.get("git") or {}).get("commit") or "",
        "versions": {"jax": jax.__version__} | result.get("versions", {}),
        "weights": source,
        "licence": "Apache-2.0" if not source else f"that of the owners of {source}",
    }


def _card(facts: dict[str, Any]) -> str:
    """Return the model's card, in Markdown."""
    bits = "" if facts["quantized"] == "none" else f", quantised to {facts['quantized']}"
    seed = "" if facts["seed"] is None else f"seed {facts['seed']}"
    licence = f"{facts['licence']}, as the code; the data keep their owners' terms"
    weights = facts["weights"]
    if weights:
        licence = (
            f"of the code alone Apache-2.0; the weights `{weights}`, and what has come of them, "
            "keep their owners' terms, as do the data"
        )
        weights = f"begun from the weights `{weights}`" if seed else f"the weights `{weights}`"
    rows = {
        "trained in": ", ".join(filter(None, (facts["experiment"], facts["arm"], seed, weights))),
        "checkpoint": facts["checkpoint"],
        "data": f"{facts['data']}, normalised by `{facts['normalization']}` inside the program",
        "parameters": f"{facts['parameters']:,}, digest `{facts['params_digest'][:12]}`{bits}",
        "code": f"sha256 `{facts['code']}`, commit `{facts['git'][:10]}`" if facts["code"] else "",
        "made with": ", ".join(f"{k} {v}" for k, v in facts["versions"].items()),
        "licence": licence,
    }
    for way in ("inputs", "outputs"):
        rows[way] = "; ".join(
            f"`{name}` {each['dtype']}[{', '.join(map(str, each['shape']))}]"
            for name, each in facts[way].items()
        )
    if facts["classes"]:
        rows["classes"] = ", ".join(facts["classes"])
    lines = [
        f"# {facts['model']}: {facts['task']} of {facts['data']}",
        "",
        "| | |",
        "| :-- | :-- |",
    ]
    lines += [f"| {name} | {text} |" for name, text in rows.items() if text]
    if facts["metrics"]:
        lines += ["", "On the test split, one seed:", "", "| metric | value |", "| :-- | --: |"]
        lines += [
            f"| {name.removeprefix('test/')} | {value:.4g} |"
            for name, value in facts["metrics"].items()
        ]
    call = ", ".join(f'"{name}": {name}' for name in facts["inputs"])
    lines += [
        "",
        "`b` is any number of rows. To run it, with JAX alone (`pip install jax flatbuffers`):",
        "",
        "```python",
        "import jax",
        "from pathlib import Path",
        "",
        'model = jax.export.deserialize(Path("model.stablehlo").read_bytes())',
        f"answer = model.call({{{call}}})",
        "```",
    ]
    return "\n".join(lines) + "\n"
