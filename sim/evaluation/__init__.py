"""Scaling policies compared on recorded loads: same arrivals, same cold starts, and what was possible at all."""
