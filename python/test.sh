#!/usr/bin/env bash
# Builds the Python module, in the program's target folder, and tests it beside the program: python/test.sh [PYTEST ARGUMENT...]
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
export CLIPCAP_PROGRAM=${CLIPCAP_PROGRAM:-$CARGO_TARGET_DIR/release/clipcap}

cargo fmt --manifest-path python/Cargo.toml --check
cargo clippy --manifest-path python/Cargo.toml --locked --all-targets -- -D warnings
[ -x "$CLIPCAP_PROGRAM" ] || cargo build --locked --release

python3 -m venv "$CARGO_TARGET_DIR/python"
. "$CARGO_TARGET_DIR/python/bin/activate"
pip install --quiet --disable-pip-version-check -r python/tests/requirements.txt
pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --force-reinstall ./python
cd python
python -m pytest -q "$@"
