//! What is told of each tracepoint, by kernels from 4.14 to 7.2.

use super::*;
use crate::model::ToldRole;
use crate::source::trace::PageRole;

fn page(level: u8, direct: bool) -> PageRole {
    PageRole::Told(ToldRole { level, direct })
}

#[test]
fn entries() {
    let lines = [
        "vcpu 3",
        "vcpu 3, rip 0x1000",
        "vcpu 3, rip 0x1000[immediate exit]",
        "vcpu 3 rip 0x1000",
        "vcpu 3, rip 0x1000 intr_info 0x00000000 error_code 0x00000000",
        "vcpu_id=3 rip=0x1000",
        "vcpu_id=0x3 (3) rip=0x1000 (4096) immediate_exit=(0)",
    ];
    for line in lines {
        let event = told(&format!("kvm_entry: {line}"));
        assert_eq!(event, Tracepoint::Entry { vcpu: Some(3) }, "{line}");
    }
}

#[test]
fn exits() {
    let vmx = Some(1);
    let svm = Some(2);
    let lines = [
        ("reason EPT_VIOLATION rip 0x1000 info 184 0", None, vmx),
        ("reason npf rip 0x1000 info 100000014 1000", None, svm),
        ("vcpu 1 reason EXTERNAL_INTERRUPT rip 0x1000 info 0 800000ec", Some(1), vmx),
        (
            "vcpu 1 reason EPT_MISCONFIG rip 0x1000 info1 0x0000000000000000 info2 0x0000000000000000 \
             intr_info 0x00000000 error_code 0x00000000 requests 0x0000000000000000",
            Some(1),
            vmx,
        ),
        ("vcpu 1 reason INVALID_STATE FAILED_VMENTRY rip 0x1000 info1 0x0", Some(1), vmx),
        ("vcpu 1 reason 0x403 rip 0x1000 info1 0x0", Some(1), None),
        // The plugin of trace-cmd.
        ("reason EXIT_NPF rip 0x1000 info 100000014 1000", None, svm),
        ("reason UNKNOWN (1027) rip 0x1000 info 0 0", None, None),
        ("exit_reason=1024 guest_rip=0x1000 isa=2 info1=0x0 vcpu_id=1", Some(1), svm),
        ("exit_reason=48 guest_rip=0x1000 isa=1 info1=184 info2=0", None, vmx),
        ("exit_reason=0x30 (48) guest_rip=0x1000 (4096) isa=0x1 (1) vcpu_id=0x1 (1)", Some(1), vmx),
    ];
    for (line, vcpu, isa) in lines {
        let event = told(&format!("kvm_exit: {line}"));
        assert_eq!(event, Tracepoint::Exit { vcpu, isa }, "{line}");
    }
}

#[test]
fn page_faults() {
    let of = |vcpu| Tracepoint::PageFault { vcpu, gpa: 0xfee0_0000, error_code: 0x1_0000_0014 };
    let lines = [
        ("address fee00000 error_code 100000014", None),
        (
            "vcpu 0 rip 0xffffffff81000000 address 0x00000000fee00000 error_code 0x100000014",
            Some(0),
        ),
        (
            "vcpu_id=0 guest_rip=0x1000 fault_address=0x00000000fee00000 error_code=0x100000014",
            Some(0),
        ),
        ("fault_address=0xfee00000 (4276092928) error_code=0x100000014 (4294967316)", None),
    ];
    for (line, vcpu) in lines {
        assert_eq!(told(&format!("kvm_page_fault: {line}")), of(vcpu), "{line}");
    }
}

#[test]
fn pages() {
    let of = |gfn, role, created| Tracepoint::GetPage { gfn, role, created: Some(created) };
    let lines = [
        // 4.14
        (
            "sp gen 1f gfn c0000 l4 pae q0 direct wux nxe ad root 0 sync new",
            of(0xc_0000, page(4, true), true),
        ),
        (
            "sp gen 1f gfn c0000 l2 q1 wux !nxe !ad root 3 unsync existing",
            of(0xc_0000, page(2, false), false),
        ),
        // 5.4 and later
        (
            "sp gen 0 gfn 0 l5 8-byte q0 direct wux nxe ad root 0 sync new",
            of(0, page(5, true), true),
        ),
        (
            "sp gen 0 gfn fffff l1 4-byte q3 -u- invalid !nxe !ad root 1 unsync existing",
            of(0xf_ffff, page(1, false), false),
        ),
        // 7.2
        (
            "sp gen 0 gfn 0 l4 8-byte q0 direct rwux nxe ad root 1 sync existing",
            of(0, page(4, true), false),
        ),
        // fields
        (
            "mmu_valid_gen=(0) gfn=0x40000 (262144) role=0x1782 (6018) root_count=0x0 (0) unsync=(0) created=(1)",
            of(0x4_0000, PageRole::Word(0x1782), true),
        ),
        (
            "mmu_valid_gen='='(61) gfn=0x40000 (262144) role=0x80003785 (-2147469435) created=(0)",
            of(0x4_0000, PageRole::Word(0x8000_3785), false),
        ),
        // trace-cmd report -R; perf script
        (
            "mmu_valid_gen=0 gfn=786432 role=14213 root_count=0 unsync=0 created=1",
            of(0xc_0000, PageRole::Word(0x3785), true),
        ),
        (
            "[FAILED TO PARSE] mmu_valid_gen=0x1f gfn=786432 role=14213 root_count=0 unsync=0 created=0",
            of(0xc_0000, PageRole::Word(0x3785), false),
        ),
    ];
    for (line, event) in lines {
        assert_eq!(told(&format!("kvm_mmu_get_page: {line}")), event, "{line}");
    }
    let zap = |gfn, role| Tracepoint::PrepareZap { gfn, role };
    let lines = [
        ("sp gen 0 gfn 200 l2 8-byte q0 direct wux nxe ad root 0 sync", zap(0x200, page(2, true))),
        (
            "mmu_valid_gen=0 gfn=512 role=14210 root_count=0 unsync=0",
            zap(0x200, PageRole::Word(0x3782)),
        ),
    ];
    for (line, event) in lines {
        assert_eq!(told(&format!("kvm_mmu_prepare_zap_page: {line}")), event, "{line}");
    }
}

#[test]
fn sptes() {
    let changed = Tracepoint::SpteChanged {
        as_id: 1,
        gfn: 0x1_0000,
        level: 5,
        old: 1 << 63,
        new: 0x8000_0000_3fd4_5827,
    };
    let lines = [
        "as id 1 gfn 10000 level 5 old_spte 8000000000000000 new_spte 800000003fd45827",
        "gfn=10000 old_spte=8000000000000000 new_spte=800000003fd45827 level=5 as_id=1",
        "gfn=0x10000 (65536) old_spte=0x8000000000000000 (-9223372036854775808) \
         new_spte=0x800000003fd45827 (-9223372035783895001) level=(5) as_id=(1)",
        "[FAILED TO PARSE] gfn=65536 old_spte=9223372036854775808 new_spte=9223372037925656615 level=5 as_id=1",
    ];
    let hex = "  kt-9 [000] 1.0: kvm_exit:   isa=2 intr_info=0x00000000 vcpu_id=0\n";
    for line in lines {
        let log = format!("{hex}  kt-9 [000] 1.0: kvm_tdp_mmu_spte_changed: {line}\n");
        assert_eq!(records(Kind::TraceCmd, &log)[1].event, changed, "{line}");
    }

    let set = Tracepoint::SetSpte { gfn: 1, level: 1, spte: 0x298_5e67, place: 0x3fb0_f008 };
    let lines = [
        "gfn 1 spte 2985e67 (rwxu) level 1 at 3fb0f008",
        "gfn 1 spte 2985e67 (rwx) level 1 at 3fb0f008",
        "gfn=1 spte=2985e67 sptep=3fb0f008 level=1 r=1 x=1 u=1",
    ];
    for line in lines {
        assert_eq!(told(&format!("kvm_mmu_set_spte: {line}")), set, "{line}");
    }

    let requested = Tracepoint::SpteRequested { gfn: 0x1a, pfn: 0x298f, level: 2 };
    let lines =
        ["gfn 1a pfn 298f level 2", "gfn 1a pfn 298f level 2 access 7", "gfn=1a pfn=298f level=2"];
    for line in lines {
        assert_eq!(told(&format!("kvm_mmu_spte_requested: {line}")), requested, "{line}");
    }

    let mmio = Tracepoint::MarkMmio { gfn: 0xf_ee00, place: 0x5c3b_4a2d };
    let lines = [
        "sptep:000000005c3b4a2d gfn fee00 access 6 gen 4",
        "sptep:0x5c3b4a2d gfn fee00 access 6 gen 4",
        "sptep=0x5c3b4a2d gfn=fee00 access=6 gen=4",
    ];
    for line in lines {
        assert_eq!(told(&format!("mark_mmio_spte: {line}")), mmio, "{line}");
    }
}

#[test]
fn what_a_vm_does() {
    let cpuid = Tracepoint::Cpuid { function: 0x8000_0008, eax: 0x30_3030 };
    let lines = [
        "func 80000008 rax 303030 rbx 0 rcx 0 rdx 0, cpuid entry found",
        "func 80000008 idx 0 rax 303030 rbx 0 rcx 0 rdx 0, cpuid entry not found, used max basic",
        "function=0x80000008 (-2147483640) index=0x0 (0) rax=0x303030 (3158064) found=(1)",
    ];
    for line in lines {
        assert_eq!(told(&format!("kvm_cpuid: {line}")), cpuid, "{line}");
    }

    let offset = Tracepoint::WriteTscOffset { vcpu: 1, previous: 18_446_744_061_120_166_237 };
    let lines = [
        "vcpu=1 prev=18446744061120166237 next=0",
        "vcpu_id=1 previous_tsc_offset=18446744061120166237 next_tsc_offset=0",
        "vcpu_id=0x1 (1) previous_tsc_offset=0xfffffffd119d395d (-12589385379) next_tsc_offset=0x0 (0)",
    ];
    for line in lines {
        assert_eq!(told(&format!("kvm_write_tsc_offset: {line}")), offset, "{line}");
    }

    let nothing = [
        (
            "kvm_unmap_hva_range: mmu notifier unmap range: 0x4a9000 -- 0x4aa000",
            Tracepoint::UnmapHva,
        ),
        ("kvm_mmu_zap_all_fast: kvm-mmu-valid-gen 1 used_pages 10", Tracepoint::ZapAllFast),
        (
            "kvm_mmu_invalidate_zap_all_pages: kvm-mmu-valid-gen 1 used_pages 10",
            Tracepoint::ZapAllFast,
        ),
        ("kvm_nested_vmexit_inject: reason: EPT_VIOLATION ext_inf1: 0x184", Tracepoint::NestedExit),
        ("kvm_nested_vmenter_failed: (eptp)", Tracepoint::NestedExit),
    ];
    for (line, event) in nothing {
        assert_eq!(told(line), event, "{line}");
    }
}

#[test]
fn an_exit_of_l2_is_not_one_to_l1() {
    let line = "  kt-9 [000] d..1. 1.0: kvm_nested_vmexit: vcpu 0 reason EPT_VIOLATION rip 0x1\n";
    let all = read(Kind::Ftrace, line.as_bytes());
    assert_eq!((all.records.len(), all.others, all.skipped.count), (0, 1, 0));
}

#[test]
fn entries_of_l2() {
    let of = |pgd, is_ept| Tracepoint::NestedEnter { pgd, is_ept };
    let begin = "rip: 0x0000000000001000 vmcs: 0x0000000000002000 nested_rip: 0x0000000000003000 \
        int_ctl: 0x00000000 event_inj: 0x00000000";
    let lines = [
        (
            format!("{begin} nested_ept=y nested_eptp: 0x000000000010605e"),
            of(Some(0x10_605e), Some(true)),
        ),
        (
            format!("{begin} nested_npt=y nested_cr3: 0x0000000000106000"),
            of(Some(0x10_6000), Some(false)),
        ),
        (format!("{begin} nested_ept=n guest_cr3: 0x0000000000106000"), of(None, None)),
        (format!("{begin} npt: on"), of(None, Some(false))),
        (format!("{begin} npt: off"), of(None, None)),
        (
            "rip=0x1 vmcb=0x2 tdp_enabled=1 guest_pgd=0x10605e isa=1".to_owned(),
            of(Some(0x10_605e), Some(true)),
        ),
        ("rip=0x1 vmcb=0x2 tdp_enabled=0 guest_pgd=0x10605e isa=1".to_owned(), of(None, None)),
        (
            "rip=0x1 vmcb=0x2 tdp_enabled=(1) guest_pgd=0x106000 (1073152) isa=0x2 (2)".to_owned(),
            of(Some(0x10_6000), Some(false)),
        ),
        ("rip=0x1 vmcb=0x2 nested_rip=0x3 npt=1".to_owned(), of(None, Some(false))),
    ];
    for (line, event) in &lines {
        assert_eq!(told(&format!("kvm_nested_vmenter: {line}")), *event, "{line}");
    }
    assert_eq!(told(&format!("kvm_nested_vmrun: {begin} npt: on")), of(None, Some(false)));
}
