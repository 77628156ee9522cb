"""Turn what ought to be served into what is served.

In: release documents, and what a policy server has loaded.
Out: routes, and proven adapters behind them.
Edges: memory, vllm.
"""
