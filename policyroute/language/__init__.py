"""The `.route` language: text in, a checked `Policy` or a list of diagnostics out.

Rule of this floor: it knows no request, no trace and no price, and imports nothing above it.
"""
