"""Benchmarks: `run()` of each module returns rows of (name, value, unit); `python -m bench` prints one table."""
