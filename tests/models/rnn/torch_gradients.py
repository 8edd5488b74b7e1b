"""What torch computes of recurrent networks: `python …/torch_gradients.py` writes it.

For each cell, two layers in both directions over packed sequences: the outputs, and the gradients
of a loss by every tensor and by the input. It was written with torch 2.13, on a CPU in float64.
"""

import zlib
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix(".npz")
CELLS = ("rnn", "rnn_relu", "lstm", "gru")
LENGTHS = np.array([5, 3, 1])
FEATURES, HIDDEN, LAYERS = 3, 4, 2


def draw(name, shape):
    """Numbers that follow from a name."""
    return np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)


INPUTS = draw("inputs", (3, 5, FEATURES))


def weight(name):
    """What each number of the outputs and of the final state counts in the loss, their sum."""
    shape = (3, 5, 2 * HIDDEN) if name == "outputs" else (2 * LAYERS, 3, HIDDEN)
    return draw(f"of {name}", shape)


def main():
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    record = {}
    for cell in CELLS:
        kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}.get(cell, torch.nn.RNN)
        options = {"nonlinearity": "relu"} if cell == "rnn_relu" else {}
        model = kind(FEATURES, HIDDEN, LAYERS, batch_first=True, bidirectional=True, **options)
        model.double()
        for name, tensor in model.state_dict().items():
            tensor.copy_(torch.tensor(draw(name, tuple(tensor.shape)) / np.sqrt(HIDDEN)))
        inputs = torch.tensor(INPUTS, requires_grad=True)
        packed, state = model(pack_padded_sequence(inputs, LENGTHS, batch_first=True))
        outputs, _ = pad_packed_sequence(packed, batch_first=True)
        state = state if isinstance(state, tuple) else (state,)
        parts = {"outputs": outputs, "h": state[0], "c": state[-1]}
        sum((part * torch.tensor(weight(name))).sum() for name, part in parts.items()).backward()
        record[f"{cell}/outputs"] = outputs.detach().numpy()
        record[f"{cell}/inputs"] = inputs.grad.numpy()
        for name, parameter in model.named_parameters():
            record[f"{cell}/{name}"] = parameter.grad.numpy()
    np.savez_compressed(FILE, **{k: v.astype(np.float32) for k, v in record.items()})


if __name__ == "__main__":
    main()
