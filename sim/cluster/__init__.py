"""Stand-ins for what Slicewise does not own: KEDA, the HPA, kube-scheduler, nodes and the metric pipeline."""
