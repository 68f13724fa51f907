"""VirtualService (networking.istio.io): how requests to hosts are routed.

Does: defines the spec (`spec`) and the checks on it (`checks`); two modules, because it is the largest kind.
In: the spec of one object, and its metadata.
Out: `SPEC` and `check`, as every kind has them.
Never: looks at another object: whether hosts and delegates exist is for translate to find.
"""

from navarch.crds.kinds.virtual_service import checks, spec

SPEC = spec.VirtualService
check = checks.check
