"""History under a policy: traces are read, signals observed, decisions made in DuckDB, and money counted.

Rule of this floor: figures are sums of whole numbers over parts of a trace, merged without order, so that splitting the
trace changes no digit.
"""
