"""Turn a verdict into a decision about what to serve.

In: verdicts, and live outcomes by release.
Out: the release document of an alias.
Edges: memory, sql, filesystem.
"""
