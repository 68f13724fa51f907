"""Key sets of token issuers as a source: fetched from the addresses that RequestAuthentications name.

Does: fetches each wanted set, after asking an OpenID provider where it is, refreshes it, tries again with back-off.
In: the addresses that the core wants (a polled value), HTTP and HTTPS.
Out: events of `sources.base`, one object an address; diagnostics on addresses that give nothing.
Never: holds a push back, forgets a set because its address fails, lets one issuer keep another waiting.
"""
