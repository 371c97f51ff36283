"""policyroute: one routing policy for LLM requests that is checked, tested, replayed and served.

The package imports nothing by itself, so that `policyroute check` starts without duckdb or pyarrow.
"""

__version__ = "0.1.0"
