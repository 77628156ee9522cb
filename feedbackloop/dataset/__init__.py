"""Turn labelled completions into rows that a trainer reads.

In: labelled completions of one window.
Out: a snapshot: rows, held-out rows, manifest, content hash.
Edges: filesystem, duckdb.
"""
