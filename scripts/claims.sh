#!/usr/bin/env bash
# Run all or the named experiments of docs/claims.md, store their results under docs/claims/ and rebuild the tables of
# the page. Started again after a stop, it resumes. All experiments take about five hours on two cores.
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
