"""Classifiers, live: a signal whose value a model is asked for, within a time, and never at the price of the decision.

`question` says what a model is shown and how, `reply` what its answer means, `memory` what is remembered: all without sockets and
clocks. `fetching` makes the call, `classifiers` brings them together.
"""

from policyroute.proxy.classifier.classifiers import Classifiers

__all__ = ["Classifiers"]
