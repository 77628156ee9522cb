"""Turn a candidate into scores, and scores into a verdict.

In: a candidate adapter, the incumbent, and suites.
Out: pass, fail or insufficient, with the numbers behind it.
Edges: transformers, filesystem.
"""
