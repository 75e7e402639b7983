#!/bin/sh
# poke SYMBOL WITHIN OLD NEW: has the machine change, within so many bytes from the symbol on, the
# bytes OLD to NEW, both in hexadecimal, with .. for any byte (in NEW: for what is there).
# Asks over ttyS1: RS nonce " poke " address within old new LF; one line comes back.
. /lab.conf
# KVM's own symbol, where others have the name too.
address=$(awk -v symbol="$1" '
    $3 == symbol && (!found || $4 ~ /^\[kvm/) { found = $1 }
    END { print found }' /proc/kallsyms)
if [ -z "$address" ]; then
    echo "poke: no symbol $1"
    exit 1
fi
exec 4<>/dev/ttyS1
printf '\036%s poke %s %s %s %s\n' "$NONCE" "$address" "$2" "$3" "$4" >&4
read -r answer <&4
echo "poke: $1: $answer"
[ "${answer%% *}" = changed ]
