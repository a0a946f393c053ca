"""A pool of replicas as a fluid, second by second: a week of a thousand requests a second in some 50 ms.

For comparing scaling policies, where what matters is how much work waits for how many replicas. Single requests,
routing, KV limits and prefix caches are in `sim/serving`.
"""
