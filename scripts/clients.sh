#!/bin/sh
# Runs programs of the official clients over real containers and holds what came of them against
# docs/compatibility.md; CORRAL_WRITE_COMPATIBILITY=1 writes that anew.
set -eu
exec cargo nextest run --package corral --test functions --locked --no-fail-fast --profile clients
