# The storm of `ept-trace check`, alone and with one tracer after the other, for `cargo xtask bench
# --storm`. $1: seconds for each of three rounds; $2: seconds for the long one. Prints lines
#   storm WHO ACCESSES VMS SECONDS
#   lost WHO RECORDS
#   exit WHO CODE
#   memory WHO SECONDS KIB-AT-THE-MOST
#   summary WHO JSON
mount -t tracefs none /sys/kernel/tracing 2>/dev/null
for tool in trace-cmd bpftrace; do
    [ -f "/add/$tool.tgz" ] || continue
    mkdir "/opt-$tool" && tar xzf "/add/$tool.tgz" -C "/opt-$tool" && rm "/add/$tool.tgz"
    cat >"/bin/$tool" <<END
#!/bin/sh
LD_LIBRARY_PATH=/opt-$tool exec /opt-$tool/ld-linux-x86-64.so.2 /opt-$tool/$tool "\$@"
END
    chmod +x "/bin/$tool"
done

cat >/bin/storm <<'END'
#!/bin/sh
EPT_TRACE_LOG=info exec ept-trace check --unwatched --scenario storm --vcpus 3 --seed 1 --time $1 2>/tmp/said
END
chmod +x /bin/storm

# told WHO: what the last storm did.
told() {
    sed -n "s/.*storm: \([0-9]*\) accesses and \([0-9]*\) VMs in \([0-9.]*\) s/storm $1 \1 \2 \3/p" /tmp/said
    grep -q 'storm: passed' /tmp/said || { cat /tmp/said; exit 1; }
}

# ept_trace WHO SECONDS OPTION ...: with `ept-trace watch`, and its memory ten times.
ept_trace() {
    who=$1 seconds=$2
    shift 2
    ept-trace watch -j -q "$@" -- storm $seconds >/tmp/lines &
    watcher=$!
    passed=0
    while sleep $((seconds / 10 + 1)) && kill -0 $watcher 2>/dev/null; do
        passed=$((passed + seconds / 10 + 1))
        sed -n "s/VmHWM:[^0-9]*\([0-9]*\) kB/memory $who $passed \1/p" /proc/$watcher/status
    done
    wait $watcher
    echo "exit $who $?"
    told "$who"
    echo "summary $who $(tail -n 1 /tmp/lines)"
}

# bpftrace_storm SECONDS: with a script that captures the same.
bpftrace_storm() {
    bpftrace /tmp/all.bt >/tmp/bpftrace 2>&1 &
    script=$!
    until grep -q Attaching /tmp/bpftrace; do
        kill -0 $script || { cat /tmp/bpftrace; exit 1; }
        sleep 1
    done
    sleep 3
    storm $1
    told bpftrace
    kill -INT $script
    wait $script
    echo "lost bpftrace $(awk '/^Lost/ { lost += $2 } END { print lost + 0 }' /tmp/bpftrace)"
    rm /tmp/bpftrace
}

# trace_cmd SECONDS: with the tracepoints that ept-trace uses, and that of its kprobe on faults.
trace_cmd() {
    trace-cmd record -q -b 4096 --compression none -o /tmp/trace.dat -e kvm:kvm_page_fault \
        -e kvmmmu:kvm_mmu_spte_requested -e kvmmmu:kvm_mmu_set_spte -e kvmmmu:kvm_mmu_get_page \
        -e kvmmmu:kvm_tdp_mmu_spte_changed storm $1 >/tmp/trace-cmd 2>&1 || cat /tmp/trace-cmd
    told trace-cmd
    echo "lost trace-cmd $(awk '/overrun:|dropped events:/ { lost += $NF } END { print lost + 0 }' /tmp/trace-cmd)"
    rm /tmp/trace.dat
}

[ -x /bin/bpftrace ] && cat /add/walk.bt /add/storm.bt >/tmp/all.bt
# In turns, for the machine outside may be slower at times.
for round in 1 2 3; do
    storm $1; told alone
    ept_trace watch $1
    ept_trace watch--mismatches $1 --mismatches
    ept_trace watch--frames--history $1 --frames --history
    [ -x /bin/trace-cmd ] && trace_cmd $1
    [ -x /bin/bpftrace ] && bpftrace_storm $1
done
ept_trace long $2 --frames --history
