"""The archiver: the log's entries into files, each once."""
