"""From the events of all sources to batches that the core applies.

Does: merges sources, checks objects, waits until all sources have told all, cuts changes into batches.
In: events and diagnostics of `sources.base`.
Out: batches of `records.Change` to the core; what is wrong now, as diagnostics.
Never: looks inside a record, drops a change, publishes half of a first list.
"""
