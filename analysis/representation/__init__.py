"""What a network's layers say of its inputs: ranks, sparsity, probes, neural collapse, similarity.

A plain library on any `nn.Module` with its data; it knows nothing of sweeps. The caller's module is never changed:
everything works on a copy. Torch is loaded with the modules of this package.
"""
