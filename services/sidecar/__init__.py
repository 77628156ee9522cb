"""In front of vLLM, one per pod: bytes through, every completion and vote kept."""
