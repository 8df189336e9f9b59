"""Transformer: train, evaluate and use encoder-decoder translation models."""

__version__ = "0.1.0"
