//! Which text is which.

use super::*;

fn kind(head: &str) -> Option<Result<Kind, String>> {
    recognise(head.as_bytes())
}

#[test]
fn each_format_is_told_by_its_first_lines() {
    let ftrace = [
        "# tracer: nop\n#\n# entries-in-buffer/entries-written: 0/0   #P:2\n",
        "# tracer: nop\n#\n kt-9 [000] d..1.    11.793833: kvm_tdp_mmu_spte_changed: as id 0 gfn 0\n",
        "# tracer: nop\n#\nCPU:0 [LOST 12 EVENTS]\n##### CPU 0 buffer started ####\n",
        // trace_pipe
        "              kt-106     [000] d..1.    11.793833: kvm_entry: vcpu 0, rip 0x1000\n",
        "CPU:0 [LOST 12 EVENTS]\n           kt-106     [000]    11.793833: kvm_entry: vcpu 0, rip 0x1000\n",
        "      kt-106       0d..1. 11793833us : kvm_entry: vcpu 0, rip 0x1000\n",
        "              kt     106   0 1 00000001 0000000c [00b3f5a9] 11793.833ms (+0.003ms): kvm_fpu: load\n",
    ];
    for head in ftrace {
        assert_eq!(kind(head), Some(Ok(Kind::Ftrace)), "{head}");
    }
    let report = [
        "cpus=2\n",
        "cpus=2\n              kt-95    [000]     4.339939: kvm_entry:             vcpu 0 rip 0x1000\n",
        // What grep has left.
        "              kt-95    [000]     4.339939: kvm_entry:             vcpu 0 rip 0x1000\n",
        "              kt-95    [000] d..1.     4.339939: kvm_entry:             vcpu 0 rip 0x1000\n",
        "      kt-95      0-0x1     4.339939: kvm_entry:             vcpu_id=0 rip=0x1000\n",
        "  kt-95 [000] 4.3: kvm_tdp_mmu_spte_changed: as id 0\n  kt-95 [000] 4.3: kvm_fpu:              load\n",
        "instance one:               kt-95    [000]    11.793833: kvm_entry:             vcpu 0\n",
    ];
    for head in report {
        assert_eq!(kind(head), Some(Ok(Kind::TraceCmd)), "{head}");
    }
    let perf = [
        "              kt   103 [000]     6.756877:                      kvm:kvm_entry: vcpu 0, rip 0x1000\n",
        "              kt   103/103   [000]     6.756877:    kvm:kvm_entry: vcpu 0, rip 0x1000\n",
        "# ========\n# captured on    : Thu\n#\n  kt   103 [000]     6.756877:    sched:sched_switch: prev\n",
    ];
    for head in perf {
        assert_eq!(kind(head), Some(Ok(Kind::PerfScript)), "{head}");
    }
}

#[test]
fn other_texts_are_none_of_these() {
    let heads = [
        "",
        "\n\n",
        "{\"time_ns\":1,\"event\":\"gap\"}\n",
        "[ 2311.499070] kvm_intel: reason=00000030\n",
        "Apr 24 14:07:29 host kernel: kvm_intel: EPT pointer = 0x1c4f5101e\n",
        "\x7fELF\x02\x01\x01\0",
        "KVM internal error. Suberror: 1\n",
        "<6>[   33.899] kvm: SMP vm created\n",
        "Apr 24 14:07:29 host qemu-kvm[1234]: 12.5: error\n",
        "kvm_intel: EPT pointer = 0x1c4f5101e\nkvm_amd: TSC scaling supported\n",
        "kvm: vmwrite failed: field=6820 val=1 err=12\n",
        "{\"type\": \"printf\", \"data\": \"1545795732411 21707 kt get_page gfn=0x0\\n\"}\n",
    ];
    for head in heads {
        assert_eq!(kind(head), None, "{head}");
    }
}

#[test]
fn texts_that_tell_too_little_are_refused_by_name() {
    let heads = [
        ("# tracer: nop\n#\n18257 1 1353451553474 type: 372\n", "`raw`"),
        ("18257 1 1353451553474 type: 372\n", "`raw`"),
        ("# tracer: nop\n#\n00004751 00000001 0000013b1f7a91c2 type: 372\n", "`hex`"),
        ("# tracer: nop\n#\nQG\0\0\u{1}\0\0\0type: 372\n", "`bin`"),
        ("# tracer: nop\n#\nkvm_fpu: load\n", "`context-info`"),
        ("kvm_entry: vcpu 0\n", "`context-info`"),
        ("     0.000 kt/21653 kvmmmu:kvm_mmu_get_page(role: 6018, created: 1)\n", "`perf trace`"),
        ("     0.000 ( 0.012 ms): CPU 0/KVM/21653 kvm:kvm_entry(rip: 4096)\n", "`perf trace`"),
        ("     0.000 kvm:kvm_entry(rip: 4096)\n", "`perf trace`"),
        (
            "host.dat: cpus=2\nhost.dat:               kt-95    [000]    11.7: kvm_entry:             vcpu 0\n",
            "several files",
        ),
    ];
    for (head, word) in heads {
        let why = kind(head).unwrap_or_else(|| panic!("{head}")).unwrap_err();
        assert!(why.contains(word), "{head}: {why}");
    }
}
