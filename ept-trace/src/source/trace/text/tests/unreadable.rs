//! Fields that are not read, because they are wrong or can be read in two ways.

use super::*;

/// Which version of trace-cmd has printed a log with `-R` is found out from its first lines.
#[test]
fn the_radix_of_fields_is_proved_or_they_are_not_read() {
    let line = |event: &str| format!("  kt-9 [000]     1.000001: {event}\n");
    let change =
        line("kvm_tdp_mmu_spte_changed:  gfn=10 old_spte=0 new_spte=12345677 level=1 as_id=0");
    let of = |gfn, new| Tracepoint::SpteChanged { as_id: 0, gfn, level: 1, old: 0, new };
    let hex = of(0x10, 0x1234_5677);
    let decimal = of(10, 12_345_677);
    let proofs = [
        ("kvm_exit:  exit_reason=1024 isa=2 intr_info=0x00000000 vcpu_id=0", hex),
        ("kvm_pio:   rw=1 port=0x3f8 size=1", hex),
        ("kvm_pio:   rw=1 port=1016 size=1", decimal),
        (
            "kvm_page_fault:   vcpu_id=0 guest_rip=0x1 fault_address=0x0000000000001000 error_code=0x14",
            hex,
        ),
        ("kvm_page_fault:   vcpu_id=0 guest_rip=0x1 fault_address=4096 error_code=20", decimal),
        ("kvm_tdp_mmu_spte_changed:  gfn=1 old_spte=0 new_spte=3febd827 level=1 as_id=0", hex),
        (
            "kvm_tdp_mmu_spte_changed:  gfn=1 old_spte=0 new_spte=9223372037925722151 level=1 as_id=0",
            decimal,
        ),
    ];
    for (proof, event) in proofs {
        let told = records(Kind::TraceCmd, &format!("{}{change}", line(proof)));
        assert_eq!(told.last().unwrap().event, event, "{proof}");
        // Before it as well.
        let told = records(Kind::TraceCmd, &format!("{change}{}", line(proof)));
        assert_eq!(told.first().unwrap().event, event, "{proof}");
    }

    let no_proofs = [
        "",
        // Its format may be too much for a library that parses the others.
        "kvm_exit:  exit_reason=1024 isa=2 intr_info=0 vcpu_id=0",
        "kvm_mmu_get_page:  mmu_valid_gen=0 gfn=786432 role=14213 created=1",
        "kvm_tdp_mmu_spte_changed:  gfn=1 old_spte=0 new_spte=5 level=1 as_id=0",
    ];
    for other in no_proofs {
        let all = read(Kind::TraceCmd, format!("{}{change}{change}", line(other)).as_bytes());
        assert_eq!((all.skipped.count, all.skipped.first.len()), (2, 1), "{other}");
        assert!(all.skipped.first.last().unwrap().contains("decimal or hexadecimal"), "{other}");
    }
}

#[test]
fn lines_that_are_not_well_formed_yield_nothing() {
    let events = [
        "kvm_entry: ",
        "kvm_entry: vcpu",
        "kvm_entry: vcpu x",
        "kvm_entry: vcpu 0x0",
        "kvm_entry: vcpu 4294967296",
        "kvm_entry: rip=0x1",
        "kvm_entry: vcpu_id=",
        "kvm_entry: vcpu_id=3x",
        "kvm_exit: vcpu 0",
        "kvm_exit: vcpu  reason npf rip 0x1000",
        "kvm_exit: vcpu reason npf",
        "kvm_page_fault: vcpu address 1000 error_code 4",
        "kvm_exit: isa=3 vcpu_id=0",
        "kvm_exit: vcpu_id=0",
        "kvm_page_fault: address 100g error_code 4",
        "kvm_page_fault: address 1000 error_code",
        "kvm_page_fault: vcpu 0 address 0x1000 error_code 0x4",
        "kvm_page_fault: address FEE00000 error_code 4",
        "kvm_tdp_mmu_spte_changed: as id 0 gfn 0 level 6 old_spte 0 new_spte 0",
        "kvm_tdp_mmu_spte_changed: as id 0 gfn 0 level 0 old_spte 0 new_spte 0",
        "kvm_tdp_mmu_spte_changed: as id 256 gfn 0 level 1 old_spte 0 new_spte 0",
        "kvm_tdp_mmu_spte_changed: as id 0 gfn 0 level 1 old_spte 0 new_spte 12345678123456781",
        "kvm_tdp_mmu_spte_changed: as id 0 gfn 0 level 1 old_spte 0x new_spte 0",
        "kvm_tdp_mmu_spte_changed: gfn=0x10 (17) old_spte=0x0 (0) new_spte=0x0 (0) level=(1) as_id=(0)",
        "kvm_tdp_mmu_spte_changed: gfn=0x10 (16) old_spte=0x0 (0) new_spte=0x0 (0) level=(1 as_id=(0)",
        "kvm_mmu_get_page: sp gen 0 gfn 0 l9 8-byte q0 direct wux nxe ad root 0 sync new",
        "kvm_mmu_get_page: sp gen 0 gfn 0 l5 8-byte q0 direct wux nxe ad root 0 sync",
        "kvm_mmu_get_page: sp gen 0 gfn 0 l5 8-byte q0 direct wux nxe ad",
        "kvm_mmu_get_page: mmu_valid_gen=0 gfn=c0000 role=14213 created=1",
        "kvm_mmu_get_page: mmu_valid_gen=0 gfn=0 role=14208 created=1",
        "kvm_mmu_get_page: mmu_valid_gen=0 gfn=0 role=4294967301 created=1",
        "kvm_mmu_get_page: mmu_valid_gen=0 gfn=0 role=14213 created=2",
        "kvm_mmu_set_spte: gfn 1 spte 2985e67 (rwxu level 1 at 3fb0f008",
        "kvm_mmu_set_spte: gfn 1 spte 2985e67 (rwxu) level 1 at",
        "kvm_mmu_spte_requested: gfn 1 pfn 2985",
        "mark_mmio_spte: sptep:(null) gfn fee00 access 6 gen 4",
        "kvm_cpuid: func 80000008 idx 0 rax 100000000 rbx 0 rcx 0 rdx 0, cpuid entry found",
        "kvm_write_tsc_offset: vcpu=1 next=5",
        "kvm_nested_vmenter: rip: 0x1 nested_ept=y",
        "kvm_nested_vmenter: rip=0x1 tdp_enabled=1 guest_pgd=0x1 isa=3",
    ];
    for event in events {
        let name = event.split(':').next().unwrap();
        let reason = why(Kind::Ftrace, &format!("  kt-9 [000] d..1. 1.0: {event}\n"));
        assert_eq!(reason, format!("line 1: {name}: its fields cannot be read"), "{event}");
    }
}

#[test]
fn the_plugin_of_trace_cmd_is_not_believed_and_that_is_said_once() {
    let begin = "              kt-95    [000]     4.339635:";
    let log = format!(
        "{begin} kvm_mmu_get_page:     new sp gfn 0 5 q0 direct wux !pae nxe wp root 0 sync\n\
         {begin} kvm_mmu_get_page:     existing sp gfn 0 4 q0 direct wux !pae nxe wp root 0 sync\n\
         {begin} kvm_mmu_prepare_zap_page: 2 q0 direct wux !pae nxe wp root 0 sync\n\
         {begin} kvm_mmu_prepare_zap_page: 1 q0 direct wux !pae nxe wp root 0 sync\n"
    );
    for kind in [Kind::TraceCmd, Kind::Ftrace] {
        let all = read(kind, log.as_bytes());
        assert_eq!(all.records, []);
        assert_eq!((all.skipped.count, all.skipped.first.len()), (4, 2));
        assert!(all.skipped.first[0].starts_with("line 1: kvm_mmu_get_page: the KVM plugin"));
        assert!(all.skipped.first[0].contains("report -N"));
        assert!(
            all.skipped.first[1].starts_with("line 3: kvm_mmu_prepare_zap_page: the KVM plugin")
        );
    }
}
