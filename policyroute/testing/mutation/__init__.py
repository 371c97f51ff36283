"""Mutants of a policy: small changes of what it decides, that its tests should notice."""
