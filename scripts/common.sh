# Shared by the scripts of this folder, which run from the project's root.
export LC_ALL=C.UTF-8
readonly guests="$PWD/.cache/guests"
readonly trapline="${TRAPLINE:-$PWD/.build/release/trapline}"

say() { echo "$*" >&2; }

die() {
    say "${0##*/}: $*"
    exit 1
}

# need COMMAND PACKAGE …: ends with a sentence when a command is missing.
need() {
    while [ $# -gt 0 ]; do
        command -v "$1" >/dev/null || die "$1 is missing (Debian package $2)"
        shift 2
    done
}

# json_field FILE KEY: the value of a key whose value is a number or a string.
json_field() {
    grep -oE "\"$2\" *: *(\"[^\"]*\"|[-+0-9.eE]+)" "$1" 2>/dev/null | head -n 1 |
        sed -E 's/^"[^"]*" *: *//; s/"//g' || true
}

# event_kinds FILE: how many events of each kind, out of what `info --json` says.
event_kinds() {
    grep '"event_kinds"' "$1" | tr ',{' '\n\n' | sed -nE 's/^ *"([A-Za-z]+)": ([0-9]+).*/\1 \2/p' | grep -v event_kinds
}

median() {
    sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}
