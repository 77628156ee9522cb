"""The groups that the settings are made of, one file for each part of the loop."""
