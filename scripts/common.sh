# Shared by the scripts of this folder, which run from the project's root.
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
        command -v "$1" >/dev/null || die "$1 is missing (Debian package $2); 'make deps' installs what is needed"
        shift 2
    done
}
