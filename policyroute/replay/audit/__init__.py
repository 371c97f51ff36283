"""Audits by hand: a sample to score, and what the scores show."""
