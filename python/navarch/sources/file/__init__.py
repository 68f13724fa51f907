"""A directory of YAML and JSON as a source: the embedded default, and what tests and demos use.

Does: reads files of Kubernetes objects, splits them into documents, watches them, tells only what changed.
In: directories and files; a catalog of kinds; the events of the operating system.
Out: events of `sources.base`, with file and line; diagnostics on what can't be parsed or is given twice.
Never: writes a file, follows hidden entries, forgets an object because its file is broken for a moment.
"""
