"""One file a policy: what it scores and why. `sim.packing.table` has them by name.

Those that the extender has too are `extender.placement.ranking`: dot_prod, gpu_packing and gpu_clustering.
"""
