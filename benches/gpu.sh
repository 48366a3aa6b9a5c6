#!/usr/bin/env bash
# `gpu.py` on a machine with an NVIDIA card and PyTorch, whose one argument is the bench's binary, perhaps packed by xz.
# Sets up what burn's kernels ask for: NVIDIA's Vulkan driver, and libdevice, of a CUDA toolkit or of Triton's wheel.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=$1; shift
case $binary in *.xz) xz -dc "$binary" > /tmp/clipcap-speed; chmod +x /tmp/clipcap-speed; binary=/tmp/clipcap-speed ;; esac
driver=/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json
if [ -f "$driver" ]; then export VK_DRIVER_FILES=$driver; fi
python=${PYTHON:-python3}
toolkit=$(readlink -f "$(command -v nvcc || echo /none/bin/nvcc)")
for folder in "${CUDA_PATH:-/none}" /usr/local/cuda "${toolkit%/bin/nvcc}" /tmp/clipcap-cuda; do
  if [ "$folder" = /tmp/clipcap-cuda ]; then
    mkdir -p "$folder/nvvm/libdevice"
    triton=$("$python" -c 'import os, triton; print(os.path.dirname(triton.__file__))')
    cp "$triton/backends/nvidia/lib/libdevice.10.bc" "$folder/nvvm/libdevice/"
  fi
  if [ -f "$folder/nvvm/libdevice/libdevice.10.bc" ]; then export CUDA_PATH=$folder; break; fi
done
exec "$python" benches/gpu.py "$binary" "$@"
