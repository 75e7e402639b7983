use super::*;
use crate::analysis::HookCounts;
use crate::model::{
    Behaviour, ConfigureMmu, CpuidLeaves, Decision, Event, Evidence, Fact, FaultLoop, Hardware,
    Inputs, KernelFacts, KvmState, MmuState, Mode, Race, Requested, Root, ShadowMmu, VmcsDump,
};
use crate::oracle::{Absent, End};

fn judged(micros: u64, kind: EventKind, judgements: Vec<Judgement>) -> Judged {
    let event = Event { time_ns: 1_000_000_000 + micros * 1000, kind };
    Judged { judgements: judgements.into(), ..Judged::of(event) }
}

fn says(rule: &'static str, verdict: Verdict, message: &str) -> Judgement {
    Judgement { rule, verdict, message: message.to_owned().into(), evidence: vec![], known: None }
}

fn hooks() -> EventKind {
    let status = |hook: &str, attached, how: &str| HookStatus {
        hook: hook.to_owned(),
        attached,
        how: how.to_owned(),
    };
    EventKind::Hooks {
        hooks: vec![
            status("kvm_init_mmu", true, "kprobe kvm:kvm_init_mmu"),
            status("init_kvm_tdp_mmu", false, "inlined by the compiler: no such symbol"),
        ],
        not_seen: vec!["hardware_setup".to_owned()],
    }
}

fn facts() -> KernelFacts {
    KernelFacts {
        release: "6.12.0".to_owned(),
        vendor: Vendor::Vmx,
        behaviour: Behaviour {
            has_tdp_root_level: true,
            has_max_tdp_level: true,
            ..Behaviour::default()
        },
        hardware: Hardware {
            ept_vpid_cap: Fact::unknown("no /dev/cpu/0/msr"),
            offers_ept: Fact::unknown("no /dev/cpu/0/msr"),
            host_la57: Fact::known(false, "mmap"),
            ..Hardware::default()
        },
        kvm: KvmState {
            tdp_enabled: Fact::known(true, "kcore"),
            max_tdp_level: Fact::known(5, "kcore"),
            tdp_root_level: Fact::unknown("hidden"),
            enable_ept: Fact::known(true, "kcore"),
            vmx_capability_ept: Fact::known(0xc0, "kcore"),
            npt_enabled: Fact::unknown("no kvm_amd"),
            ..KvmState::default()
        },
    }
}

fn decision(micros: u64, maxphyaddr: u32, level: u8, judgement: Judgement) -> Judged {
    let after = MmuState { role: 0x1a5, root_level: Some(level), ..MmuState::default() };
    let decision = Decision {
        observed_by: "kvm_init_mmu return".to_owned(),
        vm: 1,
        pid: 4242,
        tgid: 4242,
        vcpu: 3,
        maxphyaddr: Some(maxphyaddr),
        cpuid: Some(CpuidLeaves { entries: 30, max_leaf: Some(8), address_sizes: None }),
        before: Some(MmuState::default()),
        after,
        inputs: Inputs { max_tdp_level: Some(5), ..Inputs::default() },
        ..Decision::default()
    };
    let kind = EventKind::Decision(Box::new(decision));
    let expected_level = (judgement.verdict != Verdict::Undetermined).then_some(5);
    let mode = Some(Mode::Tdp);
    Judged { mode, expected_level, ..judged(micros, kind, vec![judgement]) }
}

/// A decision without anything that could be read.
fn unread(micros: u64) -> Judged {
    let kind = EventKind::Decision(Box::default());
    judged(micros, kind, vec![says("EPT101", Verdict::Undetermined, "nothing was read")])
}

/// One of everything that a stream can hold.
pub(in crate::sink) fn stream() -> Vec<Judged> {
    let undetermined = says("EPT106", Verdict::Undetermined, "MSR 0x48c: no /dev/cpu/0/msr");
    let mismatch = Judgement {
        evidence: vec![
            Evidence::new("root level", 4, "kvm_init_mmu return"),
            Evidence::new("max_tdp_level", 5, "read at the decision"),
        ],
        ..says("EPT103", Verdict::Mismatch, "root level is 4, should be 5")
    };
    let arguments = ConfigureMmu {
        enable_tdp: true,
        forced_root_level: None,
        max_root_level: Some(5),
        huge_page_level: Some(3),
    };
    let load = Load {
        observed_by: "vmwrite EPT_POINTER".to_owned(),
        vm: 1,
        pid: 4242,
        vcpu: 3,
        maxphyaddr: Some(52),
        eptp: Some(0x1234_5066),
        root_hpa: 0x1234_5000,
        level: 5,
        mmu_level: Some(5),
        page_role: Some(0x1a5),
        ..Load::default()
    };
    let svm = Load { nested: true, eptp: None, page_role: None, ..load.clone() };
    let faults = FaultLoop {
        vm: 1,
        pid: 4242,
        vcpu: 3,
        gpa: 1 << 48,
        error_code: 6,
        answer: 4,
        count: 256,
        for_ns: 1_000_000,
        mmu_level: Some(4),
    };
    let root = Root {
        vm: 1,
        pid: 4242,
        vcpu: 3,
        gfn: 0,
        role: Some(0x8005),
        root_level: Some(5),
        ..Root::default()
    };
    let set_up = || EventKind::Facts(Box::new(facts()));
    let loss = EventKind::Loss { hook: "kvm_init_mmu".to_owned(), records: 7 };
    let gap = EventKind::Gap { reason: "kvm was loaded again".to_owned() };
    let setup = EventKind::HardwareSetup { function: "vmx_hardware_setup".to_owned() };
    vec![
        judged(0, hooks(), vec![]),
        judged(1, set_up(), vec![undetermined.clone()]),
        judged(2, setup, vec![]),
        judged(3, EventKind::ConfigureMmu(arguments), vec![says("EPT104", Verdict::Ok, "")]),
        decision(4, 52, 5, says("EPT103", Verdict::Ok, "root level 5")),
        decision(5, 52, 4, mismatch),
        judged(6, EventKind::Root(root), vec![says("EPT103", Verdict::Ok, "")]),
        unread(7),
        judged(8, set_up(), vec![undetermined]),
        judged(9, loss, vec![]),
        judged(10, gap, vec![]),
        judged(11, EventKind::Load(Box::new(load)), vec![says("EPT202", Verdict::Ok, "")]),
        judged(12, EventKind::Load(Box::new(svm)), vec![]),
        shadow(13, Nested::Ept { eptp12: Some(0x5e), shown: Some(0x141) }),
        shadow(14, Nested::Npt { l1: Some((0x20, 0x500)) }),
        judged(15, EventKind::FaultLoop(faults), vec![]),
        judged(16, EventKind::VmGone { vm: 1 }, vec![]),
        walked(17),
    ]
}

fn walked(micros: u64) -> Judged {
    let walk = Walk {
        observed_by: "the hook".into(),
        vm: 1,
        pid: 4242,
        vcpu: 3,
        gpa: 0x3000,
        error_code: 2,
        answer: Some(5),
        result: 1,
        requested: Some(Requested { gfn: 3, pfn: 0x12345, level: 1 }),
        root_hpa: Some(0x5000),
        root_level: Some(4),
        entries: vec![0x6907, 0x8000_0000_0000_0000],
        races: vec![Race::Notifier],
        ..Walk::default()
    };
    let judged = judged(micros, EventKind::Walk(Box::new(walk)), vec![]);
    Judged { walk_end: Some(Ok(End::Absent(Absent::Empty))), ..judged }
}

fn shadow(micros: u64, nested: Nested) -> Judged {
    let mmu = ShadowMmu {
        observed_by: "the hook".to_owned(),
        vm: 1,
        pid: 4242,
        vcpu: 3,
        maxphyaddr: Some(52),
        nested,
        level: Some(4),
        walk_level: Some(4),
        direct: Some(false),
        role: Some(4),
        inputs: Inputs::default(),
    };
    judged(micros, EventKind::ShadowMmu(Box::new(mmu)), vec![])
}

pub(in crate::sink) fn summary() -> Summary {
    let hook = "kvm_init_mmu".to_owned();
    let counts = HookCounts { hook, fired: 10, delivered: 2, filtered: 1, dropped: 4, missed: 3 };
    Summary {
        decisions: 3,
        walks: 1,
        mismatches: 1,
        undetermined: 3,
        lost: 7,
        gaps: 1,
        hooks: vec![counts],
        ..Summary::default()
    }
}

fn shown(colour: bool, quiet: bool, stream: &[Judged]) -> String {
    let mut out = Vec::new();
    let mut text = Text::new(&mut out, colour, quiet);
    for judged in stream {
        text.event(judged).unwrap();
    }
    text.finish(&summary()).unwrap();
    String::from_utf8(out).unwrap()
}

const WHOLE: &str = "\
attached     kvm_init_mmu (kprobe kvm:kvm_init_mmu)
not seen     hardware_setup
      1.000001  set-up       kvm_intel, decision D (5.15 to 6.15): tdp_enabled true, max_tdp_level 5, tdp_root_level ?  undetermined
    EPT106 undetermined: MSR 0x48c: no /dev/cpu/0/msr
      1.000002  set-up       hardware_setup seen: vmx_hardware_setup
      1.000003  set-up       kvm_configure_mmu: enable_tdp true, forced ?, max 5, huge page level 3  ok
      1.000004  decision     VM 1 (pid 4242) vCPU 3: MAXPHYADDR 52, tdp, root level 5  ok
      1.000005  decision     VM 1 (pid 4242) vCPU 3: MAXPHYADDR 52, tdp, root level 4  MISMATCH
    EPT103 MISMATCH: root level is 4, should be 5
      root level = 4  (kvm_init_mmu return)
      max_tdp_level = 5  (read at the decision)
      1.000006  root         VM 1 (pid 4242) vCPU 3: root page of level 5 in use  ok
      1.000007  decision     VM 0 (pid 0) vCPU 0: MAXPHYADDR ?, ?, root level ?  undetermined
    EPT101 undetermined: nothing was read
      1.000008  set-up       kvm_intel, decision D (5.15 to 6.15): tdp_enabled true, max_tdp_level 5, tdp_root_level ?  undetermined
      1.000009  LOSS         7 records of kvm_init_mmu are lost
      1.000010  GAP          kvm was loaded again
      1.000011  root         VM 1 (pid 4242) vCPU 3: EPTP 0x12345066, level 5  ok
      1.000012  root         VM 1 (pid 4242) vCPU 3: nCR3 0x12345000, level 5, for L2
      1.000013  nested       VM 1 (pid 4242) vCPU 3: shadows EPTP12 0x5e, root level 4
      1.000014  nested       VM 1 (pid 4242) vCPU 3: shadows NPT of L1 (CR4 0x20), root level 4
      1.000015  fault loop   VM 1 (pid 4242) vCPU 3: GPA 0x1000000000000 faulted 256 times in a row
      1.000016  gone         VM 1
      1.000017  walk         VM 1 (pid 4242) vCPU 3: GPA 0x3000: not present
3 decisions, 1 walks: 1 mismatches, 3 undetermined, 0 advisories; 7 records lost, 1 gaps
hook                                fired delivered  filtered   dropped    missed
kvm_init_mmu                           10         2         1         4         3
";

#[test]
fn a_stream_reads_as_written_here() {
    assert_eq!(shown(false, false, &stream()), WHOLE);
}

const QUIET: &str = "      1.000001  set-up       kvm_intel, decision D (5.15 to 6.15): tdp_enabled true, max_tdp_level 5, tdp_root_level ?  undetermined
    EPT106 undetermined: MSR 0x48c: no /dev/cpu/0/msr
      1.000005  decision     VM 1 (pid 4242) vCPU 3: MAXPHYADDR 52, tdp, root level 4  MISMATCH
    EPT103 MISMATCH: root level is 4, should be 5
      root level = 4  (kvm_init_mmu return)
      max_tdp_level = 5  (read at the decision)
      1.000007  decision     VM 0 (pid 0) vCPU 0: MAXPHYADDR ?, ?, root level ?  undetermined
    EPT101 undetermined: nothing was read
      1.000008  set-up       kvm_intel, decision D (5.15 to 6.15): tdp_enabled true, max_tdp_level 5, tdp_root_level ?  undetermined
      1.000009  LOSS         7 records of kvm_init_mmu are lost
      1.000010  GAP          kvm was loaded again
3 decisions, 1 walks: 1 mismatches, 3 undetermined, 0 advisories; 7 records lost, 1 gaps
";

#[test]
fn quiet_hides_what_is_ok_and_never_loss_gap_or_mismatch() {
    assert_eq!(shown(false, true, &stream()), QUIET);
}

#[test]
fn a_missing_fact_is_told_once_and_another_is_told_too() {
    let other = says("EPT101", Verdict::Undetermined, "something else was not read");
    let decision = judged(0, EventKind::Decision(Box::default()), vec![other]);
    let text = shown(false, false, &[unread(0), unread(1), decision, unread(2)]);
    assert_eq!(text.matches("nothing was read").count(), 1);
    assert_eq!(text.matches("something else was not read").count(), 1);
    assert_eq!(text.matches("  undetermined\n").count(), 4, "and each is marked");
}

#[test]
fn a_mismatch_is_told_each_time() {
    let mismatch = || says("EPT103", Verdict::Mismatch, "root level is 4, should be 5");
    let twice = [decision(0, 52, 4, mismatch()), decision(1, 52, 4, mismatch())];
    assert_eq!(shown(false, true, &twice).matches("should be 5").count(), 2);
}

#[test]
fn without_a_vendor_module_no_values_are_shown() {
    let none = KernelFacts { vendor: Vendor::None, ..facts() };
    let text = shown(false, false, &[judged(0, EventKind::Facts(Box::new(none)), vec![])]);
    assert!(text.starts_with("      1.000000  set-up       no vendor module of KVM is loaded\n"));
}

#[test]
fn colour_marks_the_verdicts_alone() {
    let coloured = shown(true, false, &stream());
    for verdict in ["\x1b[31mMISMATCH\x1b[0m", "\x1b[33mundetermined\x1b[0m", "\x1b[32mok\x1b[0m"] {
        assert!(coloured.contains(verdict), "{verdict:?}");
    }
    let mut plain = coloured;
    for code in ["\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"] {
        plain = plain.replace(code, "");
    }
    assert_eq!(plain, shown(false, false, &stream()));
}

/// What a log tells: no VM is named.
pub(in crate::sink) fn of_a_log() -> Vec<Judged> {
    let walk = Walk {
        observed_by: "get_mmio_spte".into(),
        gpa: 0xfee0_0000,
        root_level: Some(4),
        entries: vec![0x6907, 0x5d48_fc72],
        ..Walk::default()
    };
    let dump = VmcsDump {
        vmcs: Some(0xf971_be22),
        eptp: Some(0x5e),
        exit_reason: Some(0x8000_0021),
        ..VmcsDump::default()
    };
    let text = "KVM: entry failed, hardware error 0x7".to_owned();
    let missing = Err("no facts of the machine".to_owned());
    vec![
        judged(0, EventKind::Complaint { by: "qemu".to_owned(), text }, vec![]),
        judged(1, EventKind::VmcsDump(dump), vec![says("EPT201", Verdict::Ok, "")]),
        judged(2, EventKind::VmcsDump(VmcsDump::default()), vec![]),
        Judged { walk_end: Some(missing), ..judged(3, EventKind::Walk(Box::new(walk)), vec![]) },
    ]
}

#[test]
fn a_log_tells_of_no_vm() {
    let text = shown(false, false, &of_a_log());
    let lines: Vec<_> = text.lines().take(4).collect();
    assert_eq!(
        lines,
        [
            "      1.000000  COMPLAINT    qemu: KVM: entry failed, hardware error 0x7",
            "      1.000001  VMCS         printed by the kernel: EPTP 0x5e, exit reason 0x80000021  ok",
            "      1.000002  VMCS         printed by the kernel: EPTP ?, exit reason ?",
            "      1.000003  walk         printed by get_mmio_spte: GPA 0xfee00000: ?",
        ]
    );
}
