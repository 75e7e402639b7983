use std::fs;
use std::path::PathBuf;
use std::process;

use super::*;
use crate::kernel::eptp_write::EptpWrite;
use crate::kernel::{Btf, Layout, Modules, Symbols};
use crate::model::{Behaviour, Hardware, KernelFacts, KvmState};

const ALL: Scope = Scope { kprobes: true, walks: true, frames: true, history: false };

/// A directory that looks like tracefs; gone when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ept-trace-plan-{test}-{}", process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("events")).unwrap();
        Self(path)
    }

    fn kprobes(self) -> Self {
        fs::write(self.0.join("kprobe_events"), "").unwrap();
        self
    }

    fn event(self, category: &str, name: &str, fields: &[&str]) -> Self {
        let event = self.0.join("events").join(category).join(name);
        fs::create_dir_all(&event).unwrap();
        let mut format = format!("name: {name}\nID: 1\nformat:\n");
        for (number, field) in fields.iter().enumerate() {
            let offset = 16 + number * 8;
            let field = format!("\tfield:long {field};\toffset:{offset};\tsize:8;\tsigned:0;\n");
            format.push_str(&field);
        }
        fs::write(event.join("format"), format).unwrap();
        self
    }

    fn tracepoints(self) -> Self {
        self.event("syscalls", "sys_enter_ioctl", &["fd", "cmd", "arg"])
            .event("syscalls", "sys_exit_ioctl", &["ret"])
            .event("kvmmmu", "kvm_mmu_get_page", &["gfn", "role"])
    }

    fn tracefs(&self) -> Tracefs {
        Tracefs::at(self.0.clone())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const FUNCTIONS: &str = "\
ffffffffc0a01000 T kvm_init_mmu\t[kvm]\n\
ffffffffc0a02000 T kvm_configure_mmu\t[kvm]\n\
ffffffffc0a03000 T kvm_arch_destroy_vm\t[kvm]\n";

const INIT_TDP: &str = "ffffffffc0a04000 t init_kvm_tdp_mmu\t[kvm]\n";

/// A machine with kvm loaded and every member in its place.
fn host(symbols: &str, vendor: Vendor, presence: Presence) -> Host {
    let mut modules = Modules::read();
    modules.kvm = Presence::Loaded;
    modules.vendor = (vendor.clone(), presence);
    // BTF without a type: nothing is found, and what is missing is taken back.
    let mut empty = [0; 25];
    empty[..2].copy_from_slice(&[0x9f, 0xeb]);
    (empty[4], empty[20]) = (24, 1);
    let mut layout = Layout::resolve(&Btf::parse(&empty).unwrap());
    layout.missing.clear();
    layout.missing_files.clear();
    let facts = KernelFacts {
        release: String::new(),
        vendor,
        behaviour: Behaviour { has_max_tdp_level: true, ..Behaviour::default() },
        hardware: Hardware::default(),
        kvm: KvmState::default(),
    };
    let eptp_write = Err("no write of EPT_POINTER is in its code".to_owned());
    Host { modules, symbols: Symbols::parse(symbols), layout, facts, eptp_write }
}

fn intel(symbols: &str) -> Host {
    host(symbols, Vendor::Vmx, Presence::Loaded)
}

/// How a hook is attached, or why not, in the plan's own words.
fn told(plan: &AttachPlan, hook: Hook) -> Result<String, String> {
    let planned = plan.hooks.iter().find(|planned| planned.hook == hook).unwrap();
    planned.attach.as_ref().map(ToString::to_string).map_err(Clone::clone)
}

fn refused(plan: &AttachPlan, hook: Hook) -> String {
    told(plan, hook).unwrap_err()
}

fn names(plan: &AttachPlan) -> Vec<&str> {
    plan.chosen().map(|(planned, _)| planned.name.as_str()).collect()
}

#[test]
fn kprobes_are_chosen_where_they_can_be() {
    let directory = Directory::new("kprobes").kprobes().tracepoints();
    let plan = AttachPlan::new(&intel(FUNCTIONS), &directory.tracefs(), ALL);
    assert_eq!(plan.hooks.iter().map(|planned| planned.hook).collect::<Vec<_>>(), Hook::ALL);
    let ok = |text: &str| Ok(text.to_owned());
    assert_eq!(told(&plan, Hook::InitMmuEntry), ok("kprobe kvm:kvm_init_mmu"));
    assert_eq!(told(&plan, Hook::InitMmuReturn), ok("kretprobe kvm:kvm_init_mmu"));
    assert_eq!(told(&plan, Hook::ConfigureMmu), ok("kprobe kvm:kvm_configure_mmu"));
    assert_eq!(told(&plan, Hook::DestroyVm), ok("kprobe kvm:kvm_arch_destroy_vm"));
    for tracepoint in [Hook::IoctlEnter, Hook::IoctlExit, Hook::GetPage] {
        assert_eq!(refused(&plan, tracepoint), "not needed: kvm_init_mmu shows every decision");
    }
    assert!(plan.lost.iter().all(|lost| !lost.contains("hooked")), "{:?}", plan.lost);
    assert_eq!(plan.sees_decisions(), Ok(()));
}

const EPTP: &str = "ffffffffc0b01000 T vmx_load_mmu_pgd\t[kvm_intel]\n";
const FAULTS: &str = "\
ffffffffc0a05000 T kvm_mmu_page_fault\t[kvm]\n\
ffffffffc0a06000 T kvm_tdp_page_fault\t[kvm]\n";

#[test]
fn the_eptp_is_read_where_it_is_written() {
    let directory = Directory::new("eptp").kprobes().event(
        "kvmmmu",
        "kvm_mmu_spte_requested",
        &["gfn", "pfn", "level"],
    );
    let page_offset = "ffffffff82601000 D page_offset_base\n";
    let mut host = intel(&format!("{FUNCTIONS}{EPTP}{FAULTS}{page_offset}"));
    let register = Field { offset: 104, size: 8, ..Field::ABSENT };
    host.eptp_write = Ok(EptpWrite { offset: 0x5d, register });
    let plan = AttachPlan::new(&host, &directory.tracefs(), ALL);
    let ok = |text: &str| Ok(text.to_owned());
    assert_eq!(told(&plan, Hook::VmxLoadPgd), ok("kprobe kvm_intel:vmx_load_mmu_pgd"));
    assert_eq!(told(&plan, Hook::EptpWrite), ok("kprobe kvm_intel:vmx_load_mmu_pgd+0x5d"));
    assert_eq!(told(&plan, Hook::TdpFaultReturn), ok("kretprobe kvm:kvm_tdp_page_fault"));
    assert_eq!(refused(&plan, Hook::SvmLoadPgd), "kvm_intel is at work, and not kvm_amd");
    host.facts.behaviour.has_max_tdp_level = false;
    let plan_5_8 = AttachPlan::new(&host, &directory.tracefs(), ALL);
    let why = "it has no argument for the level before 5.9";
    assert_eq!(refused(&plan_5_8, Hook::VmxLoadPgd), why);
    assert_eq!(refused(&plan, Hook::ShadowNptEntry), "kvm_intel has no NPT");
    assert!(plan.lost.iter().all(|lost| lost.contains("shadow EPT")), "{:?}", plan.lost);
}

#[test]
fn half_of_a_pair_is_refused_and_what_is_lost_is_told() {
    let directory = Directory::new("halves").kprobes();
    let host = intel(&format!("{FUNCTIONS}{EPTP}"));
    let plan = AttachPlan::new(&host, &directory.tracefs(), ALL);
    assert_eq!(refused(&plan, Hook::VmxLoadPgd), "useless without vmwrite EPT_POINTER");
    let lost = "EPTPs are not seen: no write of EPT_POINTER is in its code";
    assert!(plan.lost.iter().any(|told| told == lost), "{:?}", plan.lost);
}

#[test]
fn the_place_of_the_eptp_waits_for_its_module() {
    let directory = Directory::new("waits").kprobes();
    let host = host(FUNCTIONS, Vendor::None, Presence::Absent);
    let plan = AttachPlan::new(&host, &directory.tracefs(), ALL);
    assert_eq!(refused(&plan, Hook::EptpWrite), "kvm_intel is not loaded: set when it is");
    let waits = Ok("kprobe kvm_amd:svm_load_mmu_pgd, waits for the module".to_owned());
    assert_eq!(told(&plan, Hook::SvmLoadPgd), waits);
}

#[test]
fn a_built_in_function_is_named_without_a_module() {
    let directory = Directory::new("built-in").kprobes();
    let mut host = intel("ffffffff812e06c0 T kvm_init_mmu\n");
    host.modules.kvm = Presence::BuiltIn;
    let plan = AttachPlan::new(&host, &directory.tracefs(), ALL);
    assert_eq!(told(&plan, Hook::InitMmuEntry), Ok("kprobe kvm_init_mmu".to_owned()));
}

#[test]
fn init_kvm_tdp_mmu_is_hooked_where_it_is_not_inlined() {
    let directory = Directory::new("inlined").kprobes();
    let with = intel(&format!("{FUNCTIONS}{INIT_TDP}"));
    let plan = AttachPlan::new(&with, &directory.tracefs(), ALL);
    assert_eq!(told(&plan, Hook::InitTdpMmu), Ok("kprobe kvm:init_kvm_tdp_mmu".to_owned()));
    let plan = AttachPlan::new(&intel(FUNCTIONS), &directory.tracefs(), ALL);
    assert_eq!(refused(&plan, Hook::InitTdpMmu), "inlined by the compiler: no such symbol");
    assert_eq!(plan.sees_decisions(), Ok(()), "it is not needed");
}

#[test]
fn everything_waits_for_a_kvm_that_is_not_loaded() {
    let directory = Directory::new("absent").kprobes();
    let mut host = host("", Vendor::None, Presence::Absent);
    host.modules.kvm = Presence::Absent;
    let plan = AttachPlan::new(&host, &directory.tracefs(), ALL);
    let waits = Ok("kprobe kvm:kvm_init_mmu, waits for the module".to_owned());
    assert_eq!(told(&plan, Hook::InitMmuEntry), waits);
    assert_eq!(refused(&plan, Hook::InitTdpMmu), "kvm is not loaded", "it may be inlined");
    assert_eq!(plan.sees_decisions(), Ok(()));
}

#[test]
fn an_unknown_kvm_init_mmu_is_refused_and_both_reasons_are_told() {
    let directory = Directory::new("unknown").kprobes();
    let symbols = FUNCTIONS.replace("kvm_init_mmu", "renamed");
    let plan = AttachPlan::new(&intel(&symbols), &directory.tracefs(), ALL);
    let EventKind::Hooks { hooks, not_seen } = plan.event() else { panic!("not hooks") };
    assert_eq!(hooks[0].hook, "kvm_init_mmu");
    assert!(!hooks[0].attached);
    assert_eq!(hooks[0].how, "no such symbol in /proc/kallsyms, or several");
    assert!(not_seen[0].starts_with("kvm_init_mmu cannot be hooked: no such symbol"));
    assert_eq!(names(&plan), ["kvm_configure_mmu", "kvm_arch_destroy_vm"], "what else there is");
    assert_eq!(
        plan.sees_decisions().unwrap_err(),
        "kvm_init_mmu: no such symbol in /proc/kallsyms, or several; \
         tracepoints: this kernel has no tracepoint syscalls:sys_enter_ioctl"
    );
}

#[test]
fn tracepoints_stand_in_for_an_unknown_kvm_init_mmu() {
    let directory = Directory::new("stand-in").kprobes().tracepoints();
    let symbols = FUNCTIONS.replace("kvm_init_mmu", "renamed");
    let plan = AttachPlan::new(&intel(&symbols), &directory.tracefs(), ALL);
    let chosen = [
        "kvm_configure_mmu",
        "sys_enter_ioctl",
        "sys_exit_ioctl",
        "kvm_mmu_get_page",
        "kvm_arch_destroy_vm",
    ];
    assert_eq!(names(&plan), chosen);
    assert_eq!(plan.sees_decisions(), Ok(()));
    let hooked = plan.lost.iter().filter(|lost| lost.contains("hardware_setup"));
    assert_eq!(hooked.count(), 0, "hardware_setup is seen as ever: {:?}", plan.lost);
}

#[test]
fn several_symbols_of_one_name_are_refused() {
    let directory = Directory::new("several").kprobes();
    let symbols = format!("{FUNCTIONS}ffffffff812e06c0 t kvm_configure_mmu\n");
    let plan = AttachPlan::new(&intel(&symbols), &directory.tracefs(), ALL);
    let why = "no such symbol in /proc/kallsyms, or several";
    assert_eq!(refused(&plan, Hook::ConfigureMmu), why);
    assert_eq!(plan.sees_decisions(), Ok(()));
}

#[test]
fn hardware_setup_is_hooked_before_its_module_comes_and_not_after() {
    let directory = Directory::new("setup").kprobes();
    let setups = [Hook::HardwareSetup, Hook::VmxHardwareSetup, Hook::SvmHardwareSetup];
    let plan = |vendor, presence| {
        let host = host(FUNCTIONS, vendor, presence);
        AttachPlan::new(&host, &directory.tracefs(), ALL)
    };
    let none = plan(Vendor::None, Presence::Absent);
    let another = plan(Vendor::Other("kvm_zhaoxin".to_owned()), Presence::Loaded);
    let waits = |place: &str| Ok(format!("kprobe {place}, waits for the module"));
    for plan in [none, another] {
        assert_eq!(told(&plan, setups[0]), waits("kvm_intel:hardware_setup"));
        assert_eq!(told(&plan, setups[1]), waits("kvm_intel:vmx_hardware_setup"));
        assert_eq!(told(&plan, setups[2]), waits("kvm_amd:svm_hardware_setup"));
    }
    let loaded = plan(Vendor::Vmx, Presence::Loaded);
    let built_in = plan(Vendor::Svm, Presence::BuiltIn);
    for hook in &setups[..2] {
        assert_eq!(
            refused(&loaded, *hook),
            "kvm_intel is loaded, and its hardware_setup has run: seen when it is loaded again"
        );
        assert_eq!(refused(&built_in, *hook), "kvm_amd is at work, and not kvm_intel");
    }
    assert_eq!(refused(&loaded, setups[2]), "kvm_intel is at work, and not kvm_amd");
    let why = "kvm_amd is built in, and its hardware_setup has run";
    assert_eq!(refused(&built_in, setups[2]), why);
}

/// The plan sees decisions by tracepoints alone, and tells that it does and why.
fn assert_tracepoints_alone(plan: &AttachPlan, why: &str) {
    assert_eq!(names(plan), ["sys_enter_ioctl", "sys_exit_ioctl", "kvm_mmu_get_page"]);
    let enter = Ok("tracepoint syscalls:sys_enter_ioctl".to_owned());
    assert_eq!(told(plan, Hook::IoctlEnter), enter);
    let page = Ok("tracepoint kvmmmu:kvm_mmu_get_page".to_owned());
    assert_eq!(told(plan, Hook::GetPage), page);
    for planned in plan.hooks.iter().filter(|planned| planned.attach.is_err()) {
        let why = if is_of_history(planned.hook) { "not asked for: see --history" } else { why };
        assert_eq!(planned.attach, Err(why.to_owned()), "{}", planned.name);
    }
    let lost = [
        &*format!("no function can be hooked: {why}"),
        "a vCPU is seen when its CPUID is set and when it is run, not at each decision: \
         what changes in between is not seen",
        "hardware_setup, kvm_configure_mmu, EPTPs, the MMUs of nested guests, walks and faults that \
         come back are not seen",
    ];
    assert_eq!(plan.lost, lost);
    assert_eq!(plan.sees_decisions(), Ok(()));
}

#[test]
fn without_kprobes_tracepoints_are_chosen_and_the_loss_is_told() {
    let directory = Directory::new("no-kprobes").tracepoints();
    let plan = AttachPlan::new(&intel(FUNCTIONS), &directory.tracefs(), ALL);
    assert_tracepoints_alone(&plan, "this kernel has no kprobe events (CONFIG_KPROBE_EVENTS)");
}

#[test]
fn tracepoints_alone_are_chosen_where_asked_for() {
    let directory = Directory::new("asked").kprobes().tracepoints();
    let plan =
        AttachPlan::new(&intel(FUNCTIONS), &directory.tracefs(), Scope { kprobes: false, ..ALL });
    assert_tracepoints_alone(&plan, "--tracepoints asks for tracepoints alone");
}

#[test]
fn a_tracepoint_without_an_expected_field_is_refused() {
    let directory = Directory::new("format")
        .tracepoints()
        .event("kvmmmu", "kvm_mmu_get_page", &["gfn", "level"])
        .event("syscalls", "sys_exit_ioctl", &["result"]);
    let plan = AttachPlan::new(&intel(FUNCTIONS), &directory.tracefs(), ALL);
    let why = |event: &str| format!("the format of {event} is not as expected");
    assert_eq!(refused(&plan, Hook::GetPage), why("kvmmmu:kvm_mmu_get_page"));
    assert_eq!(refused(&plan, Hook::IoctlExit), why("syscalls:sys_exit_ioctl"));
    assert_eq!(names(&plan), ["sys_enter_ioctl"]);
    assert_eq!(
        plan.sees_decisions().unwrap_err(),
        "kvm_init_mmu: this kernel has no kprobe events (CONFIG_KPROBE_EVENTS); \
         tracepoints: the format of syscalls:sys_exit_ioctl is not as expected"
    );
}

#[test]
fn missing_members_of_kvm_vcpu_refuse_every_hook() {
    let directory = Directory::new("members").kprobes().tracepoints();
    let mut host = intel(FUNCTIONS);
    host.layout.missing = vec!["no kvm_vcpu.arch.mmu".to_owned(), "no kvm_vcpu.kvm".to_owned()];
    let plan = AttachPlan::new(&host, &directory.tracefs(), ALL);
    assert_eq!(plan.chosen().count(), 0);
    assert_eq!(
        plan.sees_decisions().unwrap_err(),
        "kvm_init_mmu: no kvm_vcpu.arch.mmu; no kvm_vcpu.kvm; tracepoints: no kvm_vcpu.arch.mmu"
    );
}

#[test]
fn missing_members_on_the_way_to_a_file_refuse_tracepoints_alone() {
    let directory = Directory::new("files").kprobes().tracepoints();
    let mut host = intel(FUNCTIONS);
    host.layout.missing_files = vec!["no task_struct.files".to_owned()];
    assert_eq!(AttachPlan::new(&host, &directory.tracefs(), ALL).sees_decisions(), Ok(()));
    let plan = AttachPlan::new(&host, &directory.tracefs(), Scope { kprobes: false, ..ALL });
    assert_eq!(refused(&plan, Hook::IoctlEnter), "no task_struct.files");
    assert!(plan.sees_decisions().is_err());
}

#[test]
fn walks_are_captured_where_they_are_asked_for() {
    let page_offset = "ffffffff82601000 D page_offset_base\n";
    let host = intel(&format!("{FUNCTIONS}{FAULTS}{page_offset}"));
    let bare = Directory::new("walks-bare").kprobes();
    let plan = AttachPlan::new(&host, &bare.tracefs(), ALL);
    let place = "kretprobe kvm:kvm_mmu_page_fault";
    assert_eq!(told(&plan, Hook::PageFaultReturn), Ok(place.to_owned()));
    let lost = "the frame and the level that a fault is resolved to are not seen";
    assert!(plan.lost.iter().any(|what| what.starts_with(lost)), "{:?}", plan.lost);

    let directory = Directory::new("walks").kprobes().event(
        "kvmmmu",
        "kvm_mmu_spte_requested",
        &["gfn", "pfn", "level"],
    );
    let plan = AttachPlan::new(&host, &directory.tracefs(), ALL);
    let requested = "tracepoint kvmmmu:kvm_mmu_spte_requested";
    assert_eq!(told(&plan, Hook::SpteRequested), Ok(requested.to_owned()));
    assert!(!plan.lost.iter().any(|what| what.starts_with(lost)), "{:?}", plan.lost);

    let off = Scope { walks: false, ..ALL };
    let plan = AttachPlan::new(&host, &directory.tracefs(), off);
    for hook in [Hook::PageFaultReturn, Hook::SpteRequested] {
        assert_eq!(refused(&plan, hook), "not asked for: walks are off");
    }
    assert!(plan.lost.iter().all(|what| !what.contains("walks")), "{:?}", plan.lost);
    // Faults that come back need the entry all the same.
    assert!(told(&plan, Hook::PageFault).is_ok());
}

#[test]
fn an_entry_serves_each_of_its_outcomes() {
    let without_answers = intel(&format!(
        "{FUNCTIONS}ffffffffc0a05000 T kvm_mmu_page_fault\t[kvm]\n\
         ffffffff82601000 D page_offset_base\n"
    ));
    let directory = Directory::new("outcomes").kprobes();
    let plan = AttachPlan::new(&without_answers, &directory.tracefs(), ALL);
    assert!(told(&plan, Hook::PageFault).is_ok());
    assert!(told(&plan, Hook::PageFaultReturn).is_ok());
    let why = "no such symbol in /proc/kallsyms, or several";
    assert_eq!(refused(&plan, Hook::TdpFaultReturn), why);
}

#[test]
fn changes_of_entries_are_captured_where_they_are_asked_for() {
    let history = Scope { history: true, ..ALL };
    let hooks = [Hook::InitVm, Hook::ChangedSpteInner, Hook::SpteChanged, Hook::SpteSet];
    let functions = "ffffffffc0a06000 T kvm_arch_init_vm\t[kvm]\n\
                     ffffffffc0a07000 t __handle_changed_spte\t[kvm]\n";
    let directory = Directory::new("history")
        .kprobes()
        .event(
            "kvmmmu",
            "kvm_tdp_mmu_spte_changed",
            &["gfn", "old_spte", "new_spte", "level", "as_id"],
        )
        .event("kvmmmu", "kvm_mmu_set_spte", &["gfn", "spte", "sptep", "level"]);
    let host = intel(&format!("{FUNCTIONS}{functions}"));
    let plan = AttachPlan::new(&host, &directory.tracefs(), ALL);
    for hook in hooks {
        assert_eq!(refused(&plan, hook), "not asked for: see --history");
    }
    let plan = AttachPlan::new(&host, &directory.tracefs(), history);
    for hook in hooks {
        assert!(told(&plan, hook).is_ok(), "{hook:?}");
    }
    assert!(plan.lost.iter().all(|what| !what.contains("entry")), "{:?}", plan.lost);

    let of_whom = "whose entry it is that changes is not seen: ";
    let plan = AttachPlan::new(&intel(FUNCTIONS), &directory.tracefs(), history);
    assert!(told(&plan, Hook::SpteChanged).is_ok());
    assert!(plan.lost.iter().any(|what| what.starts_with(of_whom)), "{:?}", plan.lost);

    let without = Directory::new("history-5.10").kprobes();
    let plan = AttachPlan::new(&host, &without.tracefs(), history);
    let lost = "changes of entries of the TDP MMU are not seen: \
                this kernel has no tracepoint kvmmmu:kvm_tdp_mmu_spte_changed";
    assert!(plan.lost.iter().any(|what| what == lost), "{:?}", plan.lost);
    let useless = "useless without kvm_tdp_mmu_spte_changed";
    assert_eq!(refused(&plan, Hook::ChangedSpteInner), useless);
}
