#!/usr/bin/env bash
# All GPUs of this machine, or those in CUDA_VISIBLE_DEVICES.
#
#   launch/one_node.sh STAGE CONFIG RUN_FOLDER [key=value ...]
#
# STAGE is doctor, run, passages, questions, answers, retain, train, teach, rounds or evaluate. Exit
# status 75: stopped on request and saved; the same command goes on from there.
set -euo pipefail

usage="usage: one_node.sh STAGE CONFIG RUN_FOLDER [key=value ...]"
stage=${1:?$usage}
config=$(realpath -e -- "${2:?$usage}")
run=$(realpath -m -- "${3:?$usage}")
shift 3
pdtrain=$(command -v pdtrain) || {
  echo "one_node.sh: there is no command pdtrain here; activate its virtual environment, and start again" >&2
  exit 2
}

# An error keeps its traceback until runs on GPUs are common. Segments that grow keep memory whole
# where the sizes of batches change; what the user has set stays.
export PDTRAIN_TRACEBACK=${PDTRAIN_TRACEBACK-1}
if [ -z "${PYTORCH_ALLOC_CONF-}${PYTORCH_CUDA_ALLOC_CONF-}" ]; then
  export PYTORCH_ALLOC_CONF=expandable_segments:True
fi

mkdir -p -- "$run"
rm -f -- "$run/STOP" # an earlier request

# Ctrl-C and SIGTERM ask for a checkpoint and an end. DeepSpeed does not pass SIGTERM on to the ranks,
# and Ctrl-C would reach them directly: a session of its own keeps it from them.
# Stages that do not train look for the file after each unit; one that was started alone is told
# directly as well, and drops what is at work.
# shellcheck disable=SC2317,SC2329  # the trap calls it
stop() {
  touch -- "$run/STOP"
  case $stage in train | teach | rounds | run) ;; *) kill -TERM -- "-$!" || : ;; esac
}
trap stop INT TERM USR1
setsid deepspeed --no_python "$pdtrain" "$stage" "$config" "out_dir=$run" "$@" &
while kill -0 $! 2>/dev/null; do wait $! || :; done # a trap ends wait early
status=0
wait $! || status=$?
exit "$status"
