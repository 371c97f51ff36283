"""Readings of a policy: `live` (a Python function) and `sql` (a DuckDB query). They don't know each other."""
