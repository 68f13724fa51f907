"""Puts the proxy into pods: from a pod as it was written to the pod with its sidecar, or the patch to it.

Does: decides by labels whether a pod gets a proxy, builds it from templates, rewrites probes; Istio's rules.
In: a pod, who owns it, the injection settings (`settings`), the effective ProxyConfig.
Out: the changed pod and a JSON patch, or `InjectionError` that names the annotation and the remedy.
Never: does I/O, reads a clock, changes the pod that it was given.
"""
