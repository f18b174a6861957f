"""Tasks that read the user's own data: JSON lines, CSV, Parquet, data sets, Python functions."""
