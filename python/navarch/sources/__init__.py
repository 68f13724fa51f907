"""Where the mesh is read from: each platform is one source of events.

Does: reads a platform, watches it, and tells what is there and what changes, in the terms of `base`.
In: a place to read (directories, an API server), a catalog of the kinds to look for, a sink.
Out: `records.SourceEvent`s, and diagnostics on what can't be read.
Never: checks or interprets an object beyond its kind and name, knows another platform, calls the core.
"""
