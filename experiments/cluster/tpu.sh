#!/bin/bash
# One run on a slice of Cloud TPUs, by a queued resource:
#
#   PROJECT=mine ZONE=us-west4-a TYPE=v5litepod-16 SHARE=10.0.0.2:/share \
#       experiments/cluster/tpu.sh --experiment=parallelism --scale=cluster --arms=resnet50
#
# What it does: asks for the slice (SPOT=1: one that can be taken away), waits until it is there,
# copies this repository to all of its machines, mounts SHARE (NFS, as of Filestore) for the workdir
# that they share, and starts launch.py on each; JAX finds the other machines by itself. A run that
# ends with status 75 (the slice is about to be taken, or a process was lost) is launched again, on a
# new slice if it has to be, and goes on from its checkpoint. The slice is deleted at the end,
# whatever happens. Written after Google's documentation, and not run: see the README.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${PROJECT:?the project that pays}" "${ZONE:?such as us-west4-a}" "${SHARE:?such as 10.0.0.2:/share}"
TYPE=${TYPE:-v5litepod-16}
VERSION=${VERSION:-v2-alpha-tpuv5-lite}
NAME=${NAME:-ablate}
TRIES=${TRIES:-20}
ARCHIVE=$(mktemp)

tpu() { gcloud compute tpus "$@" --project="$PROJECT" --zone="$ZONE" --quiet; }
everywhere() { tpu tpu-vm ssh "$NAME" --worker=all --command="$1"; }
state() { tpu queued-resources describe "$NAME" --format='value(state.state)' 2>/dev/null || true; }
discard() { tpu queued-resources delete "$NAME" --force || true; }
trap 'discard; rm -f "$ARCHIVE"' EXIT

create() {
  tpu queued-resources create "$NAME" --node-id="$NAME" --accelerator-type="$TYPE" \
    --runtime-version="$VERSION" ${SPOT:+--spot}
  until [[ $(state) == ACTIVE ]]; do
    [[ $(state) != FAILED ]] || { echo "tpu.sh: the queued resource failed" >&2; exit 1; }
    sleep 30
  done
  git archive --format=tar.gz --output="$ARCHIVE" HEAD
  tpu tpu-vm scp "$ARCHIVE" "$NAME":ablate.tar.gz --worker=all
  everywhere "mkdir -p ablate runs && tar -xzf ablate.tar.gz -C ablate &&
    pip install -q --user uv && ~/.local/bin/uv venv -q --clear --python 3.12 venv &&
    ~/.local/bin/uv pip install -q --python venv -e 'ablate[tpu]' &&
    (mountpoint -q runs || sudo mount -t nfs $SHARE runs)"
}

for ((try = 1; try <= TRIES; try++)); do
  if [[ $(state) != ACTIVE ]]; then
    [[ -z $(state) ]] || discard
    create
  fi
  status=0
  everywhere "cd ablate && ~/venv/bin/python launch.py --workdir=\$HOME/runs $(printf '%q ' "$@")" || status=$?
  # 255: the connection broke, as it does when the slice is taken away.
  ((status == 75 || status == 255)) || exit "$status"
  echo "tpu.sh: status $status, launching again ($try of $TRIES)"
done
exit 75
