"""Turn an HTTP exchange, and what people say about it, into events.

In: bytes of requests, replies and feedback calls.
Out: completions, signals, implied retries.
Edges: presidio.
"""
