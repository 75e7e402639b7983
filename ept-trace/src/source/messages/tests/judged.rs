//! What the rules say of logs: a fault and its healthy twin, with all facts, with some, with none.

use super::*;
use crate::analysis::Analysis;
use crate::model::{
    Behaviour, Evidence, Fact, Hardware, Judgement, KernelFacts, KvmState, Vendor, Verdict,
};

/// Walks of 4 levels, write-back, 2 MiB, 1 GiB, accessed and dirty flags.
const CAPABILITY: u64 = 1 << 6 | 1 << 14 | 1 << 16 | 1 << 17 | 1 << 21;

/// What a machine with 46 bits, and its 6.12, tell of themselves.
fn whole() -> KernelFacts {
    KernelFacts {
        release: "test".to_owned(),
        vendor: Vendor::Vmx,
        behaviour: Behaviour::default(),
        hardware: Hardware {
            ept_vpid_cap: Fact::known(CAPABILITY, "test"),
            maxphyaddr: Fact::known(46, "test"),
            ..Hardware::default()
        },
        kvm: KvmState {
            tdp_enabled: Fact::known(true, "test"),
            shadow_mmio_value: Fact::known(6, "test"),
            shadow_mmio_mask: Fact::known(1 << 63 | 7, "test"),
            ..KvmState::default()
        },
    }
}

/// Only what `--ept-cap` says.
fn capability_alone() -> KernelFacts {
    let hardware =
        Hardware { ept_vpid_cap: Fact::known(CAPABILITY, "test"), ..Hardware::default() };
    KernelFacts { hardware, kvm: KvmState::default(), ..whole() }
}

/// What a rule says of a log.
fn judged(rule: &str, log: &str, facts: Option<KernelFacts>) -> Vec<Judgement> {
    let mut analysis = Analysis::default();
    if let Some(facts) = facts {
        let kind = EventKind::Facts(Box::new(facts));
        analysis.judge(Event { time_ns: 0, kind });
    }
    let judgements =
        told(log).into_iter().flat_map(|event| analysis.judge(event).judgements.to_vec());
    judgements.filter(|judgement| judgement.rule == rule).collect()
}

fn verdicts(rule: &str, log: &str, facts: Option<KernelFacts>) -> Vec<Verdict> {
    judged(rule, log, facts).into_iter().map(|judgement| judgement.verdict).collect()
}

#[test]
fn an_eptp_with_a_reserved_bit_is_wrong_whatever_is_known() {
    assert_eq!(verdicts("EPT201", VMCS, Some(whole())), [Verdict::Ok]);
    assert_eq!(verdicts("EPT201", VMCS, None), [Verdict::Undetermined]);
    let seeded = VMCS.replace("011c4f505e", "011c4f515e");
    for facts in [Some(whole()), Some(capability_alone()), None] {
        assert_eq!(verdicts("EPT201", &seeded, facts), [Verdict::Mismatch]);
    }
    // One of two that were printed at once.
    assert_eq!(verdicts("EPT201", INTERLEAVED, Some(whole())), [Verdict::Ok, Verdict::Mismatch]);
}

#[test]
fn an_entry_that_the_cpu_refuses_is_found() {
    for log in [SYSLOG, HIERARCHY] {
        assert_eq!(verdicts("EPT301", log, Some(whole())), [Verdict::Mismatch]);
        // W without R is refused by every CPU.
        assert_eq!(verdicts("EPT301", log, Some(capability_alone())), [Verdict::Mismatch]);
        let [unknown] = &judged("EPT301", log, None)[..] else { panic!("one walk") };
        assert_eq!(unknown.verdict, Verdict::Undetermined);
        for flag in ["--kernel-facts", "--ept-cap"] {
            assert!(unknown.message.contains(flag), "{}", unknown.message);
        }
        assert_eq!(verdicts("EPT306", log, None), [Verdict::Undetermined]);
    }
    let healthy = HIERARCHY.replace("0x860000011a3c0d72", "0x860000011a3c0f77");
    assert_eq!(verdicts("EPT301", &healthy, Some(whole())), [Verdict::Ok]);
    assert_eq!(verdicts("EPT306", &healthy, Some(whole())), [Verdict::Ok]);
    // Whether a CPU of unknown width takes it is not known.
    assert_eq!(verdicts("EPT301", &healthy, Some(capability_alone())), [Verdict::Undetermined]);
    assert_eq!(verdicts("EPT306", &healthy, Some(capability_alone())), [Verdict::Undetermined]);
    let wide = HIERARCHY.replace("0x860000011a3c0d72", "0x860041011a3c0f77");
    assert_eq!(verdicts("EPT306", &wide, Some(whole())), [Verdict::Mismatch]);
    assert_eq!(verdicts("EPT301", &wide, Some(whole())), [Verdict::Mismatch]);
}

#[test]
fn mmio_is_quiet_and_where_kvm_s_masks_are_not_known_nothing_is_said() {
    // As 5.4 to 5.12 print it, and with the masks of a newer KVM.
    let mmio = SYSLOG.replace("0x5d48fc72", "0x7e0000000268f006");
    assert_eq!(verdicts("EPT301", &mmio, Some(whole())), [Verdict::Ok]);
    assert_eq!(verdicts("EPT306", &mmio, Some(whole())), [Verdict::Ok]);
    assert_eq!(verdicts("EPT301", &mmio, Some(capability_alone())), [Verdict::Undetermined]);
    // The newer KVM leaves it out.
    let lines = HIERARCHY.lines().filter(|line| !line.contains("level = 1"));
    let cut = lines.collect::<Vec<_>>().join("\n");
    let [cut] = &judged("EPT301", &cut, Some(whole()))[..] else { panic!("one walk") };
    assert_eq!(cut.verdict, Verdict::Undetermined);
    assert!(cut.message.contains("the entry of level 1 is not printed"), "{}", cut.message);
}

#[test]
fn what_is_no_walk_of_the_cpu_s_is_not_taken_for_one() {
    // 5.10-rc printed one level more than there was, from its stack (9a2a0d3ca163).
    let stray = "\
get_mmio_spte: detect reserved bits on spte, addr 0xb80a0, dump hierarchy:
------ spte 0xb80a0 level 5.
------ spte 0xfcd210107 level 4.
------ spte 0x1004c40107 level 3.
------ spte 0x1004c41107 level 2.
------ spte 0x1db00000000b83b6 level 1.
";
    let five = || {
        let mut facts = whole();
        facts.hardware.ept_vpid_cap = Fact::known(CAPABILITY | 1 << 7, "test");
        facts
    };
    let [stray] = &judged("EPT301", stray, Some(five()))[..] else { panic!("one walk") };
    assert_eq!(stray.verdict, Verdict::Undetermined);
    assert!(stray.message.contains("are not of one walk"), "{}", stray.message);
    // Shadow paging, by its level, or because EPT is off.
    let shadow = "get_mmio_spte: reserved bits set on MMU-present spte, addr 0xfffff000, hierarchy:\n\
                  ------ spte = 0x8913827 level = 2, rsvd bits = 0xffff000000000000\n\
                  ------ spte = 0xfffffc4465825 level = 1, rsvd bits = 0xffff000000000000\n";
    let mut off = whole();
    off.kvm.tdp_enabled = Fact::known(false, "test");
    for (log, facts) in [(shadow, whole()), (HIERARCHY, off)] {
        let [judgement] = &judged("EPT301", log, Some(facts))[..] else { panic!("one walk") };
        assert_eq!(judgement.verdict, Verdict::Undetermined);
        assert!(judgement.message.contains("shadow paging"), "{}", judgement.message);
    }
}

#[test]
fn the_table_of_the_first_entry_is_not_made_up() {
    // An entry leads to table 0, where a root that is not known might be thought to be.
    let to_zero = HIERARCHY.replace("0x8000000108adf907", "0x8000000000000907");
    let [judgement] = &judged("EPT301", &to_zero, Some(whole()))[..] else { panic!("one walk") };
    let what: Vec<_> = judgement.evidence.iter().map(|part: &Evidence| &part.what[..]).collect();
    assert_eq!(
        what,
        [
            "GPA",
            "level 4, entry 0 of the root",
            "level 3, table 0x0, entry 3",
            "level 2, table 0x10bd70000, entry 503",
            "level 1, table 0x10bd71000, entry 0",
            "walk",
        ]
    );
    assert_eq!(judgement.evidence[1].origin, "printed by get_mmio_spte");
    assert_eq!(verdicts("EPT305", &to_zero, Some(whole())), [Verdict::Ok]);
}
