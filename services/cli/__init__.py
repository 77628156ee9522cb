"""The command ``feedbackloop``: everything that can be done to the loop, from a terminal."""
