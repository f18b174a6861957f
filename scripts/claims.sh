#!/usr/bin/env bash
# Run the experiments of docs/claims.md, all or those that are named, keep their results under docs/claims/ and write
# the page's tables anew. Every one carries on after a stop. All of them take about five hours on two cores.
#   scripts/claims.sh
#   scripts/claims.sh 1-addition map
set -euo pipefail
cd "$(dirname "$0")/.."
names=("$@")
if [ ${#names[@]} -eq 0 ]; then
  for recipe in recipes/claims/*.yaml; do names+=("$(basename "$recipe" .yaml)"); done
fi
for name in "${names[@]}"; do
  ntpctp run "recipes/claims/$name.yaml"
  python scripts/claims.py keep "$name"
done
python scripts/claims.py tables
