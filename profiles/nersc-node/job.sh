#!/bin/bash
#SBATCH --job-name=syn-node
#SBATCH --qos=regular
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --gpus-per-node=4
#SBATCH --time=06:00:00
#SBATCH --signal=B:INT@90
#SBATCH --dependency=singleton
#SBATCH --output=syn-node-%j.log
# One whole node for `snakemake --profile profiles/nersc-node`. Account and constraint come from the environment:
#   export SBATCH_ACCOUNT=mNNNN_g SBATCH_CONSTRAINT=gpu
#   sbatch profiles/nersc-node/job.sh [further arguments for snakemake]
# Submit it several times: singleton lets one of them run at a time, and each goes on where the one before ended.
set -euo pipefail

fail() { echo "profiles/nersc-node/job.sh: $1" >&2; exit 2; }
[[ ${SLURM_JOB_ID:-} ]] || fail 'runs in an allocation: sbatch -t 12:00:00 profiles/nersc-node/job.sh'
command -v snakemake >/dev/null || fail 'no snakemake in PATH: activate the environment, then sbatch, which passes it on'

# Cells stop in time for this (seconds since 1970). Newer versions of Slurm set it; what is over is another job's.
for wait in 2 5 10 0; do
    [ "${SLURM_JOB_END_TIME:-0}" -gt "$(date +%s)" ] 2>/dev/null && break
    answer=$(SLURM_TIME_FORMAT=standard squeue -h -j "$SLURM_JOB_ID" -o %e 2>&1 | tail -n 1) || true
    SLURM_JOB_END_TIME=$(date -d "${answer:-unknown}" +%s 2>/dev/null) || sleep "$wait"
done
[[ $SLURM_JOB_END_TIME ]] || fail "squeue does not tell when job $SLURM_JOB_ID ends: $answer"
export SLURM_JOB_END_TIME

# Steps ask for their own share; what the whole job was given is not for each of them.
unset SLURM_CPU_BIND SLURM_MEM_PER_CPU SLURM_MEM_PER_NODE

# exec: 90 s before the end Slurm signals this process alone, and Snakemake ends its cells and unlocks the folder.
exec snakemake --profile profiles/nersc-node "$@"
