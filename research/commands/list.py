"""`--mode=list`: the experiments, their scales and their arms."""

from rich.console import Console

from research.experiment import experiments, load


def list_experiments() -> None:
    """Print each experiment of this repository with what its docstring says of it."""
    console = Console(highlight=False)
    for name in experiments():
        _, module = load(name)
        console.print(f"[bold]{name}[/bold]")
        console.print((module.__doc__ or "").strip(), markup=False, soft_wrap=True)
        for scale in module.scales:
            config, arms = module.get_config(scale), module.arms(scale)
            chosen = config.experiment.arms or tuple(arms)
            console.print(f"  --scale={scale}: {', '.join(chosen)}", markup=False, soft_wrap=True)
            others = [arm for arm in arms if arm not in chosen]
            if others:
                shown = ", ".join(others[:8]) + (", …" if len(others) > 8 else "")
                console.print(
                    f"    {len(others)} on request: {shown}", markup=False, soft_wrap=True
                )
        console.print()
