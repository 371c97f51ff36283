"""What can be said of a policy without a trace: findings, proofs with a request that shows them, differences of two policies."""
