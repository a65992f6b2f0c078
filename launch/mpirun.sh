#!/usr/bin/env bash
# Several machines by Open MPI's mpirun, which starts the ranks; NCCL or gloo does the rest.
#
#   launch/mpirun.sh HOSTFILE STAGE CONFIG RUN_FOLDER [key=value ...]
#
# HOSTFILE as for hostfile.sh. STAGE is doctor, run, passages, questions, answers, retain, train,
# teach, rounds or evaluate. MASTER_ADDR is the address of the first machine in HOSTFILE; without it,
# its name there. PDTRAIN_*, PYTORCH_*, NCCL_*, GLOO_*, HF_HUB_*, HF_HOME and HF_TOKEN_PATH that are
# set here are set for the ranks. Exit status 75: stopped on request and saved; the same command goes
# on from there.
set -euo pipefail

usage="usage: mpirun.sh HOSTFILE STAGE CONFIG RUN_FOLDER [key=value ...]"
hostfile=$(realpath -e -- "${1:?$usage}")
stage=${2:?$usage}
config=$(realpath -e -- "${3:?$usage}")
run=$(realpath -m -- "${4:?$usage}")
shift 4
pdtrain=$(command -v pdtrain) || {
  echo "mpirun.sh: there is no command pdtrain here; activate its virtual environment, and start again" >&2
  exit 2
}

# An error keeps its traceback until runs on GPUs are common. Segments that grow keep memory whole
# where the sizes of batches change; what the user has set stays.
export PDTRAIN_TRACEBACK=${PDTRAIN_TRACEBACK-1}
if [ -z "${PYTORCH_ALLOC_CONF-}${PYTORCH_CUDA_ALLOC_CONF-}" ]; then
  export PYTORCH_ALLOC_CONF=expandable_segments:True
fi
first=$(sed -n 's/^\([^#[:space:]]\{1,\}\)[[:space:]]\{1,\}slots=.*/\1/p;' "$hostfile" | sed -n 1p)
export MASTER_ADDR=${MASTER_ADDR:-$first} MASTER_PORT=${MASTER_PORT:-29500}

exported=()
for name in MASTER_ADDR MASTER_PORT "${!PDTRAIN_@}" "${!PYTORCH_@}" "${!NCCL_@}" "${!GLOO_@}" \
  "${!HF_HUB_@}" HF_HOME HF_TOKEN_PATH; do
  [ -z "${!name+set}" ] || exported+=(-x "$name")
done

mkdir -p -- "$run"
rm -f -- "$run/STOP" # an earlier request

# Ctrl-C and SIGTERM ask for a checkpoint and an end; mpirun would leave the ranks a second.
# Stages that do not train look for the file after each unit; one that was started alone is told
# directly as well, and drops what is at work.
# shellcheck disable=SC2317,SC2329  # the trap calls it
stop() {
  touch -- "$run/STOP"
  case $stage in train | teach | rounds | run) ;; *) kill -TERM -- "-$!" || : ;; esac
}
trap stop INT TERM USR1
# by slot: the ranks of a machine follow one another
setsid mpirun --hostfile "$hostfile" --map-by slot --bind-to none "${exported[@]}" \
  "$pdtrain" "$stage" "$config" "out_dir=$run" "$@" &
while kill -0 $! 2>/dev/null; do wait $! || :; done # a trap ends wait early
status=0
wait $! || status=$?
exit "$status"
