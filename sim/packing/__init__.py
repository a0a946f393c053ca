"""Packing lab: how much of a GPU cluster a placement policy fills before pods are refused.

The experiment is the one of Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation
Gradient Descent", USENIX ATC 2023, as hkust-adsl/kubernetes-scheduler-simulator runs it (commit 8f3d641).
"""
