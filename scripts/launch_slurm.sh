#!/usr/bin/env bash
#SBATCH --job-name=jaxrec
#SBATCH --signal=TERM@120
# One run over the nodes of a SLURM job, a process a task. JAX finds the processes by SLURM's own
# variables; SIGTERM two minutes before the time limit makes all of them write one checkpoint.
#
#   sbatch --nodes 2 --ntasks-per-node 4 --gpus-per-task 1 scripts/launch_slurm.sh RUN \
#       train lightgcn --data PATH --mesh.data 1 --mesh.table 8
#
# RUN, and PATH, must be on storage that all nodes share. The same command goes on with a run that
# was interrupted: where RUN holds one, it resumes.
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '4,11s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
run=$1
shift
if [ -f "$run/config.json" ]; then
    mesh=()
    while [ $# -gt 0 ]; do
        case $1 in
        --mesh.data | --mesh.table) mesh+=("$1" "$2") && shift ;;
        --mesh.data=* | --mesh.table=*) mesh+=("$1") ;;
        esac
        shift
    done
    set -- resume "$run" "${mesh[@]}"
else
    set -- "$@" --run "$run"
fi
exec srun --kill-on-bad-exit=1 --wait=10 python -m jaxrec "$@" --mesh.coordinator auto
