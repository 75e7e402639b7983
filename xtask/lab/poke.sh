#!/bin/sh
# poke SYMBOL WITHIN OLD NEW: has the machine change, within so many bytes from the symbol on, the
# bytes OLD to NEW, both in hexadecimal, with .. for any byte (in NEW: for what is there). In the
# place of a symbol may be an address: 0x and hexadecimal digits.
# Asks over ttyS1: RS nonce " poke " address within old new LF; one line comes back.
. /lab.conf
# To read all symbols takes seconds, so those of KVM's modules are kept while these stay: name, size and
# address, for how often a module is used changes with each VM.
modules=$(grep '^kvm' /proc/modules | cut -d ' ' -f 1,2,6)
if [ "$modules" != "$(cat /tmp/poke.modules 2>/dev/null)" ]; then
    grep '\[kvm' /proc/kallsyms >/tmp/poke.symbols
    echo "$modules" >/tmp/poke.modules
fi
find='$3 == symbol { print $1; exit }'
case $1 in
    0x*) address=${1#0x} ;;
    *) address=$(awk -v symbol="$1" "$find" /tmp/poke.symbols) ;;
esac
# Where KVM is built in, or it is no symbol of KVM's.
[ -n "$address" ] || address=$(awk -v symbol="$1" "$find" /proc/kallsyms)
if [ -z "$address" ]; then
    echo "poke: no symbol $1"
    exit 1
fi
exec 4<>/dev/ttyS1
printf '\036%s poke %s %s %s %s\n' "$NONCE" "$address" "$2" "$3" "$4" >&4
read -r answer <&4
echo "poke: $1: $answer"
[ "${answer%% *}" = changed ]
