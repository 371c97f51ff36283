"""What a trace can and cannot carry."""
