"""Trained models in forms that others run."""
