"""navarch: the control plane of a service mesh, with Istio's API and a Rust core.

Does: names the package; the public face is `navarch.cli` and `navarch.app`.
In: nothing.
Out: `__version__`.
Never: imports anything of navarch (the rooms below would see it as an arrow upwards).
"""

__version__ = "0.1.0"
