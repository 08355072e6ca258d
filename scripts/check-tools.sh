#!/bin/sh
# Lists every tool that a build, the demo or the tests need and this machine lacks.
set -eu

# A continuous-integration machine is nobody's: what it lacks is installed there.
if [ "${CI:-}" = 1 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    for tool in git cc curl python3; do
        command -v "$tool" >/dev/null && continue
        apt-get update -qq
        apt-get install -y -qq git gcc libc6-dev curl python3 python3-pip python3-venv
        break
    done
fi

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

# Without these, tests are skipped, each by its name.
command -v npm >/dev/null ||
    echo "npm is not here: programs of the official client for JavaScript are not tried (apt install npm)"

if [ -n "$missing" ]; then
    printf 'Missing on this machine:%s\n' "$missing" >&2
    exit 1
fi
