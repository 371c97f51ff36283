"""Wire formats: what the bytes of each API's requests, answers and streams mean. Values in, values out; no sockets, no clocks."""
