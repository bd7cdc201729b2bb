# Recordings of the boots that `make boots` and `make soak` make and replay: each in processes of their own, from the
# beginning and from the middle, with the images gone, and on the other engine than it was recorded on.
readonly replay_names=(amd64 686 686-pae memtest86+ session terminal marks)

# replay_arguments NAME FOLDER: the arguments of a recording that takes its images from FOLDER, one a line.
replay_arguments() {
    case $1 in
        session | terminal)
            # A shell on the console, typed at while it runs.
            printf '%s\n' --kernel "$2/vmlinuz-amd64" --initrd "$2/initrd-amd64.gz" --append console=ttyS0 \
                --exec '/bin/busybox sh -i' ;;
        marks)
            printf '%s\n' --kernel "$2/vmlinuz-amd64" --initrd "$2/initrd-amd64.gz" --append console=ttyS0 \
                --overlay "$2/trapmark" \
                --exec '/bin/trapmark the first; /bin/busybox md5sum /bin/busybox; /bin/trapmark the second' ;;
        memtest86+)
            printf '%s\n' --firmware "$2/bios.bin" --cdrom "$2/memtest86+.iso" --stop-on-screen 'Status: Testing' ;;
        *) boot_arguments "$1" | sed "s|^$PWD/.cache/guests/|$2/|" ;;
    esac
}

# What a user types, with pauses that no run has twice.
typed() {
    local command pause
    for command in 'echo typed $((6 * 7))' 'cat /proc/uptime' 'ls /' 'md5sum /bin/busybox' 'exit 0'; do
        pause=$((RANDOM % 900 + 100))
        sleep "$(printf '0.%03d' $pause)"
        [ "$1" = pipe ] || sleep 1
        printf '%s\n' "$command"
    done
    sleep 1
}

# record_and_replay NAME OUT ENGINE OTHER: prints one line about it and fails if it failed.
record_and_replay() {
    local name=$1 out=$2 engine=$3 other=$4 folder=$2.images code=0 arguments file digest
    rm -rf "$out".* && mkdir -p "$folder"
    cp "$guests"/vmlinuz-* "$guests"/initrd-* "$guests/bios.bin" "$guests"/vgabios-* "$guests/memtest86+.iso" "$folder"
    cp -r "$guests/trapmark" "$folder"
    mapfile -t arguments < <(replay_arguments "$name" "$folder")
    local record=("$trapline" record -o "$out.tline" "${arguments[@]}" --engine "$engine" --timeout "$boot_timeout"
        --json-summary "$out.json")
    case $name in
        session) typed pipe | "${record[@]}" >"$out.console" 2>"$out.err" || code=$? ;;
        terminal)
            typed terminal | script -qec "$(printf '%q ' "${record[@]}")" "$out.console" >/dev/null 2>"$out.err" ||
                code=$? ;;
        *) "${record[@]}" --stdin none >"$out.console" 2>"$out.err" || code=$? ;;
    esac
    [ $code = 0 ] || { echo "FAIL $name: recording ended with $code; $(tail -n 1 "$out.err")"; return 1; }
    rm -rf "$folder"
    digest=$(json_field "$out.json" digest)
    for from in start 50%; do
        local position=()
        [ $from = start ] || position=(--from $from)
        file=$out.$from
        code=0
        "$trapline" replay "$out.tline" --engine "$other" "${position[@]}" --json >"$file.json" 2>"$file.err" || code=$?
        [ $code = 0 ] && [ "$(json_field "$file.json" digest)" = "$digest" ] ||
            { echo "FAIL $name: replay from $from ended with $code; $(tail -n 1 "$file.err")"; return 1; }
    done
    case $name in marks) replay_to_mark "$out" || return 1 ;; esac
    printf 'ok   %-12s recorded on %-11s %6.1f s, replayed on %-11s %6.1f s, %9s events, %8s bytes\n' \
        "$name" "$engine" "$(json_field "$out.json" wall_s)" "$other" "$(json_field "$out.start.json" wall_s)" \
        "$(json_field "$out.start.json" verified_events)" "$(stat -c %s "$out.tline")"
    [ "${KEEP:-}" = 1 ] || rm -f "$out.tline"
}

# Stops at each mark.
replay_to_mark() {
    local mark
    for mark in 'the first' 'the second'; do
        "$trapline" replay "$1.tline" --from "$mark" --to "$mark" --json >"$1.mark.json" 2>"$1.mark.err" ||
            { echo "FAIL marks: no replay to '$mark'; $(tail -n 1 "$1.mark.err")"; return 1; }
    done
}
