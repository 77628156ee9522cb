"""Keep events, in order, until everyone who needs them has read them.

In: events, and raw records on their way to becoming events.
Out: the same, from any offset, after any crash.
Edges: memory, segments, kafka.
"""
