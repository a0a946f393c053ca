"""The node daemon: what GPUs are here, published for the extender."""
