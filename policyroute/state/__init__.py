"""What earlier requests leave behind: one pure transition, and the stores that keep what it says between requests."""
