#!/bin/sh
# Lists every tool that a build, the demo or the tests need and this machine lacks.
set -eu

missing=""
lacks() { missing="$missing
  $1"; }

command -v git >/dev/null || lacks "git                 (apt install git)"
command -v cc >/dev/null || lacks "a C compiler        (apt install gcc libc6-dev)"
command -v curl >/dev/null || lacks "curl                (apt install curl)"

if command -v python3 >/dev/null; then
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        lacks "Python 3.10 or later (this is $(python3 -V 2>&1))"
    python3 -m pip --version >/dev/null 2>&1 || lacks "pip                 (apt install python3-pip)"
else
    lacks "Python 3.10 or later (apt install python3 python3-pip)"
fi

wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
if command -v cargo >/dev/null && command -v rustc >/dev/null; then
    found=$(rustc --version | cut -d' ' -f2)
    lowest=$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n 1)
    [ "$lowest" = "$wanted" ] || lacks "Rust $wanted or later (this is $found; rustup update)"
else
    lacks "Rust $wanted or later (rustup, see the README)"
fi

if [ -n "$missing" ]; then
    printf 'Missing on this machine:%s\n' "$missing" >&2
    exit 1
fi
