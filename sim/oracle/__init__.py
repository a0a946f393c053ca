"""What the best schedule of replicas would cost if the whole load were known: bounds from below and from above."""
