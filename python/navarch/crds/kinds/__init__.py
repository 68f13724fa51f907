"""One module for each kind of the mesh's API; `registry` is the only one that lists them.

Does: defines a kind's spec as Pydantic models, and the checks that Istio's admission makes on it.
In: the spec of one object, and its metadata.
Out: `SPEC`, the model, and `check`, which adds a fault for each rule that the spec breaks.
Never: imports another kind; what two kinds share lives in `crds.schema`.
"""
