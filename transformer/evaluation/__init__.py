"""Strings in, numbers out: metrics with signatures, intervals, significance, reports."""
