"""The `.route` language: text in, a checked `Policy` or a list of diagnostics out.

Rule of this floor: it knows no request, no trace and no price, and imports nothing above it.
"""

from policyroute.language.diagnostics import PolicyError
from policyroute.language.load import check_file, check_text, load
from policyroute.language.policy import Policy

__all__ = ["Policy", "PolicyError", "check_file", "check_text", "load"]
