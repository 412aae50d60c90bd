"""Tensors divided among edge nodes."""
