"""The kube-scheduler extender and its node agent: which GPU, which slice, and why."""
