"""Decide what each completion's signals say about it.

In: entries of the event log.
Out: at most one label per completion.
Edges: none.
"""
