"""The KEDA external scaler: how many replicas, and why."""
