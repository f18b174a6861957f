#!/usr/bin/env bash
# One task per run. A second array, which waits for the first, runs the second stage:
#
#   n=$(ntpctp list EXPERIMENT --stage pretrain | wc -l)
#   first=$(sbatch --parsable --array=1-$n scripts/slurm_array.sh EXPERIMENT pretrain)
#   n=$(ntpctp list EXPERIMENT --stage finetune | wc -l)
#   sbatch --array=1-$n --dependency=afterok:$first scripts/slurm_array.sh EXPERIMENT finetune
#
# Without stages omit the second argument. Afterwards `ntpctp run EXPERIMENT` measures and compares.
# Submit from the root of the repository. A requeued task resumes.
#SBATCH --job-name=ntpctp
#SBATCH --output=slurm-%A-%a.log
#SBATCH --nodes=1
#SBATCH --gpus=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=32G
#SBATCH --time=24:00:00
#SBATCH --requeue
set -euo pipefail
experiment=${1:?usage: sbatch --array=1-N scripts/slurm_array.sh EXPERIMENT [STAGE]}
stage=${2:-}
run=$(ntpctp list "$experiment" ${stage:+--stage "$stage"} | sed -n "${SLURM_ARRAY_TASK_ID:?}p")
if [ -z "$run" ]; then
    echo "no run number $SLURM_ARRAY_TASK_ID in $experiment $stage" >&2
    exit 2
fi
# shellcheck disable=SC2086
exec accelerate launch --num_processes 1 recipes/train.py "$experiment" $run
