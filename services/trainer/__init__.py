"""One step of a run, as a process of its own: it may use all memory, hang or be killed."""
