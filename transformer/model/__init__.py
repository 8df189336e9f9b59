"""Tensors in, tensors out: the Transformer and its parts."""
