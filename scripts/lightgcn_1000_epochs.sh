#!/usr/bin/env bash
# The papers' 1000 epochs of LightGCN on Gowalla, in pieces: call it until it says that it is done.
#
#   scripts/lightgcn_1000_epochs.sh GOWALLA RUN [option ...]
#
# GOWALLA: the folder with LightGCN's train.txt and test.txt. RUN: the run's folder, to keep from
# one piece to the next. SECONDS_A_PIECE (540) ends a piece with a checkpoint. Options are those of
# `jaxrec train`, for the first piece. Exit status 0 when done, 75 when there is more to do.
set -uo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
data=$1 run=$2
shift 2

if [ -f "$run/eval.json" ]; then
    echo "$run is done: $(cat "$run/eval.json")"
    exit 0
elif [ -f "$run/config.json" ]; then
    command=(resume "$run")
else
    command=(train lightgcn-gowalla --data "$data" --run "$run" --eval.every 20 "$@")
fi
timeout --foreground --preserve-status --signal=TERM "${SECONDS_A_PIECE:-540}" python -m jaxrec "${command[@]}"
status=$?
if [ $status -eq 143 ]; then
    echo "More to do: call this again with the same folders."
    exit 75
fi
exit $status
