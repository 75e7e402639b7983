#!/bin/sh
# touched TABLE INDEX NEW BACK ... -- COMMAND: runs `ept-trace check -j --touch GPA --again`, and
# between the guest's first touch and its second changes entries of the tables that map the GPA.
# Once KVM has handled the fault of the second touch, they are changed back.
# Each four words are a change: of the entry in the table of level TABLE, at the index that the GPA
# has at level INDEX. NEW and BACK are arithmetic, where entry is the walk's entry of level TABLE,
# table the address of that table, and leaf the walk's last entry.
changes=
while [ "$1" != -- ]; do
    changes="$changes$1 $2 $(echo "$3" | tr -d ' ') $(echo "$4" | tr -d ' ')
"
    shift 4
done
shift
gpa=$(echo "$*" | sed 's/.*--touch \([^ ]*\).*/\1/')
rm -f /tmp/touches /tmp/said /tmp/code
mkfifo /tmp/touches
{ "$@"; echo $? >/tmp/code; } </tmp/touches 2>&1 | tee /tmp/said &
trap '' PIPE
exec 5>/tmp/touches

# walked N: waits until the GPA was walked so many times, and says how often it was. The command ends
# some time, whatever its guest does.
walked() {
    until [ -e /tmp/code ]; do
        count=$(grep -c "\"type\":\"walk\".*\"gpa\":\"$gpa\"" /tmp/said)
        [ "$count" -lt "$1" ] || return 0
        usleep 100000
    done
    echo "touched: GPA $gpa was walked $count times, not $1"
    return 1
}

# Where the kernel has all physical memory: as it says itself of that from 1 MiB on.
memory=$(od -A n -v -t x8 -j 64 -N 2240 -w56 /proc/kcore | awk '$4 == "0000000000100000" { print $3; exit }')
memory=$((0x$memory - 0x100000))
address=$((0xffffffffff000))

bytes() {
    printf %016x "$1" | sed 's/\(..\)\(..\)\(..\)\(..\)\(..\)\(..\)\(..\)\(..\)/\8\7\6\5\4\3\2\1/'
}

# change WHICH: pokes every entry, with its NEW or its BACK.
change() {
    echo "$changes" | while read -r level index new back; do
        [ -n "$level" ] || continue
        eval "entry=\$entry$level table=\$table$level"
        [ "$1" = new ] || new=$back
        at=$((memory + table + (gpa >> (3 + 9 * index) & 511) * 8))
        poke "0x$(printf %x $at)" 8 ................ "$(bytes $(($new)))" || return 1
    done
}

# What is said meanwhile would stand in the middle of a line of the command's.
{
    if walked 1; then
        # Until the guest has halted.
        sleep 1
        walked 1
        walk=$(grep "\"type\":\"walk\".*\"gpa\":\"$gpa\"" /tmp/said | tail -n 1)
        level=$(echo "$walk" | sed 's/.*"root_level":\([0-9]*\).*/\1/')
        leaf=$(echo "$walk" | sed 's/.*"root_hpa":"\([^"]*\)".*/\1/')
        for next in $(echo "$walk" | sed 's/.*"entries":\[\([^]]*\)\].*/\1/' | tr '",' '  '); do
            eval "table$level=$((leaf & address)) entry$level=$((next))"
            leaf=$((next)) level=$((level - 1))
        done
        if change new; then
            echo >&5
            walked $((count + 1))
        fi
        # Not where the guest is gone, and with it its tables.
        [ -e /tmp/code ] || change back
    fi
} >/tmp/words 2>&1
exec 5>&-
wait
cat /tmp/words
exit "$(cat /tmp/code)"
