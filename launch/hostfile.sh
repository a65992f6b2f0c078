#!/usr/bin/env bash
# Several machines without a scheduler, over ssh and pdsh. Run it on any of them.
#
#   launch/hostfile.sh HOSTFILE STAGE CONFIG RUN_FOLDER [key=value ...]
#
# STAGE is doctor, run, passages, questions, answers, retain, train, teach, rounds or evaluate;
# hostfile.example shows a HOSTFILE. The virtual environment, CONFIG and RUN_FOLDER are at the same
# place on every machine. MASTER_ADDR is the address of the first machine on the network that the
# GPUs talk over; without it, its name in HOSTFILE.
#
# A relative path in key=value is relative to RUN_FOLDER: give absolute ones. PDTRAIN_*, PYTORCH_*,
# HF_HUB_*, HF_HOME and HF_TOKEN_PATH that are set here are set for the ranks. What else they need in
# their environment stands in RUN_FOLDER/.deepspeed_env as NAME=value, without blank lines and
# without secrets: pdsh shows it to everyone who runs `ps`. Exit status 75: stopped on request and
# saved; the same command goes on from there.
set -euo pipefail

usage="usage: hostfile.sh HOSTFILE STAGE CONFIG RUN_FOLDER [key=value ...]"
hostfile=$(realpath -e -- "${1:?$usage}")
stage=${2:?$usage}
config=$(realpath -e -- "${3:?$usage}")
run=$(realpath -m -- "${4:?$usage}")
shift 4
pdtrain=$(command -v pdtrain) || {
  echo "hostfile.sh: there is no command pdtrain here; activate its virtual environment, and start again" >&2
  exit 2
}

# An error keeps its traceback until runs on GPUs are common. Segments that grow keep memory whole
# where the sizes of batches change; what the user has set stays.
export PDTRAIN_TRACEBACK=${PDTRAIN_TRACEBACK-1}
if [ -z "${PYTORCH_ALLOC_CONF-}${PYTORCH_CUDA_ALLOC_CONF-}" ]; then
  export PYTORCH_ALLOC_CONF=expandable_segments:True
fi
case "$config$run$*" in
  *[!A-Za-z0-9@%+=:,./_\ -]*)
    echo "hostfile.sh: the remote shell would read some of these characters; write the value into CONFIG" >&2
    exit 2
    ;;
esac
case "$run$pdtrain" in
  *[[:space:]]*)
    echo "hostfile.sh: DeepSpeed's launcher cannot go to a path with blanks: $run, $pdtrain" >&2
    exit 2
    ;;
esac
first=$(sed -n 's/^\([^#[:space:]]\{1,\}\)[[:space:]]\{1,\}slots=.*/\1/p;' "$hostfile" | sed -n 1p)

mkdir -p -- "$run"
rm -f -- "$run/STOP" # an earlier request

# DeepSpeed takes no other variables to the other machines. A line of the user's own stays; those of
# an earlier start are written anew. DeepSpeed reads every line as a variable, a comment too, so a
# copy of the script's lines tells them from the user's.
variables=$run/.deepspeed_env
ours=$run/.deepspeed_env_ours
touch -- "$variables" "$ours"
theirs=$(grep -vxFf "$ours" -- "$variables" || :)
lines=
for variable in "${!PDTRAIN_@}" "${!PYTORCH_@}" "${!HF_HUB_@}" HF_HOME HF_TOKEN_PATH; do
  [ -n "${!variable+set}" ] || continue
  ! grep -q "^$variable=" <<< "$theirs" || continue
  case ${!variable} in
    *[\"\$\`\\]* | *$'\n'*) # which keep their meaning between the launcher's double quotes
      echo "hostfile.sh: the remote shell would read some characters of the value of $variable" >&2
      exit 2
      ;;
  esac
  lines+="$variable=${!variable}"$'\n'
done
printf "%s" "$lines" > "$ours"
{ [ -z "$theirs" ] || printf "%s\n" "$theirs"; cat -- "$ours"; } > "$variables.new"
mv -- "$variables.new" "$variables"

# DeepSpeed puts the working folder on the ranks' PYTHONPATH. In the repository's root the folder
# kernels/ would then pass for Hugging Face's package of that name.
cd -- "$run"

# Ctrl-C and SIGTERM ask for a checkpoint and an end. DeepSpeed would answer with `pkill -f` on all
# machines, which ends your other DeepSpeed jobs too; a session of its own keeps Ctrl-C from it.
trap 'touch -- "$run/STOP"' INT TERM USR1
setsid deepspeed --hostfile "$hostfile" --launcher pdsh --master_addr "${MASTER_ADDR:-$first}" \
  --no_python "$pdtrain" "$stage" "$config" "out_dir=$run" "$@" &
while kill -0 $! 2>/dev/null; do wait $! || :; done # a trap ends wait early
status=0
wait $! || status=$?
exit "$status"
