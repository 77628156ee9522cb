"""Keep events, in order: in a log until everyone has read them, in an archive for good.

In: events, and raw records on their way to becoming events.
Out: the same, from any offset, after any crash.
Edges: memory, segments, kafka, parquet, duckdb, filesystem, obstore, tmpfs.
"""
