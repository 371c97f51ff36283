"""Parts of `benchmarks/gateway.py`: the mock upstream and load client in C, the contestants, the cells, the tables."""
