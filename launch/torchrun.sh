#!/usr/bin/env bash
# One machine or several by torchrun. Start it on every machine, with the same words.
#
#   MASTER_ADDR=node-0 NUM_NODES=2 launch/torchrun.sh STAGE CONFIG RUN_FOLDER [key=value ...]
#
# STAGE is doctor, run, passages, questions, answers, retain, train, teach, rounds or evaluate.
# MASTER_ADDR is one of the machines, at which all meet; for one machine leave both away.
# RANKS_PER_NODE is all GPUs unless it is set. SIGTERM reaches the ranks, which save within
# torchrun's 30 seconds; the file RUN_FOLDER/STOP gives them all the time they need, and has to go
# before the next start. The ranks end with status 75 then, torchrun itself with 1.
set -euo pipefail

usage="usage: torchrun.sh STAGE CONFIG RUN_FOLDER [key=value ...]"
stage=${1:?$usage}
config=$(realpath -e -- "${2:?$usage}")
run=$(realpath -m -- "${3:?$usage}")
shift 3
pdtrain=$(command -v pdtrain) || {
  echo "torchrun.sh: there is no command pdtrain here; activate its virtual environment, and start again" >&2
  exit 2
}

# An error keeps its traceback until runs on GPUs are common. Segments that grow keep memory whole
# where the sizes of batches change; what the user has set stays.
export PDTRAIN_TRACEBACK=${PDTRAIN_TRACEBACK-1}
if [ -z "${PYTORCH_ALLOC_CONF-}${PYTORCH_CUDA_ALLOC_CONF-}" ]; then
  export PYTORCH_ALLOC_CONF=expandable_segments:True
fi

# No restarts: a rank that was asked to stop would count as failed, and be started again.
exec torchrun --nnodes "${NUM_NODES:-1}" --nproc-per-node "${RANKS_PER_NODE:-gpu}" --max-restarts 0 \
  --rdzv-backend c10d --rdzv-endpoint "${MASTER_ADDR:-localhost}:${MASTER_PORT:-29400}" \
  --rdzv-id "$(basename -- "$run")" \
  --no-python "$pdtrain" "$stage" "$config" "out_dir=$run" "$@"
