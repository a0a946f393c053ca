"""Published policies that give each node a whole number by a formula: whole GPUs and MPS shares, for comparison.

One file a policy, with formula and source. The formulas are compiled, and the packing lab places by the same ones.
"""
