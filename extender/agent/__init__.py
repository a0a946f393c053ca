"""The node agent: reads the node's GPUs and publishes them, with a heartbeat, for the extender.

Not here yet: creating and destroying MIG instances (`layout` says which, in which order; nothing carries it out), MPS
daemons and limits, and the kubelet's device plugin.
"""
