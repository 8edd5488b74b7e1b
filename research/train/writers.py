"""What a run writes of itself while it trains: metrics.jsonl, TensorBoard events, W&B."""

import json
import math
from pathlib import Path

from research.distributed.cluster import from_main, is_main
from research.files import read_rows, write


class Writers:
    """The metric writers of one run, opened at the step that it starts from.

    Rows after that step belong to a life that was cut off, and are dropped. Of several processes
    only the first writes; the others keep the rows.
    """

    def __init__(self, directory: Path, start: int, *, tensorboard: bool, wandb: dict | None):
        """Open the writers in `directory`; `wandb` holds the arguments of `wandb.init`."""
        path = directory / "metrics.jsonl"
        self.rows = from_main(lambda: [row for row in read_rows(path) if row["step"] <= start])
        self._file = self._events = self._wandb = None
        if not is_main():
            return
        write(path, "".join(json.dumps(row) + "\n" for row in self.rows))
        self._file = path.open("a", buffering=1)
        if tensorboard:
            from tensorboardX import SummaryWriter

            self._events = SummaryWriter(str(directory / "tensorboard"), purge_step=start + 1)
        if wandb is not None:
            import wandb as library

            self._wandb = library.init(
                dir=str(directory), resume="allow", reinit="create_new", **wandb
            )

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Append one row; a value that is not finite is written as null."""
        finite = {k: v if math.isfinite(v) else None for k, v in metrics.items()}
        row = {"step": step} | finite
        self.rows.append(row)
        if self._file:
            self._file.write(json.dumps(row) + "\n")
        if self._events:
            for name, value in finite.items():
                if value is not None:  # tensorboardX warns of each that is not finite
                    self._events.add_scalar(name, value, step)
        if self._wandb:
            self._wandb.log(metrics, step=step)

    def close(self) -> None:
        """Flush and close everything."""
        if self._file:
            self._file.close()
        if self._events:
            self._events.close()
        if self._wandb:
            self._wandb.finish()
