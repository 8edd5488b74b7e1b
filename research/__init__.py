"""Ablate: controlled experiments on convolutional and recurrent networks in JAX."""
