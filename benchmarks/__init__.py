"""Goliath measured against the standard library's pools: ``python -m benchmarks``."""
