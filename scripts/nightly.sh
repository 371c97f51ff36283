#!/usr/bin/env bash
# Clients that are too large or change too often for CI, against the gateway: npm's `openai` and `ai`, and with --aider also aider (550 MB).
#
#     scripts/nightly.sh [--aider]
#
# Takes node, npm and the python of PYTHON (.venv/bin/python), which has the extras `dev` and `convert`. The newest clients are
# installed in a folder that is deleted at the end. Ends with an error where a client saw anything else than it should.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-.venv/bin/python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
command -v npm >/dev/null || { echo "nightly: npm is not installed" >&2; exit 2; }

npm install --prefix "$work" --no-audit --no-fund --silent openai ai @ai-sdk/openai-compatible
npm ls --prefix "$work" --depth 0
cp tests/nightly/*.mjs "$work"
case "${1:-}" in
    --aider)
        "$python" -m venv "$work/aider"
        "$work/aider/bin/python" -m pip install -qq aider-chat
        "$work/aider/bin/python" -m pip show aider-chat | sed -n 1,2p
        ;;
    "") ;;
    *) echo "usage: scripts/nightly.sh [--aider]" >&2; exit 2 ;;
esac

"$python" -m tests.nightly.run "$work"
echo "nightly: all clients saw what they should"
