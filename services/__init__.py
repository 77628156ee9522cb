"""The processes: they read settings, build edges, run, count and log."""
