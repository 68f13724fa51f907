"""What every worker thread needs, whatever it works on.

Does: starts, restarts and joins threads; hands work between them; tells the time.
In: callables to run, keys and values to hand over.
Out: a supervisor, a bounded mailbox, retry delays, a clock.
Never: knows what a mesh is, reads files, opens sockets.
"""
