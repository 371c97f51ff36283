"""The files that `policyroute init` writes."""
