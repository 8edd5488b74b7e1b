"""The next frame of a video, on sequences made here: digits that move (Srivastava et al. 2015)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from sklearn.datasets import load_digits

from research.models.rnn import ConvLSTM

SIDE, FRAMES = 16, 6


def moving(images, seed):
    """Videos [N, FRAMES, SIDE, SIDE, 1] of digits [N, 8, 8], each bouncing between four walls."""
    rng = np.random.default_rng(seed)
    videos = np.zeros((len(images), FRAMES, SIDE, SIDE, 1), np.float32)
    for video, image in zip(videos, images, strict=True):
        place = rng.integers(0, SIDE - 8, 2, endpoint=True)
        speed = rng.choice([-1, 1], 2)
        for frame in video:
            y, x = place
            frame[y : y + 8, x : x + 8, 0] = image / 16
            speed = np.where((place + speed < 0) | (place + speed > SIDE - 8), -speed, speed)
            place = place + speed
    return videos


class Predictor(nn.Module):
    """The next of each frame [B, T, height, width, 1], as the last one and what changes."""

    @nn.compact
    def __call__(self, frames):
        features, _ = ConvLSTM(4)(frames)
        return frames + nn.Dense(1, kernel_init=nn.initializers.zeros)(features)


def test_a_convlstm_sees_where_digits_move():
    """Of digits that it was not trained on, it makes less than half the error of persistence: the
    last frame again.
    """
    images = load_digits().images
    train, held_out = moving(images[:600], 0), moving(images[1500:1540], 1)
    model, optimizer = Predictor(), optax.adam(0.02)

    def error(params, videos):
        return jnp.square(model.apply(params, videos[:, :-1]) - videos[:, 1:])[:, 1:].mean()

    @jax.jit
    def step(params, state, videos):
        gradient = jax.grad(error)(params, videos)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state

    params = jax.jit(model.init)(jax.random.key(0), train[:1, :-1])
    state = optimizer.init(params)
    # From the second on: one frame does not say where it goes.
    persistence = np.square(held_out[:, 1:-1] - held_out[:, 2:]).mean()
    error = jax.jit(error)
    np.testing.assert_allclose(error(params, held_out), persistence, rtol=1e-5)
    for first in range(0, 600, 10):
        params, state = step(params, state, train[first : first + 10])
    assert error(params, held_out) < 0.5 * persistence
