"""The run folder: its schema, the writer (recording side) and the reader (paper side)."""
