"""Results as text: one function per output format, from values to strings. Nothing here computes a figure."""
