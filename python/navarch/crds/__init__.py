"""Reads objects of every kind: from an object as its platform has it to a checked record, or to all its faults.

Does: holds the one definition of each kind (Pydantic models), checks objects as Istio does, gives canonical JSON.
In: one `records.RawObject` at a time (`registry.read`), or the body of a mesh configuration (`mesh_config.read`).
Out: a `records.Record` whose payload is what the Rust core decodes, or `errors.CrdError` with every fault.
Never: does I/O, reads a clock, looks at a second object (rules between objects belong to translate).
"""
