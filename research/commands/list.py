"""`--mode=list`: the experiments, their scales and their arms."""

from collections.abc import Sequence

from rich.console import Console

from research.data.sequences import SEQUENCES
from research.data.sets.scans import SCANS
from research.experiment import experiments, load


def list_experiments() -> None:
    """Print each experiment of this repository with what its docstring says, and the sets."""
    console = Console(highlight=False)
    for name in experiments():
        _, module = load(name)
        console.print(f"[bold]{name}[/bold]")
        console.print((module.__doc__ or "").strip(), markup=False, soft_wrap=True)
        for scale in module.scales:
            config, arms = module.get_config(scale), module.arms(scale)
            chosen = config.experiment.arms or tuple(arms)
            others = [arm for arm in arms if arm not in chosen]
            lines = [f"  --scale={scale}: {_some(chosen)}"]
            lines += [f"    {len(others)} on request: {_some(others)}"] if others else []
            for line in lines:
                console.print(line, markup=False, soft_wrap=True)
        console.print()
    console.print("[bold]--config.data.name[/bold] of sequences")
    scans = [f"{scan}/<a set of images>" for scan in SCANS]
    console.print(f"  {', '.join([*SEQUENCES, *scans])}", markup=False, soft_wrap=True)


def _some(arms: Sequence[str], most: int = 16) -> str:
    """The names of the first arms, and how many there are if that is not all."""
    return ", ".join(arms[:most]) + (f", … ({len(arms)} in all)" if len(arms) > most else "")
