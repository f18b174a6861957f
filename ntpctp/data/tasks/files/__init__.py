"""Tasks that read the user's own data: JSON Lines, CSV, Parquet, data sets, Python functions."""
