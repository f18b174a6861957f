"""Published data sets, read from the files in which they are published."""
