"""Two policies compared, as written and over a trace."""
