"""Benchmarks: this project beside its peers, on the same machine, data and weights, in one run."""
