"""Weights that others published: how files of them are read, and what is called what in them."""

from research.transfer.files import load_weights
from research.transfer.initial import initial_variables
from research.transfer.torch_layout import from_torch, to_torch
from research.transfer.torch_rnn import rnn_from_torch, rnn_to_torch

__all__ = [
    "from_torch",
    "initial_variables",
    "load_weights",
    "rnn_from_torch",
    "rnn_to_torch",
    "to_torch",
]
