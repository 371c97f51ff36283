"""Several settings of a policy over one trace: side by side, and the best of them."""
