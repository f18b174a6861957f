"""Results for readers, made from files only: HTML report, terminal, tables, model cards."""
