"""Production feedback in, a better LoRA adapter out, live, and never a worse one."""

__version__ = "0.1.0"
