# `just` lists these; each is a line or two that can be typed by hand too.

default:
    @just --list

# Formatting, rules and lints
check:
    cargo fmt --all --check
    .ci/rules
    cargo clippy --workspace --all-targets -- -D warnings

# The tests, or those whose names have the words given in them
test *words:
    cargo test --release {{ words }}

# The Python module's tests, with pytest's arguments
python *arguments:
    python/test.sh {{ arguments }}

# All that a change must pass
ci:
    .ci/run

# Products in every precision beside the processor's peak; the metrics' speed
bench:
    cargo bench -p cpu-kernels --bench products
    cargo bench --bench metrics

# Captioning and training beside other runtimes on this CPU: rows, --precision, --peers
speed *arguments:
    python3 benches/speed.py {{ arguments }}

# The API's pages, and the book where mdbook is installed
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --lib --no-deps
    if command -v mdbook > /dev/null; then mdbook build docs; fi

# README's images again, from a fresh run
images:
    docs/images/make.sh

# Fixtures again, by the scripts beside them (torch, transformers, pillow in venv)
fixtures:
    for script in tests/fixtures/make_*.py; do venv/bin/python "$script"; done

# Crates as they would be published, and their sizes
package:
    cargo package --workspace --no-verify --allow-dirty
    ls -l target/package/*.crate
