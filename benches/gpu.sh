#!/usr/bin/env bash
# Fills in the GPU table, on a machine with a card: this program through wgpu beside PyTorch on the same card.
#
#     python -m venv venv && venv/bin/pip install torch transformers pillow
#     PYTHON=venv/bin/python benches/gpu.sh [DEVICE [PYTORCH_DEVICE]]      # wgpu and cuda, unless told otherwise
set -euo pipefail
cd "$(dirname "$0")/.."
device=${1:-wgpu} peer=${2:-cuda}
# The first use of a shape compiles and tries kernels, which a warm-up of one does not pay off.
"${PYTHON:-python3}" benches/speed.py --device "$device" --peer-device "$peer" --pairs 9 --markdown "gpu-$device.md"
echo "the table is in gpu-$device.md"
