"""Recurrent networks: cells, and layers of them over padded batches of sequences.

model = Recurrent("gru", 128, num_layers=2, bidirectional=True)
variables = model.init(key, inputs)
outputs, endpoints = model.apply(variables, inputs, lengths)
"""

from research.models.rnn.convlstm import ConvLSTM
from research.models.rnn.padded import check_lengths
from research.models.rnn.recurrent import Recurrent

__all__ = ["ConvLSTM", "Recurrent", "check_lengths"]
