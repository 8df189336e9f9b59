"""Tokenizers: one module a kind."""
