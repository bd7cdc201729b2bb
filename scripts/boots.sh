# The boots of `make boots`, `make soak` and `make bench`: what runs, and how one run is judged.
readonly boot_names=(amd64 686 686-pae amd64-xtpic 686-xtpic pentium4-xtpic memtest86+ grub-rescue)
readonly boot_timeout="${BOOT_TIMEOUT:-300}" # seconds

# The arguments of one boot, one a line. The console on the serial port is all a kernel is told: what it prints and
# how it probes stays the distribution's default. A CD is read off the screen, at a text that stands there only when
# the program has come up: memtest86+ in its first test, GRUB with its menu drawn and waiting for a key.
boot_arguments() {
    local kernel
    case $1 in
        amd64* | 686*)
            kernel=${1%-xtpic}
            kernel_arguments "$kernel"
            case $1 in *-xtpic) printf '%s\n' --chipset xtpic ;; esac ;;
        pentium4-xtpic)
            kernel_arguments 686
            printf '%s\n' --cpu pentium4 --chipset xtpic ;;
        memtest86+) cdrom_arguments memtest86+.iso 'Status: Testing' ;;
        grub-rescue) cdrom_arguments grub-rescue.iso 'Press enter to boot' ;;
        *) die "no boot is called $1" ;;
    esac
}

kernel_arguments() {
    local arch=i386
    [ "$1" != amd64 ] || arch=amd64
    printf '%s\n' --kernel "$guests/vmlinuz-$1" --initrd "$guests/initrd-$arch.gz" --append console=ttyS0
}

cdrom_arguments() {
    printf '%s\n' --firmware "$guests/bios.bin" --cdrom "$guests/$1" --stop-on-screen "$2"
}

# boot NAME OUT [OPTION …]: runs one boot, prints one line about it and fails if it failed. Leaves OUT.console,
# OUT.json and OUT.err.
boot() {
    local name=$1 out=$2 arguments code=0 why=
    shift 2
    mapfile -t arguments < <(boot_arguments "$name")
    rm -f "$out".{console,json,err}
    "$trapline" run "${arguments[@]}" --stdin none --timeout "$boot_timeout" --json-summary "$out.json" "$@" \
        </dev/null >"$out.console" 2>"$out.err" || code=$?
    case $name in
        memtest86+ | grub-rescue) ;;
        *) grep -aq '^GUEST-DONE ' "$out.console" || why="no GUEST-DONE on the console" ;;
    esac
    [ $code = 0 ] || why="exit code $code"
    if [ -n "$why" ]; then
        echo "FAIL $name: $why; $(tail -n 1 "$out.err")"
        tail -n 5 "$out.console" | tr -d '\r' | sed 's/^/    /'
        return 1
    fi
    printf 'ok   %-15s %-10s %14s instructions  digest %s  %6.1f MIPS  %6.1f s\n' "$name" \
        "$(json_field "$out.json" outcome)" "$(json_field "$out.json" instructions)" \
        "$(json_field "$out.json" digest)" "$(json_field "$out.json" mips)" "$(json_field "$out.json" wall_s)"
}

# What two runs of one boot must have in common.
boot_result() {
    echo "$(json_field "$1.json" instructions) $(json_field "$1.json" digest) $(sha256sum <"$1.console" | cut -c1-16)"
}

# guest_version FILE: the package and version that a guest file comes from.
guest_version() { awk -v file="$1" '$2 == file { print $3, $4 }' "$guests/MANIFEST"; }

guests_present() { [ -s "$guests/MANIFEST" ]; }
