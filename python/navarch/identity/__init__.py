"""The edge of the authenticated port: the authority's files, who is revoked, and who asks the platform about callers.

In: settings, files, a platform's reviewer.
Out: calls of the core.
Never: a decision about who is let in, key material in a log.
"""
