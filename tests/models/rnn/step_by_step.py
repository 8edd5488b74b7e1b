"""The cells' equations in NumPy: one sequence, one step at a time, one gate at a time."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def norm(x, scale=1.0, bias=0.0):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * scale + bias


class Layer:
    """The parameters of a layer, by what they are of."""

    def __init__(self, params, hidden, layer_norm):
        self.p = {
            k: np.asarray(v, np.float64) for k, v in params.items() if not isinstance(v, dict)
        }
        self.hidden, self.layer_norm = hidden, layer_norm

    def columns(self, gate, count=1):
        return slice(gate * self.hidden, (gate + count) * self.hidden)

    def project(self, side, a, columns):
        """W x + b or U h + b, of the columns of some gates."""
        y = a @ self.p[f"{side}_kernel"][:, columns]
        if self.layer_norm:
            y = norm(y, self.p[f"{side}_scale"][columns])
        return y + self.p[f"{side}_bias"][columns]

    def both(self, x, h, gates):
        """W x + U h + b, split into gates."""
        columns = self.columns(0, gates)
        y = self.project("input", x, columns) + self.project("recurrent", h, columns)
        return np.split(y, gates)


def rnn(activation):
    def step(layer, x, h):
        return (activation(layer.both(x, h, 1)[0]),)

    return step


def lstm(layer, x, h, c):
    i, f, g, o = layer.both(x, h, 4)
    p = layer.p
    if "peephole_i" in p:
        i, f = i + p["peephole_i"] * c, f + p["peephole_f"] * c
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    if "peephole_o" in p:
        o = o + p["peephole_o"] * c
    seen = norm(c, p["cell_scale"], p["cell_bias"]) if layer.layer_norm else c
    return sigmoid(o) * np.tanh(seen), c


def gru_after(layer, x, h):
    everything = layer.columns(0, 3)
    x_r, x_z, x_n = np.split(layer.project("input", x, everything), 3)
    h_r, h_z, h_n = np.split(layer.project("recurrent", h, everything), 3)
    r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
    return ((1 - z) * np.tanh(x_n + r * h_n) + z * h,)


def gru_before(layer, x, h):
    x_r, x_z, x_n = np.split(layer.project("input", x, layer.columns(0, 3)), 3)
    h_r, h_z = np.split(layer.project("recurrent", h, layer.columns(0, 2)), 2)
    r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
    n = np.tanh(x_n + layer.project("recurrent", r * h, layer.columns(2)))
    return ((1 - z) * n + z * h,)


def min_gru(layer, x, h):
    z, n = np.split(x @ layer.p["kernel"] + layer.p["bias"], 2)
    return ((1 - sigmoid(z)) * h + sigmoid(z) * n,)


def min_lstm(layer, x, h):
    i, f, n = np.split(x @ layer.p["kernel"] + layer.p["bias"], 3)
    i, f = sigmoid(i), sigmoid(f)
    return ((f * h + i * n) / (f + i),)


STEPS = {
    "rnn": rnn(np.tanh),
    "rnn_relu": rnn(lambda x: np.maximum(x, 0)),
    "irnn": rnn(lambda x: np.maximum(x, 0)),
    "rnn_sigmoid": rnn(sigmoid),
    "lstm": lstm,
    "gru": gru_after,
    "gru_before": gru_before,
    "min_gru": min_gru,
    "min_lstm": min_lstm,
}


def run(name, params, x, hidden, *, layer_norm=False):
    """Return the outputs [T, H] of a sequence [T, D], and its last state."""
    if name == "lru":
        return lru(params, x)
    layer = Layer(params.get("input", params), hidden, layer_norm)
    state = [np.zeros(hidden)] * (2 if name == "lstm" else 1)
    outputs = []
    for x_t in np.asarray(x, np.float64):
        state = STEPS[name](layer, x_t, *state)
        outputs.append(state[0])
    return np.stack(outputs), state


def lru(params, x):
    nu, theta, gamma = (np.asarray(params[k], np.float64) for k in ("nu", "theta", "gamma"))
    eigenvalue = np.exp(-np.exp(nu) + 1j * np.exp(theta))
    real, imaginary = np.split(np.asarray(params["input"]["kernel"], np.float64), 2, axis=1)
    b = real + 1j * imaginary
    real, imaginary = np.split(np.asarray(params["output"]["kernel"], np.float64), 2, axis=0)
    c = real + 1j * imaginary
    state, outputs = np.zeros(len(nu)), []
    for u in np.asarray(x, np.float64):
        state = eigenvalue * state + np.exp(gamma) * (u @ b)
        y = (state @ c).real + u @ params["skip"]["kernel"]
        gelu = y / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
        value, gate = np.split(gelu @ params["glu"]["kernel"], 2)
        outputs.append(value * sigmoid(gate))
    return np.stack(outputs), (state,)
