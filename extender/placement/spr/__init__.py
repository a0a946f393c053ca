"""Scarcity-priced rollout (SPR): what a node's free CPU, memory and GPUs are worth to the pods that are expected.

    score(pod, node, GPU) = [V(s') - V(s)] + sum_k price_k [a_k(s') - a_k(s)],     s, s': node before, after

V(s)     milli-GPU that 16 sampled streams of 48 expected pods still fill on the node, on average (`rollout.py`)
a_k(s)   copies of pod type k that the node holds; A_k = sum over nodes
price_k  p_k w_k max(0, free / (w_k (A_k + 1)) - 1): the free work that type k cannot use, relative to what it can
         (p_k: the type's share of the pods, w_k: its GPU request), and for types of several GPUs
         w_k P(the pods still to come need all A_k hosts) besides, which keeps hosts for rare large pods

Both terms are milli-GPU and have weight 1; nothing is rounded; no pod is refused that fits somewhere. The mix is learnt
from what arrives; nothing is known beforehand.

The packing lab and the extender decide by this code. The lab has one loop of its own over arrivals that are all known;
the extender's are `choice.py` for GPUs, `mirror.py` and `desk.py` for a fleet and its pods.
"""
