"""Simulated users and a small model: a client of the loop that shares no code with it."""
