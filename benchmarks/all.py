"""All benchmarks, one after another, each in a process of its own; their tables together.

    python benchmarks/all.py [--smoke]

With `--smoke` small sizes and only peers that are installed quickly; exit code 1 where a ratio is below half of its claim.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NAMES = ("engine", "extraction", "replay", "language", "state", "analysis", "sweep", "gateway")


def main() -> int:
    failed = []
    for name in NAMES:
        sys.stderr.write(f"{name}\n")
        sys.stderr.flush()
        command = [sys.executable, str(Path(__file__).parent / f"{name}.py"), *sys.argv[1:]]
        found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        sys.stdout.write(found.stdout)
        sys.stdout.flush()
        if found.returncode:
            failed.append(name)
    if failed:
        sys.stderr.write(f"failed: {', '.join(failed)}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
