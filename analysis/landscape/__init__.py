"""The loss around a solution: curvature, gradients, sharpness, paths and planes.

A plain library on any `nn.Module` with its data; it knows nothing of sweeps. The caller's module is never changed:
everything works on a copy. Torch is loaded with the modules of this package.
"""
