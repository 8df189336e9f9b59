"""Searches over a model that steps, and the translator that feeds them lines."""
