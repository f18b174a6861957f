#!/usr/bin/env bash
# Train all runs of an experiment by `accelerate launch`, one after the other, then measure and
# compare them. Started again after a stop, it resumes.
#
#   scripts/pretrain_then_finetune.sh [EXPERIMENT [ACCELERATE_CONFIG [OUTPUT]]]
#
# By default the four-arm matrix on the CPU. On several GPUs: recipes/accelerate/ddp.yaml
set -euo pipefail
experiment=${1:-recipes/pretrain_finetune.yaml}
config=${2:-recipes/accelerate/cpu.yaml}
output=(${3:+--output "$3"})

ntpctp list "$experiment" | while read -r run; do
    # $run is a list of arguments: --stage S --arm A --seed N.
    # shellcheck disable=SC2086
    accelerate launch --config_file "$config" recipes/train.py "$experiment" $run \
        ${output[@]+"${output[@]}"} < /dev/null
done
ntpctp run "$experiment" ${output[@]+"${output[@]}"}
