"""Policies' own tests, run through every reading."""
