"""Turn a snapshot into a candidate adapter.

In: a snapshot and a recipe.
Out: an adapter folder of two files, and a report.
Edges: trl, safetensors, subprocess, sql.
"""
