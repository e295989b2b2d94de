"""Recorded runs as tables of SQL: what the Parquet files themselves do not say, and views over them."""
