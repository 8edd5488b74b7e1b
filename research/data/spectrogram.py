"""Sound as log-mel spectra: what most speech recognisers hear."""

import functools
import io
import wave

import numpy as np

from research.config import UserError

WINDOW, HOP = 0.025, 0.010  # seconds
BANDS = 40
LOWEST = 20.0  # Hz
FLOOR = 1e-10  # of the power, before the logarithm


def read_wav(where: str, data: bytes, rate: int) -> np.ndarray:
    """Return the samples of a wav file of 16 bits, mono, at `rate` Hz: float32[N] in [-1, 1).

    Raises:
        UserError: another rate, number of channels or of bits, no sample, fewer of them than its
            header says, or no wav file at all.
    """
    try:
        with wave.open(io.BytesIO(data)) as file:
            found = (file.getframerate(), file.getnchannels(), 8 * file.getsampwidth())
            count = file.getnframes()
            samples = file.readframes(count)
    except (wave.Error, EOFError, RuntimeError) as error:  # the last: a chunk beyond the file
        raise UserError(f"{where}: unreadable wav file ({str(error) or 'damaged'})") from error
    for unit, value, expected in zip(("Hz", "channels", "bits"), found, (rate, 1, 16), strict=True):
        if value != expected:
            raise UserError(
                f"{where}: found {value} {unit}, expected {expected}; convert it, for instance "
                f"with ffmpeg -i in.wav -ar {rate} -ac 1 -sample_fmt s16 out.wav"
            )
    if not count:
        raise UserError(f"{where}: empty, expected at least one sample")
    if len(samples) != 2 * count:
        raise UserError(
            f"{where}: cut short: found {len(samples)} bytes of samples, expected {2 * count}, as "
            "its header says"
        )
    return np.frombuffer(samples, "<i2").astype(np.float32) / 2**15


def log_mel(samples: np.ndarray, rate: int) -> np.ndarray:
    """Return the logarithm of the power in `BANDS` bands, one row per 10 ms: float32[T, BANDS].

    Hann windows of 25 ms, wholly inside the sound (one shorter than that has zeros behind it);
    triangular filters whose centres are evenly spaced in mel, 2595·log10(1 + f/700), from 20 Hz to
    half the rate.

    Args:
        samples: float[N].
        rate: in Hz.
    """
    window, hop = round(WINDOW * rate), round(HOP * rate)
    samples = np.pad(samples, (0, max(0, window - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    # Twice as many points as the window asks for: else some filters would lie between two of them.
    points = 2 ** int(np.ceil(np.log2(2 * window)))
    power = np.abs(np.fft.rfft(frames * hann, points)) ** 2
    # Not by BLAS, whose threads cost more than they save in products so small.
    bands = np.einsum("tf,bf->tb", power, mel_filters(rate, points))
    return np.log(np.maximum(bands, FLOOR)).astype(np.float32)


@functools.cache
def mel_filters(rate: int, points: int) -> np.ndarray:
    """Return the weight of each frequency of an FFT in each band: [BANDS, points/2 + 1]."""
    lowest, highest = (2595 * np.log10(1 + f / 700) for f in (LOWEST, rate / 2))
    edges = 700 * (10 ** (np.linspace(lowest, highest, BANDS + 2) / 2595) - 1)
    frequencies = np.arange(points // 2 + 1) * rate / points
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling))
