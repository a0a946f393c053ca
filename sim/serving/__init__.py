"""Engines as a simulation sees them: iteration times, KV cache, continuous batching, sessions.

`reference.py` is the plain one, iteration by iteration; `compiled.py` jumps over runs of equal iterations. Time inside
both is whole picoseconds, so that a closed form and a sum agree to the last bit, and the twins agree exactly.
"""
