"""Series to be forecast."""

import numpy as np

from research.config import UserError
from research.data import raw
from research.data.arrays import Arrays, check_finite, standardised
from research.data.dataset import Dataset, Options, few

PAST = 96  # steps, where no length is asked for
MONTH = 30 * 24  # hours
MONTHS = (12, 4, 4)  # of train, validation, test


def ett(file: str, options: Options) -> Dataset:
    """Electricity Transformer Temperature: six loads and the oil's temperature, for two years.

    The first 12 months to train on, then 4 and 4, as in H. Zhou et al., Informer, AAAI 2021, who
    published it; CC BY-ND 4.0. `ett/ETTh1.csv` and the like of github.com/zhouhaoyi/ETDataset:
    a line of names, then a date and seven numbers each hour (h) or quarter of an hour (m).

    Args:
        file: `h1`, `h2`, `m1` or `m2`.
        options: `length` is the past that a forecast sees, `horizon` how far it goes.
    """
    path = raw.find(options.data_dir, "ett", f"ETT{file}.csv")
    series = raw.numbers(path, [row[1:] for row in raw.read_table(path, ",", header=1)])
    check_finite(str(path), series)
    month = MONTH * (4 if file.startswith("m") else 1)
    return forecasts(f"ett/{file}", series, [n * month for n in MONTHS], options)


def forecasts(name: str, series: np.ndarray, sizes: list[int], options: Options) -> Dataset:
    """Return every window of a series: `inputs` float32[L, D], `length`, `targets` float32[H, D].

    What is forecast in validation and test begins after the split before; what is seen may reach
    back into it. Standardised by channel over the training steps.

    Args:
        name: of the set.
        series: float32[T, D].
        sizes: steps of train, validation and test; what comes after is left out.
        options: L is `length`, H is `horizon`.

    Raises:
        UserError: a split that has no window.
    """
    past, horizon = options.length or PAST, options.horizon
    ends = np.cumsum(sizes)
    if len(series) < ends[-1]:
        raise UserError(f"data.name: {name} has {len(series)} steps, expected {ends[-1]} or more")
    parts = {"train": [series[: ends[0]]]}
    for part, begin, end in zip(("validation", "test"), ends, ends[1:], strict=False):
        parts[part] = [series[max(0, begin - past) : end]]
    if (shortest := min(len(values) for (values,) in parts.values())) < past + horizon:
        raise UserError(
            f"data.length: found {past}, and data.horizon={horizon}, with data.name={name}, of "
            f"which a split has {shortest} steps; expected fewer"
        )
    parts, scale = standardised(name, parts)
    splits = {}
    for part, (values,) in parts.items():
        windows = np.lib.stride_tricks.sliding_window_view(values, past + horizon, axis=0)
        windows = windows.transpose(0, 2, 1)  # a view: [N, L + H, D]
        columns = {"inputs": windows[:, :past], "targets": windows[:, past:]}
        columns["length"] = np.full(len(windows), past, np.int32)
        splits[part] = Arrays(name, columns)
    splits["train"] = few(splits["train"], options.train_size)
    return Dataset(name, **splits, task="forecasting", scale=scale)
