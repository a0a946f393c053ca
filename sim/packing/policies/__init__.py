"""One file a policy: what it scores and why. `sim.packing.table` has them by name."""
