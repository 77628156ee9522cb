"""Settings to edges: the only place that chooses between implementations.

Imports of edges are local to their function, so that a sidecar needs no torch and a laptop no
Kafka client.
"""
