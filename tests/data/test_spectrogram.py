"""Log-mel spectra against SciPy's Fourier transform and triangles by hand; wav files."""

import io
import math
import wave

import numpy as np
import pytest
from scipy.signal import ShortTimeFFT, get_window

from research.config import UserError
from research.data.spectrogram import BANDS, log_mel, read_wav


def wav(samples, rate=8000, channels=1, width=2):
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(width)
        out.setframerate(rate)
        out.writeframes(np.asarray(samples, f"<i{width}").tobytes())
    return file.getvalue()


def mel(hertz):
    return 2595 * math.log10(1 + hertz / 700)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_spectra(rate):
    samples = np.random.default_rng(0).normal(size=rate // 3).astype(np.float32)
    window, hop = rate // 40, rate // 100
    points = {8000: 512, 16000: 1024}[rate]
    reference = ShortTimeFFT(get_window("hann", window), hop, rate, mfft=points)
    # Its frame 0 is centred on sample 0: ours begin there.
    first, count = 0, 1 + (len(samples) - window) // hop
    power = []
    for k in range(count):
        piece = np.zeros(points)
        piece[:window] = samples[first + k * hop :][:window] * reference.win
        power.append(np.abs(np.fft.rfft(piece)) ** 2)
    frequencies = reference.f
    low, high = mel(20), mel(rate / 2)
    edges = [low + (high - low) * i / (BANDS + 1) for i in range(BANDS + 2)]
    edges = [700 * (10 ** (m / 2595) - 1) for m in edges]
    expected = np.zeros((count, BANDS))
    for band, (a, b, c) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        for i, f in enumerate(frequencies):
            weight = (f - a) / (b - a) if a < f <= b else (c - f) / (c - b) if b < f < c else 0
            expected[:, band] += weight * np.array([row[i] for row in power])
    found = log_mel(samples, rate)
    assert found.shape == (count, BANDS) and found.dtype == np.float32
    np.testing.assert_allclose(found, np.log(expected), atol=1e-4)


def test_a_tone_is_heard_in_its_band():
    for hertz in (200, 1000, 3000):
        times = np.arange(4000) / 8000
        spectrum = log_mel(np.sin(2 * np.pi * hertz * times).astype(np.float32), 8000)
        centres = np.linspace(mel(20), mel(4000), BANDS + 2)[1:-1]
        assert set(spectrum.argmax(1)) == {np.abs(centres - mel(hertz)).argmin()}
    assert log_mel(np.zeros(10, np.float32), 8000).shape == (1, BANDS)


def test_wav_files():
    samples = np.array([0, 1, -(2**15), 2**14])
    np.testing.assert_array_equal(
        read_wav("x.wav", wav(samples), 8000), np.float32([0, 2**-15, -1, 0.5])
    )
    for data, message in (
        (wav(samples, rate=16000), r"x.wav: found 16000 Hz, expected 8000; .*ffmpeg"),
        (wav(samples, channels=2), r"x.wav: found 2 channels, expected 1"),
        (wav(samples, width=4), r"x.wav: found 32 bits, expected 16"),
        (wav([]), r"x.wav: empty"),
        (wav(samples)[:-1], r"x.wav: cut short: found 7 bytes of samples, expected 8"),
        (wav(samples)[:-2], r"x.wav: cut short: found 6 bytes of samples, expected 8"),
        (b"RIFF", r"x.wav: unreadable wav file \(damaged\)"),
        (wav(samples).replace(b"fmt \x10", b"fmt \xff"), r"x.wav: unreadable wav file"),
        (b"not a sound at all", r"x.wav: unreadable wav file"),
    ):
        with pytest.raises(UserError, match=message):
            read_wav("x.wav", data, 8000)
