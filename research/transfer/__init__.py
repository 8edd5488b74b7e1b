"""Weights that others published: how files of them are read, and what is called what in them."""

from research.transfer.files import load_weights
from research.transfer.initial import initial_variables
from research.transfer.torch_layout import from_torch, to_torch

__all__ = ["from_torch", "initial_variables", "load_weights", "to_torch"]
