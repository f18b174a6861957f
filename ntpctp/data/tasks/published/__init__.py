"""Published data sets, read from their published files."""
