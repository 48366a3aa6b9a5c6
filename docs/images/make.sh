#!/usr/bin/env bash
# Makes the README's images again, in a folder of its own: scenes.png, the sample's first test images with the captions of the
# sample model, and dashboard.svg, the dashboard of a real training run as tmux shows it after SECONDS (60).
# Takes tmux, and python3 with pillow (PYTHON). CLIPCAP is the program [target/release/clipcap].
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
program=$(realpath "${CLIPCAP:-$here/../../target/release/clipcap}")
python=${PYTHON:-python3}
seconds=${1:-60}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export CLIPCAP_HOME=$folder/home
"$program" infer --device cpu --format jsonl > captions.jsonl
"$python" "$here/scenes.py" captions.jsonl "$here/scenes.png"

tmux -L clipcap-images new-session -d -x 110 -y 34 "CLIPCAP_HOME=$CLIPCAP_HOME $program train --device cpu --ui dashboard"
sleep "$seconds"
tmux -L clipcap-images capture-pane -e -p > dashboard.txt
tmux -L clipcap-images send-keys C-c
sleep 5
tmux -L clipcap-images kill-server || true
"$python" "$here/terminal.py" dashboard.txt "$here/dashboard.svg"
ls -l "$here"
