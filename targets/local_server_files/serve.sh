#!/bin/sh
# Starts the prediction server; the first start makes an environment beside this file.
set -eu
here=$$(cd "$$(dirname "$$0")" && pwd)
if [ ! -x "$$here/.venv/bin/pipcook-deploy" ]; then
  "$${PYTHON:-python3}" -m venv "$$here/.venv"
  "$$here/.venv/bin/pip" install --quiet --requirement "$$here/requirements.txt"
fi
exec "$$here/.venv/bin/pipcook-deploy" serve "$$here/bundle" --host $host --port "$${PORT:-$port}" "$$@"
