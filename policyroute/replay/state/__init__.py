"""State in a replay: what sticky, quotas and budgets make of a trace's decisions, by the transition that the gateway uses."""
