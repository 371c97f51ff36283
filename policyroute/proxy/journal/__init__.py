"""The journal: each served request as a canonical trace row, in files that `policyroute simulate FOLDER` reads with no importer.

Workers queue rows and write them as JSON lines (`writer`); a process of its own turns closed files into Parquet (`compact`), so
that no worker imports what that takes. `rows` says what a row holds.
"""

from policyroute.proxy.journal.writer import Journal

__all__ = ["Journal"]
