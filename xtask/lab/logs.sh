# Functions that record a workload with several tools at once, each session in a directory of /out.
# To be sourced; /add has trace-cmd and perf with their libraries, and vmm. The clock is
# CLOCK_MONOTONIC unless said otherwise.

# A program out of an archive with its libraries.
unpack() {
    mkdir "/opt-$1" && tar xzf "/add/$1.tgz" -C "/opt-$1" && rm "/add/$1.tgz"
    cat >"/bin/$1" <<END
#!/bin/sh
LD_LIBRARY_PATH=/opt-$1 exec /opt-$1/ld-linux-x86-64.so.2 /opt-$1/$1 "\$@"
END
    chmod +x "/bin/$1"
}
unpack trace-cmd
unpack perf

# guests GUEST ...: VMs at once, each with the arguments of vmm; each step is told with its time.
cat >/bin/guests <<'END'
#!/bin/sh
exec >>guests.txt 2>&1
for guest in "$@"; do /add/vmm $guest & done
wait
END
# The same for one VM that hangs, and is killed.
cat >/bin/hanging <<'END'
#!/bin/sh
exec >>guests.txt 2>&1
/add/vmm "$1" &
until grep -q CPUID guests.txt; do usleep 10000; done
usleep 150000
kill -9 $!
END
# trace-cmd puts all symbols into each file, 7 MB. What it is shown of them are a few; what it runs
# sees them all.
head -n 20 /proc/kallsyms >/tmp/kallsyms
cat >/bin/trace-cmd-record <<'END'
#!/bin/sh
exec >trace-cmd.txt 2>&1
exec unshare -m sh -c 'mount --bind /tmp/kallsyms /proc/kallsyms; exec trace-cmd record -C mono "$@"' sh "$@"
END
cat >/bin/all-symbols <<'END'
#!/bin/sh
exec unshare -m sh -c 'umount /proc/kallsyms; exec "$@"' sh "$@"
END
cat >/bin/perf-record <<'END'
#!/bin/sh
exec perf record -k mono -a "$@" 2>>perf.txt
END
chmod +x /bin/guests /bin/hanging /bin/trace-cmd-record /bin/all-symbols /bin/perf-record

every_event="-e kvm:* -e kvmmmu:*"
# By which a root and its entries are known, of those that this kernel has.
few_events=
for event in kvm/kvm_cpuid kvm/kvm_exit kvm/kvm_page_fault kvmmmu/kvm_mmu_get_page \
    kvmmmu/kvm_mmu_set_spte kvmmmu/kvm_tdp_mmu_spte_changed; do
    [ -e "/sys/kernel/tracing/events/$event" ] && few_events="$few_events -e ${event%/*}:${event#*/}"
done

# session NAME: begins one.
session() {
    mkdir -p "/out/$1" && cd "/out/$1" || exit
}

# recorded COMMAND ...: records the command with ept-trace, perf and trace-cmd. Perf leaves out our
# own programs.
recorded() {
    ept-trace watch -q -o events.ept --history --frames -- \
        perf-record -m 1024 --no-bpf-event $few_events -o perf.few.data -- \
        trace-cmd-record -b 4096 -e kvm -e kvmmmu -o trace.dat all-symbols "$@" >findings.txt
    ept-trace analyze --format observations events.ept >events.jsonl
    rm events.ept
    dmesg >dmesg.txt
}

# instance NAME KIB CLOCK: has ftrace record into a buffer of its own.
instance() {
    instance=/sys/kernel/tracing/instances/$1
    mkdir "$instance"
    echo "$2" >"$instance/buffer_size_kb"
    echo "$3" >"$instance/trace_clock"
    for system in kvm kvmmmu; do echo 1 >"$instance/events/$system/enable"; done
}

# text FILE OPTION ...: what the last instance has recorded, as these trace_options show it.
text() {
    file=$1
    shift
    for option in "$@"; do echo "$option" >"$instance/trace_options" || return 0; done
    cat "$instance/trace" >"$file"
    for option in "$@"; do
        case $option in no*) option=${option#no} ;; *) option=no$option ;; esac
        echo "$option" >"$instance/trace_options"
    done
}

# As every tool can write them, the same guests.
all() {
    session all
    ept-trace doctor -j >facts.json
    echo 1 >/sys/kernel/tracing/options/record-tgid
    instance small 4 mono
    instance tsc 4096 x86-tsc
    instance text 4096 mono
    # Not to take the stars for files.
    set -f
    recorded perf-record -m 1024 $every_event -o perf.data -- \
        perf-record -m 1024 $every_event -z -o perf.zstd.data -- sh -c \
        "perf-record -m 1024 $every_event -o - -- guests '48 --pause 20' '52 --pause 20' | cat >perf.pipe.data"
    set +f
    for each in small tsc text; do
        instance=/sys/kernel/tracing/instances/$each
        echo 0 >"$instance/tracing_on"
        echo norecord-tgid >"$instance/trace_options"
    done
    text trace.txt
    text trace.bare.txt nocontext-info
    text trace.fields.txt fields
    text trace.latency.txt latency-format
    text trace.no-irq.txt noirq-info
    text trace.raw.txt raw
    text trace.tgid.txt record-tgid
    text trace.verbose.txt latency-format verbose
    cat "$instance/per_cpu/cpu0/stats" >trace.stats
    instance=${instance%text}tsc
    text trace.tsc.txt
    instance=${instance%tsc}small
    text trace.lost.txt
    timeout 2 cat "$instance/trace_pipe" >trace.pipe-lost.txt
    rmdir /sys/kernel/tracing/instances/*
}

# A memslot is moved, and all tables are taken apart.
moved() {
    session moved
    recorded guests '48 --moving'
}

# Two buffers of trace-cmd in one file.
buffers() {
    session buffers
    trace-cmd-record -b 4096 -e kvm -B mmu -b 4096 -e kvmmmu -o trace.dat guests 48
}

# Small buffers, which nobody empties while the first of two VMs runs. Perf is inside, for it takes a
# child that stops for one that has ended.
lost() {
    session lost
    trace-cmd-record -b 4 -e kvm -e kvmmmu -o trace.dat all-symbols \
        perf-record -m 1 --no-bpf-event $few_events -o perf.few.data -- sh -c '
            killall -STOP ld-linux-x86-64.so.2
            guests 48
            killall -CONT ld-linux-x86-64.so.2
            sleep 1
            guests 52'
}

# fault NAME SEED BACK COMMAND ...: records the command while a fault is there. The first two are
# commands as well.
fault() {
    session "$1"
    { echo "$2"; eval "$2"; } >seeded.txt 2>&1
    back=$3
    shift 3
    recorded "$@"
    { echo "$back"; eval "$back"; } >>seeded.txt 2>&1
}
