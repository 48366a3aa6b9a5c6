#!/bin/bash
# Labels on CIFAR-10: every encoder trained at a budget for a machine without a GPU, and probed both ways.
#
#   benches/cifar10.sh CIFAR10 [MODEL]
#
# CIFAR10  cifar-10-batches-bin or cifar-10-batches-py
# MODEL    a model folder whose encoder is a row too, as it is
#
# Writes artifacts/cifar10/ and cifar10.md into the current folder; a run that was stopped is resumed by the same command.
# CLIPCAP names the program; WIDTH and EPOCHS change the budget. The paper's is WIDTH=64 EPOCHS=100, for a GPU.
set -euo pipefail
data=${1:?a folder with CIFAR-10}
row=()
[ $# -lt 2 ] || row=(--encoder "$2")
"${CLIPCAP:-clipcap}" probe --table --data "$data" "${row[@]}" --width "${WIDTH:-16}" --epochs "${EPOCHS:-3}" \
  --markdown cifar10.md --run cifar10
