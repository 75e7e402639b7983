mod walk;

use ept_trace_common::abi::{Field, Subject};

use super::*;
use crate::kernel::Btf;

const VM: u64 = 0xffff_c900_0000_1000;
const OTHER_VM: u64 = 0xffff_c900_0000_2000;

/// A record as the ring holds it.
fn bytes<T: Plain>(record: &T) -> Vec<u8> {
    let (start, length) = (std::ptr::from_ref(record).cast::<u8>(), size_of::<T>());
    // SAFETY: all of a value that is borrowed, and `Plain` says that it has no padding.
    unsafe { std::slice::from_raw_parts(start, length) }.to_vec()
}

fn header(kind: u32, hook: Hook) -> Header {
    Header { kind, hook: hook as u32, time_ns: 7, tgid: 100, tid: 101 }
}

/// The layout of a kernel whose BTF is empty.
fn layout() -> Layout {
    let mut empty = [0; 25];
    empty[..2].copy_from_slice(&[0x9f, 0xeb]);
    (empty[4], empty[20]) = (24, 1);
    Layout::resolve(&Btf::parse(&empty).unwrap())
}

/// Members of a kernel that has VM types.
fn fields() -> Fields {
    Fields { vm_type: Field { offset: 8, size: 4, ..Field::ABSENT }, ..layout().fields }
}

const INPUTS: RawInputs = RawInputs { valid: 0x7f, value: [1, 5, 4, 1, 0xf010_6334, 1, 1] };

/// [`INPUTS`], decoded.
fn inputs_read() -> Inputs {
    Inputs {
        tdp_enabled: Some(true),
        max_tdp_level: Some(5),
        tdp_root_level: Some(4),
        enable_ept: Some(true),
        vmx_capability_ept: Some(0xf010_6334),
        npt_enabled: Some(true),
        enable_ept_ad_bits: Some(true),
    }
}

/// A decision in which every member is there and none is 0.
const SUBJECT: Subject = Subject {
    vm: VM,
    vcpu: 0xffff_8880_0000_0000,
    creator: 99,
    vcpu_id: 3,
    maxphyaddr: 52,
    unread: 0,
};

fn full() -> DecisionRecord {
    let state = RawMmuState {
        role: 1,
        cpu_role: 2,
        root_level: 5,
        direct: 1,
        handler: handler::TDP,
        reserved: 0,
    };
    DecisionRecord {
        header: header(kind::DECISION, Hook::InitMmuReturn),
        of: SUBJECT,
        flags: flag::LEAF_80000000
            | flag::LEAF_80000008
            | flag::CPUID_READ
            | flag::BEFORE_READ
            | flag::TDP_INIT_SEEN,
        vm_type: 1,
        cpuid_nent: 30,
        leaf_80000000_eax: 0x80000008,
        leaf_80000008_eax: 0x3934,
        reserved: 0,
        cr4: 0x1020,
        efer: 0x500,
        before: RawMmuState { root_level: 4, ..state },
        after: state,
        inputs: INPUTS,
    }
}

/// The same, of another VM.
fn subject(vm: u64) -> Subject {
    Subject { vm, ..SUBJECT }
}

/// The same vCPU, of which something could not be read.
fn unread(members: u32) -> Subject {
    Subject { unread: members, ..SUBJECT }
}

fn event(decoder: &mut Decoder, bytes: &[u8]) -> EventKind {
    let Some(Record::Event(event)) = decoder.decode(bytes, &fields()) else {
        panic!("not an event");
    };
    assert_eq!(event.time_ns, 7);
    event.kind
}

fn decision(decoder: &mut Decoder, record: &DecisionRecord) -> Decision {
    match event(decoder, &bytes(record)) {
        EventKind::Decision(decision) => *decision,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_whole_decision_is_decoded() {
    let state = MmuState {
        role: 1,
        cpu_role: 2,
        root_level: Some(5),
        direct: Some(true),
        page_fault: Some(PageFaultHandler::Tdp),
    };
    let expected = Decision {
        observed_by: "kvm_init_mmu return".to_owned(),
        vm: 1,
        pid: 99,
        tgid: 100,
        vcpu: 3,
        maxphyaddr: Some(52),
        cpuid: Some(CpuidLeaves {
            entries: 30,
            max_leaf: Some(0x80000008),
            address_sizes: Some(0x3934),
        }),
        nested: false,
        tdp_init_seen: true,
        vm_type: Some(1),
        cr4: Some(0x1020),
        efer: Some(0x500),
        before: Some(MmuState { root_level: Some(4), ..state }),
        after: state,
        inputs: inputs_read(),
    };
    assert_eq!(decision(&mut Decoder::default(), &full()), expected);
}

fn loaded() -> LoadRecord {
    LoadRecord {
        header: header(kind::LOAD, Hook::EptpWrite),
        of: SUBJECT,
        eptp: 0x1234_5066,
        root_hpa: 0x1234_5000,
        mmu_root_hpa: 0x1234_5000,
        role: 1,
        flags: flag::NESTED | flag::AD_DISABLED | flag::DUMMY_ROOT,
        level: 5,
        mmu_level: 5,
        page_role: 0x1a5,
        inputs: INPUTS,
    }
}

fn load(record: &LoadRecord) -> Load {
    match event(&mut Decoder::default(), &bytes(record)) {
        EventKind::Load(load) => *load,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_root_is_decoded() {
    let expected = Load {
        observed_by: "vmwrite EPT_POINTER".to_owned(),
        vm: 1,
        pid: 99,
        vcpu: 3,
        maxphyaddr: Some(52),
        nested: true,
        eptp: Some(0x1234_5066),
        root_hpa: 0x1234_5000,
        level: 5,
        mmu_root_hpa: Some(0x1234_5000),
        mmu_level: Some(5),
        ad_disabled: Some(true),
        page_role: Some(0x1a5),
        is_dummy: true,
        inputs: inputs_read(),
    };
    assert_eq!(load(&loaded()), expected);
    assert_eq!(expected.page_level(), Some(5));
    let svm = LoadRecord { header: header(kind::LOAD, Hook::SvmLoadPgd), eptp: 0, ..loaded() };
    assert_eq!(load(&svm).eptp, None);
    let unread = LoadRecord { of: unread(u32::MAX), flags: 0, ..loaded() };
    let Load { maxphyaddr, mmu_root_hpa, mmu_level, ad_disabled, page_role, .. } = load(&unread);
    assert_eq!((maxphyaddr, mmu_root_hpa, mmu_level), (None, None, None));
    assert_eq!((ad_disabled, page_role), (None, None));
}

#[test]
fn the_mmu_of_a_nested_guest_is_decoded() {
    let record = ShadowRecord {
        header: header(kind::SHADOW, Hook::ShadowEptReturn),
        of: SUBJECT,
        eptp12: 0x5e,
        cr4: 0x1000,
        efer: 0x500,
        ept_caps: 0x141,
        level: 4,
        direct: 0,
        ..ShadowRecord::default()
    };
    let mut decoder = Decoder::default();
    let mut shadow = |record: &ShadowRecord| match event(&mut decoder, &bytes(record)) {
        EventKind::ShadowMmu(mmu) => *mmu,
        other => panic!("{other:?}"),
    };
    let ept = shadow(&record);
    assert_eq!(ept.nested, Nested::Ept { eptp12: Some(0x5e), shown: Some(0x141) });
    assert_eq!((ept.level, ept.direct), (Some(4), Some(false)));
    let unread = shadow(&ShadowRecord { of: unread(unread::L1 | unread::EPT_CAPS), ..record });
    assert_eq!(unread.nested, Nested::Ept { eptp12: None, shown: None });
    let npt = header(kind::SHADOW, Hook::ShadowNptReturn);
    let npt = shadow(&ShadowRecord { header: npt, ..record });
    assert_eq!(npt.nested, Nested::Npt { l1: Some((0x1000, 0x500)) });
}

#[test]
fn a_vm_that_goes_is_told_if_it_was_seen() {
    let mut decoder = Decoder::default();
    let gone = bytes(&VmRecord { header: header(kind::VM, Hook::DestroyVm), vm: VM });
    assert!(matches!(decoder.decode(&gone, &fields()), Some(Record::Nothing)));
    assert_eq!(decision(&mut decoder, &full()).vm, 1);
    assert_eq!(event(&mut decoder, &gone), EventKind::VmGone { vm: 1 });
    assert_eq!(decision(&mut decoder, &full()).vm, 2, "the address is another VM's");
}

#[test]
fn what_was_not_read_is_none_and_not_zero() {
    let mut record = full();
    record.of.unread = unread::MAXPHYADDR
        | unread::CR4
        | unread::EFER
        | unread::ROOT_LEVEL
        | unread::DIRECT
        | unread::VM_TYPE
        | unread::CPUID_NENT;
    record.flags = 0;
    record.inputs.valid = 0;
    let decision = decision(&mut Decoder::default(), &record);
    assert_eq!(decision.maxphyaddr, None);
    assert_eq!((decision.cr4, decision.efer), (None, None));
    assert_eq!((decision.after.root_level, decision.after.direct), (None, None));
    assert_eq!((decision.vm_type, decision.cpuid, decision.before), (None, None, None));
    assert_eq!(decision.inputs, Inputs::default());
}

#[test]
fn each_unread_member_is_none_by_itself() {
    let known = |bit| {
        let record = DecisionRecord { of: unread(bit), ..full() };
        let got = decision(&mut Decoder::default(), &record);
        [
            got.maxphyaddr.is_some(),
            got.cr4.is_some(),
            got.efer.is_some(),
            got.after.root_level.is_some(),
            got.after.direct.is_some(),
            got.vm_type.is_some(),
        ]
    };
    let bits = [
        unread::MAXPHYADDR,
        unread::CR4,
        unread::EFER,
        unread::ROOT_LEVEL,
        unread::DIRECT,
        unread::VM_TYPE,
    ];
    for (place, bit) in bits.into_iter().enumerate() {
        let mut expected = [true; 6];
        expected[place] = false;
        assert_eq!(known(bit), expected, "{bit:#x}");
    }
}

#[test]
fn a_missing_leaf_is_told_from_cpuid_that_was_not_read() {
    let with = |flags| {
        let record = DecisionRecord { flags, ..full() };
        decision(&mut Decoder::default(), &record).cpuid
    };
    let none = CpuidLeaves { entries: 30, max_leaf: None, address_sizes: None };
    assert_eq!(with(flag::CPUID_READ), Some(none));
    assert_eq!(with(flag::LEAF_80000000 | flag::LEAF_80000008), None, "not to their end");
}

#[test]
fn an_absent_vm_type_and_an_impossible_level_are_none() {
    let record = DecisionRecord {
        after: RawMmuState { root_level: 256, ..full().after },
        inputs: RawInputs { valid: 0b10, value: [0, 0x105, 0, 0, 0, 0, 0] },
        ..full()
    };
    let fields = layout().fields;
    let decoded = Decoder::default().decode(&bytes(&record), &fields);
    let Some(Record::Event(Event { kind: EventKind::Decision(decision), .. })) = decoded else {
        panic!("not a decision");
    };
    assert_eq!(decision.vm_type, None);
    assert_eq!(decision.after.root_level, None);
    assert_eq!(decision.inputs.max_tdp_level, None);
}

#[test]
fn a_vm_keeps_its_number_until_its_address_is_another_vms() {
    let mut decoder = Decoder::default();
    let mut number = |vm| decision(&mut decoder, &DecisionRecord { of: subject(vm), ..full() }).vm;
    assert_eq!([number(VM), number(OTHER_VM), number(VM)], [1, 2, 1]);
    let gone = VmRecord { header: header(kind::VM, Hook::DestroyVm), vm: VM };
    let told = decoder.decode(&bytes(&gone), &fields());
    assert!(matches!(told, Some(Record::Event(_))));
    let mut number = |vm| decision(&mut decoder, &DecisionRecord { of: subject(vm), ..full() }).vm;
    assert_eq!([number(VM), number(OTHER_VM), number(VM)], [3, 2, 3]);
}

#[test]
fn a_root_has_the_number_of_its_vm() {
    let mut decoder = Decoder::default();
    decision(&mut decoder, &DecisionRecord { of: subject(OTHER_VM), ..full() });
    let record = RootRecord {
        header: header(kind::ROOT, Hook::GetPage),
        of: SUBJECT,
        gfn: 0x1000,
        role: 0x8005,
        root_level: 5,
    };
    let expected = Root {
        vm: 2,
        pid: 99,
        vcpu: 3,
        gfn: 0x1000,
        role: Some(0x8005),
        root_level: Some(5),
        ..Root::default()
    };
    assert_eq!(event(&mut decoder, &bytes(&record)), EventKind::Root(expected));
}

/// A load of kvm_intel whose `kvm_configure_mmu` has these arguments.
fn configured(args: [u64; 4], layout: &Layout, behaviour: &Behaviour) -> ConfigureMmu {
    let header = header(kind::CONFIGURE_MMU, Hook::ConfigureMmu);
    let record = bytes(&ConfigureRecord { header, args });
    let Some(Record::Configure(record)) = Decoder::default().decode(&record, &fields()) else {
        panic!("not kvm_configure_mmu");
    };
    match configure_mmu(&record, layout, behaviour) {
        Event { time_ns: 7, kind: EventKind::ConfigureMmu(configured) } => configured,
        other => panic!("{other:?}"),
    }
}

#[test]
fn arguments_go_by_the_names_that_btf_has() {
    let mut layout = layout();
    let names =
        ["tdp_huge_page_level", "tdp_max_root_level", "enable_tdp", "tdp_forced_root_level"];
    layout.modules.configure_mmu_parameters = Some(names.map(str::to_owned).to_vec());
    let expected = ConfigureMmu {
        enable_tdp: true,
        forced_root_level: Some(4),
        max_root_level: Some(5),
        huge_page_level: Some(3),
    };
    // By presence it would be the older kernel's three.
    let behaviour = Behaviour { has_max_tdp_level: true, ..Behaviour::default() };
    assert_eq!(configured([3, 5, 1, 4], &layout, &behaviour), expected);
}

#[test]
fn without_names_arguments_go_by_the_variables_they_are_stored_in() {
    let layout = layout();
    let mut behaviour = Behaviour::default();
    let two = ConfigureMmu {
        enable_tdp: true,
        forced_root_level: None,
        max_root_level: None,
        huge_page_level: Some(4),
    };
    assert_eq!(configured([1, 4, 5, 3], &layout, &behaviour), two, "before 5.9");
    behaviour.has_max_tdp_level = true;
    let three = ConfigureMmu { max_root_level: Some(4), huge_page_level: Some(5), ..two };
    assert_eq!(configured([1, 4, 5, 3], &layout, &behaviour), three);
    behaviour.has_tdp_root_level = true;
    let four = ConfigureMmu {
        enable_tdp: true,
        forced_root_level: Some(4),
        max_root_level: Some(5),
        huge_page_level: Some(3),
    };
    assert_eq!(configured([1, 4, 5, 3], &layout, &behaviour), four);
}

#[test]
fn what_a_register_holds_beyond_its_argument_is_not_looked_at() {
    let behaviour = Behaviour { has_max_tdp_level: true, ..Behaviour::default() };
    let args = [0xdead_0000_0000_0100, 0xdead_0000_0000_0005, 3, 0];
    let got = configured(args, &layout(), &behaviour);
    assert!(!got.enable_tdp, "a bool is the lowest byte");
    assert_eq!(got.max_root_level, Some(5));
}

#[test]
fn hardware_setup_is_told_by_its_function() {
    let record = SetupRecord { header: header(kind::HARDWARE_SETUP, Hook::VmxHardwareSetup) };
    let decoded = Decoder::default().decode(&bytes(&record), &fields());
    let Some(Record::HardwareSetup(Event { time_ns: 7, kind })) = decoded else {
        panic!("not hardware_setup");
    };
    let function = "kvm_intel:vmx_hardware_setup".to_owned();
    assert_eq!(kind, EventKind::HardwareSetup { function });
}

#[test]
fn what_is_no_record_is_none() {
    let mut decoder = Decoder::default();
    // Longer than any record, so that each kind is cut, whole and too long in turn.
    let mut long = bytes(&full());
    long.resize(300, 0);
    for (kind, size) in [
        (kind::DECISION, size_of::<DecisionRecord>()),
        (kind::CONFIGURE_MMU, size_of::<ConfigureRecord>()),
        (kind::HARDWARE_SETUP, size_of::<SetupRecord>()),
        (kind::ROOT, size_of::<RootRecord>()),
        (kind::LOAD, size_of::<LoadRecord>()),
        (kind::SHADOW, size_of::<ShadowRecord>()),
        (kind::FAULT_LOOP, size_of::<FaultLoopRecord>()),
        (kind::VM, size_of::<VmRecord>()),
        (kind::WALK, size_of::<WalkRecord>()),
    ] {
        long[..4].copy_from_slice(&kind.to_ne_bytes());
        for length in 0..long.len() {
            let is_record = decoder.decode(&long[..length], &fields()).is_some();
            assert_eq!(is_record, length == size, "kind {kind}, {length} bytes");
        }
    }
    let mut strange = full();
    for kind in [0, 10, u32::MAX] {
        strange.header.kind = kind;
        assert!(decoder.decode(&bytes(&strange), &fields()).is_none(), "kind {kind}");
    }
    for hook in [u32::try_from(Hook::ALL.len()).unwrap(), u32::MAX] {
        strange = full();
        strange.header.hook = hook;
        assert!(decoder.decode(&bytes(&strange), &fields()).is_none(), "hook {hook}");
    }
}

#[test]
fn the_time_of_what_is_no_record_is_zero() {
    let record = bytes(&full());
    assert_eq!(time_of(&record), 7);
    assert_eq!(time_of(&record[..23]), 0);
    assert_eq!(time_of(&[]), 0);
}

const CHANGE: SpteRecord = SpteRecord {
    header: Header {
        kind: kind::SPTE,
        hook: Hook::SpteChanged as u32,
        time_ns: 7,
        tgid: 1,
        tid: 1,
    },
    vm: VM,
    gfn: 0x10,
    old: 1 << 63,
    new: 0x450_be67,
    place: 0,
    level: 1,
    as_id: 1,
};

fn change(decoder: &mut Decoder, record: &SpteRecord) -> SpteChange {
    match event(decoder, &bytes(record)) {
        EventKind::SpteChange(change) => change,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_change_of_an_entry_is_decoded() {
    let expected = SpteChange {
        observed_by: "kvm_tdp_mmu_spte_changed".into(),
        vm: Some(1),
        from_start: false,
        in_log: None,
        as_id: Some(1),
        gfn: 0x10,
        level: 1,
        old: Some(1 << 63),
        new: 0x450_be67,
        place: None,
    };
    let mut decoder = Decoder::default();
    assert_eq!(change(&mut decoder, &CHANGE), expected);
    assert_eq!(change(&mut decoder, &SpteRecord { vm: 0, ..CHANGE }).vm, None);
    let set = SpteRecord { header: header(kind::SPTE, Hook::SpteSet), place: 0x534_6008, ..CHANGE };
    let set = change(&mut decoder, &set);
    assert_eq!((set.old, set.as_id, set.place), (None, None, Some(0x534_6008)));
}

#[test]
fn a_vm_is_seen_from_its_start_until_something_is_lost() {
    let mut decoder = Decoder::default();
    let vm = |hook| bytes(&VmRecord { header: header(kind::VM, hook), vm: VM });
    assert!(!change(&mut decoder, &CHANGE).from_start);
    for begins in [Hook::InitVm, Hook::IoctlExit] {
        decoder.decode(&vm(begins), &fields());
        assert!(change(&mut decoder, &CHANGE).from_start);
        decoder.decode(&vm(Hook::DestroyVm), &fields());
        assert!(!change(&mut decoder, &CHANGE).from_start, "another one at its address");
    }
    decoder.decode(&vm(Hook::InitVm), &fields());
    decoder.lost();
    assert!(!change(&mut decoder, &CHANGE).from_start);
}
