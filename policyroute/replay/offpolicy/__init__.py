"""What an outcome would be under a policy, from logged propensities."""
