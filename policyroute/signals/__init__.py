"""From a live request body or a trace row to signal values: bytes are scanned and tokens counted here, and nowhere else."""
