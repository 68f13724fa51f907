"""Kubernetes as a source: every kind of a cluster listed and watched, and what navarch writes back there.

Does: lists and watches kinds by the official client, each in a thread of its own; follows remote clusters' Secrets;
holds the Lease, and writes status and root certificates while it does.
In: an API server (kubeconfig, or the Pod's own account), a catalog of kinds, a scanner of its answers, statuses.
Out: events of `sources.base` with objects as bytes, diagnostics on what can't be read, figures for each kind.
Never: reads more of an object than its names and version, calls the core, lets one kind or cluster hold up another.
"""
