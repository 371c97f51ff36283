"""What a request costs: prices by model and date, exact arithmetic in picodollars, and the same arithmetic as SQL."""
