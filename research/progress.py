"""Live progress of runs side by side: bars on a terminal, plain lines elsewhere."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn, track

SPLITS = ("test", "validation")  # a result shows the first of them that there is
QUIET = 10.0  # seconds between plain lines, but for the end of a run


class Watcher:
    """Shows what the runs of a phase do; every method may be called from any thread."""

    def __init__(self, title: str, runs: int, *, done: int = 0, console: Console | None = None):
        """Show `title`; `done` of its `runs` had finished before."""
        self._console = console or Console()
        self._title, self._runs, self._done = title, runs, done
        self._before = done
        self._lock = threading.Lock()
        self._said = time.monotonic()
        self._began = self._said
        self._fraction: dict[str, float] = {}
        self._tasks: dict[str, TaskID] = {}
        self._bars: Progress | None = None
        if self._console.is_terminal:
            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[step]}"),
                TextColumn("{task.fields[numbers]}"),
                TimeRemainingColumn(compact=True),
                console=self._console,
            )

    def __enter__(self):
        if self._bars:
            self._bars.start()
            self._total = self._bars.add_task(
                f"[bold]{self._title}",
                total=self._runs,
                completed=self._done,
                step=f"{self._done}/{self._runs} runs",
                numbers="",
            )
        return self

    def __exit__(self, *exception):
        if self._bars:
            self._bars.stop()

    def say(self, sentence: str) -> None:
        """Print a sentence above the bars."""
        (self._bars.console if self._bars else self._console).print(sentence, markup=False)

    def run(self, name: str) -> Callable[[int, int, dict[str, float]], None]:
        """Show a run that begins; return what its training loop calls at every row."""
        if self._bars:
            self._tasks[name] = self._bars.add_task(name, total=None, step="compiling", numbers="")
        last = (0, time.monotonic())

        def watch(step: int, steps: int, row: dict[str, float]) -> None:
            nonlocal last
            now = time.monotonic()
            rate = (step - last[0]) / max(now - last[1], 1e-9)
            last = (step, now)
            numbers = f"loss {row['train/loss']:.4f}"
            if "train/accuracy" in row:
                numbers += f"  acc {row['train/accuracy']:.3f}"
            shown = "accuracy" if "validation/accuracy" in row else "loss"
            if f"validation/{shown}" in row:
                numbers += f"  val {row[f'validation/{shown}']:.3f}"
            numbers += f"  {rate:.1f} it/s"
            with self._lock:
                self._fraction[name] = step / steps
                if self._bars:
                    self._bars.update(
                        self._tasks[name],
                        total=steps,
                        completed=step,
                        step=f"{step}/{steps}",
                        numbers=numbers,
                    )
                elif now - self._said > QUIET:
                    self._said = now
                    self._console.print(
                        f"[{self._title}] {name}  step {step}/{steps}  {numbers}  "
                        f"{self._left(now)}",
                        markup=False,
                        soft_wrap=True,
                    )

        return watch

    def finished(self, name: str, result: dict) -> None:
        """Show that a run ended."""
        metrics = result["metrics"]
        with self._lock:
            self._done += 1
            self._fraction.pop(name, None)
            if self._bars:
                self._bars.remove_task(self._tasks.pop(name))
                self._bars.update(
                    self._total, completed=self._done, step=f"{self._done}/{self._runs} runs"
                )
                return
            self._said = now = time.monotonic()
            names = (f"{part}/{name}" for name in ("accuracy", "loss") for part in SPLITS)
            found = ((name.replace("/", " "), metrics.get(name)) for name in names)
            known = (f"{name} {value:.4f}" for name, value in found if value is not None)
            figure = next(known, "no accuracy")
            self._console.print(
                f"[{self._title}] {self._done}/{self._runs}  {name}  {result['status']} at step "
                f"{result['steps']}  {figure}  {result['wall_seconds']:.1f} s  {self._left(now)}",
                markup=False,
                soft_wrap=True,
            )

    def _left(self, now: float) -> str:
        done = self._done - self._before + sum(self._fraction.values())
        if done <= 0:
            return ""
        seconds = (now - self._began) / done * (self._runs - done)
        return f"{seconds / 60:.0f} min left" if seconds > 90 else f"{seconds:.0f} s left"


@contextlib.contextmanager
def elapsed(console: Console, what: str) -> Iterator[Callable[[], float]]:
    """Show for how long `what` has been going on; yields what tells the seconds."""
    began, over = time.monotonic(), threading.Event()

    def seconds() -> float:
        return time.monotonic() - began

    def tick(show: Callable[[str], Any], every: float) -> None:
        while not over.wait(every):
            show(f"{what}: {seconds():.0f} s")

    with contextlib.ExitStack() as stack:
        if console.is_terminal:
            status = stack.enter_context(console.status(what))
            teller = threading.Thread(target=tick, args=(status.update, 1.0), daemon=True)
        else:
            console.print(what)
            teller = threading.Thread(target=tick, args=(console.print, 2 * QUIET), daemon=True)
        teller.start()
        try:
            yield seconds
        finally:
            over.set()
            teller.join()


def each(console: Console, what: str, items: Iterable[Any]) -> Iterator[Any]:
    """Yield `items`, and show how many of them are done: a bar on a terminal, else plain lines."""
    items = list(items)
    if console.is_terminal:
        yield from track(items, description=what, console=console, transient=True)
        return
    said = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - said > QUIET:
            said = time.monotonic()
            print(f"{what}: {done}/{len(items)}", file=console.file, flush=True)
        yield item
