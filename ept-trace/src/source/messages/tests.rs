//! Logs in every dialect and envelope, torn ones, and damaged ones.

mod damaged;
mod judged;

use super::*;
use crate::model::{VmcsDump, Walk};

const VMCS: &str = include_str!("../../../../tests/corpus/messages/vmcs-6.12.txt");
const MAIL: &str = include_str!("../../../../tests/corpus/messages/vmcs-4.19-mail.txt");
const INTERLEAVED: &str = include_str!("../../../../tests/corpus/messages/vmcs-interleaved.txt");
const JSON: &str = include_str!("../../../../tests/corpus/messages/vmcs-ve-7.2.json");
const SYSLOG: &str = include_str!("../../../../tests/corpus/messages/hierarchy-5.4-syslog.txt");
const HIERARCHY: &str = include_str!("../../../../tests/corpus/messages/hierarchy-6.12.txt");
const WARN: &str = include_str!("../../../../tests/corpus/messages/warn-7.0.txt");
const VMCB: &str = include_str!("../../../../tests/corpus/messages/vmcb-7.2.txt");
const QEMU: &str = include_str!("../../../../tests/corpus/messages/qemu.txt");
const OLD_BUG: &str = include_str!("../../../../tests/corpus/messages/console-svm-5.10.txt");
const NEW_BUG: &str = include_str!("../../../../tests/corpus/messages/console-svm-7.2.txt");
const ALL: [&str; 11] =
    [VMCS, MAIL, INTERLEAVED, JSON, SYSLOG, HIERARCHY, WARN, VMCB, QEMU, OLD_BUG, NEW_BUG];

/// All that a log tells.
fn read(log: &[u8]) -> (Vec<Event>, Skipped) {
    let mut messages = Messages::new(Box::new(io::Cursor::new(log.to_owned())));
    let (mut events, mut skipped) = (Vec::new(), Skipped::default());
    loop {
        let mut told = Told::default();
        messages.read(&mut told).unwrap();
        if told.events.is_empty() && told.skipped.count == 0 {
            return (events, skipped);
        }
        events.extend(told.events);
        skipped.append(told.skipped);
    }
}

/// All that a log without anything unreadable tells.
fn told(log: &str) -> Vec<Event> {
    let (events, skipped) = read(log.as_bytes());
    assert_eq!(skipped, Skipped::default());
    events
}

fn dumps(log: &str) -> Vec<VmcsDump> {
    let dump = |event| match event {
        Event { kind: EventKind::VmcsDump(dump), .. } => Some(dump),
        _ => None,
    };
    told(log).into_iter().filter_map(dump).collect()
}

fn walks(log: &str) -> Vec<Walk> {
    let walk = |event| match event {
        Event { kind: EventKind::Walk(walk), .. } => Some(*walk),
        _ => None,
    };
    told(log).into_iter().filter_map(walk).collect()
}

/// Whose words, and the words.
fn complaints(log: &str) -> Vec<(String, String)> {
    let complaint = |event| match event {
        Event { kind: EventKind::Complaint { by, text }, .. } => Some((by, text)),
        _ => None,
    };
    told(log).into_iter().filter_map(complaint).collect()
}

fn said(by: &str, text: &str) -> (String, String) {
    (by.to_owned(), text.to_owned())
}

#[test]
fn a_vmcs_is_put_together() {
    let dump = VmcsDump {
        vmcs: Some(0xf971_be22),
        eptp: Some(0x1_1c4f_505e),
        exit_reason: Some(0x8000_0021),
        exit_qualification: Some(0),
        gpa: None,
    };
    let expected = std::slice::from_ref(&dump);
    let kind = EventKind::VmcsDump(dump.clone());
    assert_eq!(told(VMCS), [Event { time_ns: 673_850_218_000, kind }]);
    // The same in the other envelopes, without the module's name, and with other ends of lines.
    let message = |line: &str| line.split_once("] ").unwrap().1.to_owned();
    for envelope in [
        "",
        "> ",
        "[Sun Nov 22 14:39:23 2026] ",
        "kern  :err   : [  673.850218] ",
        "3,1201,673850218,-;",
        "Nov 22 14:39:23 host kernel: ",
        "2026-11-22T14:39:23+0100 host kernel: [  673.850218] ",
        "[  673.850218] host kernel: ",
    ] {
        let lines = VMCS.lines().map(|line| format!("{envelope}{}\r\n", message(line)));
        let log: String = lines.collect();
        assert_eq!(&dumps(&log)[..], expected, "{envelope}");
        assert_eq!(&dumps(&log.replace("kvm_intel: ", ""))[..], expected, "{envelope}");
    }
}

#[test]
fn a_vmcs_in_a_quoted_mail_without_name_and_end() {
    let dump = VmcsDump {
        vmcs: None,
        eptp: Some(0x1_d8af_001e),
        exit_reason: Some(0x8000_0021),
        exit_qualification: Some(3),
        gpa: None,
    };
    assert_eq!(dumps(MAIL), [dump]);
}

#[test]
fn two_at_once_are_told_apart_by_caller() {
    let [first, second] = &dumps(INTERLEAVED)[..] else { panic!("two dumps") };
    assert_eq!((first.vmcs, first.eptp), (Some(0xa1a1_a1a1), Some(0x10_5a27_005e)));
    assert_eq!((first.exit_reason, first.exit_qualification), (Some(0x30), Some(0x184)));
    assert_eq!((second.vmcs, second.eptp), (Some(0xb2b2_b2b2), Some(0x10_5a27_015e)));
    assert_eq!((second.exit_reason, second.exit_qualification), (Some(0x8000_0021), Some(0)));
    // Without callers nobody can; no EPT pointer is lost, and none is said to be of the wrong VMCS.
    let without = INTERLEAVED.replace("[T78788]", "").replace("[T78789]", "");
    let dumps = dumps(&without);
    let eptps: Vec<_> = dumps.iter().filter_map(|dump| dump.eptp).collect();
    assert_eq!(eptps, [0x10_5a27_015e, 0x10_5a27_005e]);
    assert!(dumps.iter().all(|dump| dump.vmcs.is_none() || dump.eptp.is_none()));
}

#[test]
fn a_ve_in_json_has_address_and_entries() {
    let dump = VmcsDump {
        vmcs: Some(0x4441_85c0),
        eptp: Some(0x1_08a5_f05e),
        exit_reason: Some(0),
        exit_qualification: Some(0),
        gpa: Some(0xfee0_0000),
    };
    assert_eq!(dumps(JSON), [dump]);
    let [walk] = &walks(JSON)[..] else { panic!("one walk") };
    assert_eq!((walk.gpa, walk.root_level, walk.root_hpa), (0xfee0_0000, Some(4), None));
    assert_eq!(walk.entries[0], 0x8000_0001_08ad_f907);
    assert_eq!((walk.entries.len(), walk.entries[3]), (4, 1 << 63));
    assert_eq!(walk.observed_by, "kvm_mmu_print_sptes");
    assert_eq!(told(JSON)[0].time_ns, 58_012_471_000);
}

#[test]
fn entries_are_walks_in_either_dialect() {
    let [old] = &walks(SYSLOG)[..] else { panic!("one walk") };
    assert_eq!(old.observed_by, "walk_shadow_page_get_mmio_spte");
    assert_eq!((old.gpa, old.root_level), (0x268_fe10, Some(4)));
    assert_eq!(old.entries, [0x7abb_7907, 0x35a5_9907, 0x7a88_a907, 0x5d48_fc72]);
    let [new] = &walks(HIERARCHY)[..] else { panic!("one walk") };
    assert_eq!((&*new.observed_by, new.gpa), ("get_mmio_spte", 0xfee0_0000));
    assert_eq!((new.entries.len(), new.entries[3]), (4, 0x8600_0001_1a3c_0d72));
    assert_eq!((new.vm, new.vcpu, new.answer, new.requested), (0, 0, None, None));
}

#[test]
fn the_first_level_is_the_root_s_and_what_is_not_below_it_is_of_another() {
    let head = "get_mmio_spte: reserved bits set on MMU-present spte, addr 0x1000, hierarchy:\n";
    let entry =
        |level: u8| format!("------ spte = 0x{level}000 level = {level}, rsvd bits = 0x0\n");
    let log =
        |levels: &[u8]| head.to_owned() + &levels.iter().map(|l| entry(*l)).collect::<String>();
    let of = |log: &str| -> Vec<_> {
        let (events, skipped) = read(log.as_bytes());
        let walks = events.into_iter().filter_map(|event| match event.kind {
            EventKind::Walk(walk) => Some((walk.root_level.unwrap(), walk.entries.len())),
            _ => None,
        });
        walks.chain([(0, usize::try_from(skipped.count).unwrap())]).collect()
    };
    assert_eq!(of(&log(&[5, 4, 3, 2, 1])), [(5, 5), (0, 0)]);
    assert_eq!(of(&log(&[4, 3])), [(4, 2), (0, 0)], "the leaf is not printed");
    assert_eq!(of(&log(&[2, 1])), [(2, 2), (0, 0)], "shadow paging");
    assert_eq!(of(&log(&[4, 2, 1])), [(4, 1), (0, 2)], "a line is lost");
    assert_eq!(of(&log(&[6])), [(0, 1)]);
    assert_eq!(of(&(log(&[4, 3]) + &log(&[5, 4]))), [(4, 2), (5, 2), (0, 0)]);
    assert_eq!(of(&entry(1)), [(0, 1)], "the head is lost");
    // Printed in pieces, for another CPU has printed between them.
    let pieces = "#VE 1000, spte[4] = 0x4907\nanother\n, spte[3] = 0x3907\n, spte[2] = 0x2887\n";
    assert_eq!(of(pieces), [(4, 3), (0, 0)]);
}

#[test]
fn complaints_are_in_their_own_words() {
    let syslog = complaints(SYSLOG);
    assert_eq!(
        syslog,
        [
            said(
                "kvm",
                "walk_shadow_page_get_mmio_spte: detect reserved bits on spte, addr 0x268fe10, dump \
                 hierarchy: ------ spte 0x7abb7907 level 4. ------ spte 0x35a59907 level 3. ------ \
                 spte 0x7a88a907 level 2. ------ spte 0x5d48fc72 level 1."
            ),
            said(
                "kernel",
                "WARNING: CPU: 0 PID: 1195 at arch/x86/kvm/mmu.c:4373 \
                 kvm_mmu_page_fault.cold.160+0x51/0x5f"
            ),
            said("qemu", "error: kvm run failed Invalid argument"),
        ]
    );
    let texts: Vec<_> = complaints(HIERARCHY).into_iter().map(|(_, text)| text).collect();
    assert!(texts[0].ends_with("level = 1, rsvd bits = 0x7f80000000000"), "{}", texts[0]);
    assert_eq!(
        texts[1..],
        [
            "WARNING: CPU: 14 PID: 3245 at arch/x86/kvm/mmu/mmu.c:4246 \
             kvm_mmu_page_fault+0x2ad/0x6a6 [kvm]",
            "invept failed: ext=0x1 eptp=11c4f505e gpa=0x0",
            "kvm [3245]: vcpu2, guest rIP: 0xfffffff0 vmx: unexpected exit reason 0x3",
            "set kvm_intel.dump_invalid_vmcs=1 to dump internal KVM state.",
            "Invalid SPTE change: cannot replace a present leaf as_id: 0 gfn: 100 old_spte: \
             8600000113e00b77 new_spte: 8600000113f00b77 level: 1",
        ]
    );
}

#[test]
fn lines_of_each_kernel_are_known() {
    for line in [
        // 4.14 to 5.1.
        "vmwrite error: reg 6c0a value fffffe0000003000 (err 12)",
        "kvm: vmclear fail: 00000000c1a1d5b2/1b2c3d000",
        "kvm: vmptrld 00000000c1a1d5b2/1b2c3d000 failed",
        // 5.2 to 6.2.
        "kvm: vmread failed: field=681e",
        "kvm: vmwrite failed: field=201a val=11c4f505e err=12",
        "kvm: vmptrld failed: 00000000c1a1d5b2/1b2c3d000 err=9",
        "kvm: invvpid failed: ext=0x1 vpid=0 gva=0x0",
        "kvm: nested vmx abort, indicator 2",
        "SVM: kvm [93]: vcpu0, guest rIP: 0xfff0 svm: unexpected exit reason 0x8f",
        // 6.3 and later.
        "kvm_intel: vmwrite failed: field=201a val=11c4f505e err=12",
        "kvm_amd: set kvm_amd.dump_invalid_vmcb=1 to dump internal KVM state.",
        // 7.2.
        "kvm_intel: invept failed: ext=0x1 eptp=11c4f505e",
        "kvm_intel: VMCS config on CPU 3 doesn't match reference config:",
        "kvm: kvm [93]: vcpu0, guest rIP: 0xfff0 unexpected exit reason 0x8f",
        // QEMU, by whatever name.
        "KVM: unknown exit reason 38",
        "kvm: error: kvm run failed Bad address",
        "qemu-system-x86_64: error: kvm run failed Bad address",
    ] {
        assert_eq!(complaints(&format!("[    1.000000] {line}\n")).len(), 1, "{line}");
    }
}

#[test]
fn warnings_since_6_19_and_oopses_of_kvm_alone() {
    assert_eq!(
        complaints(WARN),
        [
            said(
                "kernel",
                "is_shadow_present_pte(*sptep); WARNING: arch/x86/kvm/mmu/mmu.c:484 at \
                 mark_mmio_spte+0xb2/0xc0 [kvm], CPU#0: qemu-system-x86/4292"
            ),
            said(
                "kernel",
                "Bad TDP root level = 3; WARNING: arch/x86/kvm/mmu/mmu.c:3971 at \
                 mmu_alloc_direct_roots+0x1c1/0x1f0 [kvm], CPU#2: qemu-system-x86/4293"
            ),
            said(
                "kernel",
                "BUG: unable to handle page fault for address: ffffc90000e51fd8; RIP: \
                 0010:tdp_mmu_map_handle_target_level+0x41/0x2c0 [kvm]"
            ),
        ]
    );
}

#[test]
fn bugs_of_kvm_as_the_lab_has_seen_them() {
    assert_eq!(
        complaints(OLD_BUG),
        [
            said("kvm", "gfn mismatch under direct page 0 (expected 0, got 1000000000)"),
            said("kvm", "__pte_list_remove: 00000000b310581d 0->BUG"),
            said(
                "kernel",
                "kernel BUG at arch/x86/kvm/mmu/mmu.c:903!; RIP: \
                 0010:__pte_list_remove.cold+0x2e/0x48 [kvm]"
            ),
        ]
    );
    assert_eq!(
        complaints(NEW_BUG),
        [said(
            "kernel",
            "kernel BUG at arch/x86/kvm/mmu/mmu.c:2412!; RIP: \
             0010:__kvm_mmu_get_shadow_page+0x480/0x590 [kvm]"
        )]
    );
}

#[test]
fn a_vmcb_and_qemu_complain() {
    let vmcb = "SVM vCPU0 VMCB 00000000a4006788, last attempted VMRUN on CPU 81; \
         exit_code:          ffffffffffffffff; exit_info1:         0000000000000000; \
         exit_info2:         0000000000000000; nested_cr3:         0000004085a6d000";
    assert_eq!(complaints(VMCB), [said("kvm", vmcb)]);
    let old = VMCB.lines().skip(1).collect::<Vec<_>>().join("\n").replace("kvm_amd", "SVM");
    assert!(complaints(&old)[0].1.starts_with("VMCB Control Area:; exit_code:"));
    assert_eq!(
        complaints(QEMU),
        [
            said("qemu", "KVM: entry failed, hardware error 0x7"),
            said(
                "qemu",
                "KVM internal error. Suberror: 3; extra data[0]: 0x0000000080000b0e; extra data[1]: \
                 0x0000000000000031; extra data[2]: 0x0000000000000981; extra data[3]: \
                 0x000000000002b570"
            ),
            said("qemu", "KVM internal error. Suberror: 1; emulation failure"),
            said("qemu", "error: kvm run failed Bad address"),
            said("qemu", "KVM: unknown exit, hardware reason 31"),
        ]
    );
    assert_eq!(told(QEMU)[3].time_ns, 2_500_000_000, "since the first date");
}

#[test]
fn what_is_of_others_is_passed_over_without_a_word() {
    let log = "\
[    0.000000] Linux version 6.12.0 (debian-kernel@lists.debian.org)
[    1.000000] (XEN) EPT pointer = 0x000000016e5ac01e  EPTP index = 0x0000
[    1.100000] EPT pointer (physical) = 0x0000000006612000
[    1.200000] audit: type=1327 reason=timeout
[    1.300000] reason=bored
[    1.400000] kvm: VMX disabled by BIOS
[    1.500000] kvm [1195]: vcpu0, guest rIP: 0xfff0 ignored rdmsr: 0x34
[    1.600000] WARNING: CPU: 0 PID: 1 at drivers/gpu/drm/drm_modes.c:12 drm_mode+0x1/0x2 [drm]
[    1.700000] watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [swapper/3:0]
[    1.700001] RIP: 0010:kvm_wait+0x1c/0x30
VMCS is what a VM is kept in
";
    assert_eq!(told(log), []);
}

#[test]
fn logs_are_recognised_by_what_is_in_them() {
    for log in ALL {
        assert!(recognise(log.as_bytes()), "{log}");
    }
    assert!(recognise(
        b"[    0.000000] Linux version 6.12.0\n[    0.000000] Command line: quiet\n"
    ));
    assert!(recognise(
        b"{\n \"dmesg\": [\n  {\n   \"pri\": 5,\n   \"time\":  0.000000,\n   \"msg\": \"Linux\"\n"
    ));
    let others: [&[u8]; 9] = [
        b"BUG: my program\nEPT pointer = none\n",
        b"",
        b"# tracer: nop\n#\n   kt-18264   [000] ...1.  1353.455712: kvm_fpu: load\n",
        b"{\"time_ns\":1,\"event\":\"gap\",\"reason\":\"x\"}\n",
        b"     kt   103 [000]     6.757271:    kvm:kvm_page_fault: vcpu 0 rip 0x1000\n",
        b"Apr 24 14:07:29 host sshd[12]: Accepted publickey\n",
        b"PERFILE2\x68\0\0\0[    0.0",
        b"kvm_fpu: load\nkvm_entry: vcpu 0, rip 0x1000\n",
        b"[not a stamp] a\n[not a stamp] b\n[    1.000000] c\nd\ne\n",
    ];
    for other in others {
        assert!(!recognise(other), "{}", String::from_utf8_lossy(other));
    }
}
