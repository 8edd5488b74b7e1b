"""Write a workdir as training leaves it: plausible curves drawn from a seeded generator."""

import json
from pathlib import Path

import numpy as np

ARMS = ["none", "batch", "layer", "group", "instance", "local_response"]
SPEED = [40, 14, 20, 16, 24, 32]  # steps to shrink the loss by e
BEST = [0.962, 0.989, 0.983, 0.987, 0.978, 0.972]
LAYERS = [
    "stem/conv",
    *(f"stage{s}/block0/conv{c}" for s in (1, 2, 3) for c in (1, 2)),
    "head/dense",
]
COMMIT = {"commit": "3f2a9c1d7e" + "0" * 30, "dirty": False}


def write_workdir(
    workdir: Path,
    arms=ARMS,
    seeds=range(5),
    diverged=(("local_response", 3),),
    unfinished=(("instance", 4),),
    tune=True,
    steps=250,
    layers=LAYERS,
    **settings,
) -> Path:
    """Write `experiment.json`, the tuning and the runs of every arm and seed."""
    arms, seeds = list(arms), list(seeds)
    grid = [{"optimizer.learning_rate": value} for value in (0.03, 0.1, 0.3)]
    experiment = {
        "experiment": "normalization",
        "scale": "laptop",
        "title": "Normalisation",
        "question": "Does normalisation still matter with skips & clipped gradients?",
        "command": "python launch.py --experiment=normalization --seeds=5",
        "baseline": "batch",
        "arms": arms,
        "arms_changes": {arm: {"model.norm": arm} for arm in arms},
        "seeds": seeds,
        "panels": [
            {"metric": "test/accuracy", "direction": "max"},
            {"metric": "test/loss", "direction": "min"},
            {"metric": "steps_to_accuracy", "direction": "min"},
        ],
        "target_accuracy": 0.95,
        "num_classes": 10,
        "chance": {"test/accuracy": 0.1},
        "tune": {"grid": grid, "select": "validation/accuracy"} if tune else None,
    } | settings
    _dump(workdir / "experiment.json", experiment)
    for i, arm in enumerate(arms):
        if tune:
            scores = zip(grid, (0.95, 0.97, 0.96), strict=True)
            points = [
                {"point": p, "metrics": {"validation/accuracy": s}, "status": "finished"}
                for p, s in scores
            ]
            _dump(workdir / arm / "tune.json", {"grid": points, "chosen": grid[min(i, 1)]})
        for seed in seeds:
            rng = np.random.default_rng([i, seed])
            kinds = {"diverges": (arm, seed) in diverged, "ends": (arm, seed) not in unfinished}
            _write_run(workdir, arm, i, seed, rng, steps, layers, **kinds)
    return workdir


def _write_run(workdir, arm, i, seed, rng, steps, layers, diverges, ends):
    directory = workdir / arm / f"seed_{seed}"
    speed, best = SPEED[i % 6] * (1 + i // 6), BEST[i % 6] - 0.004 * (i // 6)
    last = steps if ends else steps // 2
    rows, reached = [], None
    for step in range(0, last + 1, 5):
        fade = np.exp(-step / speed)
        row = {"step": step, "wall_seconds": 0.03 * step, "learning_rate": 0.1}
        row["train/loss"] = float((2.4 * fade + 0.02 + 0.1 / (step + 5)) * rng.lognormal(0, 0.15))
        if step % 25 == 0:
            accuracy = 0.1 + (best - 0.1) * (1 - fade) + rng.normal(0, 0.003)
            row["validation/accuracy"] = round(float(np.clip(accuracy, 0, 1)) * 180) / 180
            row["validation/loss"] = row["train/loss"] * 1.2
            if row["validation/accuracy"] >= 0.95 and reached is None:
                reached = step
            for depth, layer in enumerate(layers):
                size = 10 ** (-1 - 0.25 * (i % 6 == 0) * (len(layers) - depth)) * (fade + 0.05)
                row[f"diagnostics/gradient_norm/{layer}"] = float(size * rng.lognormal(0, 0.3))
        if diverges and step >= 60:
            row = {key: value if key == "step" else None for key, value in row.items()}
        rows.append(row)
        if diverges and step >= 60:
            break
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (directory / "config.json").write_text("{}")
    if not ends:
        return
    metrics = {"train/loss": rows[-1]["train/loss"]}
    if not diverges:
        accuracy = round(float(best + rng.normal(0, 0.004)) * 360) / 360
        metrics |= {"test/accuracy": accuracy, "validation/accuracy": accuracy}
        metrics |= {"test/loss": float(3 * (1 - best) * rng.lognormal(0, 0.1))}
        metrics["steps_to_accuracy"] = reached
    result = {
        "experiment": "normalization",
        "scale": "laptop",
        "arm": arm,
        "seed": seed,
        "status": "diverged" if diverges else "finished",
        "steps": rows[-1]["step"],
        "resumed_from": [],
        "metrics": metrics,
        "utilization": {"step_ms": 2.0 + i, "input_wait": 0.25, "communication_mb": 0.0},
        "params_digest": "sha256:0",
        "wall_seconds": 8 + i + float(rng.normal(0, 0.3)),
        "config": {"model": {"norm": arm}},
        "versions": {"python": "3.11.9", "jax": "0.10.2", "flax": "0.12.8"},
        "git": COMMIT,
        "hardware": {"platform": "cpu", "device": "cpu", "cores": 2},
    }
    _dump(directory / "result.json", result)


def _dump(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2))
