//! Guests that are hypervisors: each an L1, which runs an L2 under nested page tables of its own, of
//! 4 or of 5 levels.
//!
//! L1 is the program in `ept-trace/l1`; this puts it into a guest, starts it, and says in words
//! what it reports.

use anyhow::{Context as _, Result, bail};
use ept_trace_l1::protocol::{
    L2_PAGES, MEMORY, Missing, Outcome, PAGE_TABLES, PARAMS, Params, REPORT, Report, STACK_END,
};
use kvm_bindings::{Msrs, kvm_msr_entry, kvm_regs};
use kvm_ioctls::{Kvm, VcpuFd};
use object::{Object as _, ObjectSegment as _};

use super::{Case, Host, Skip};
use crate::guest::Cpuid;
use crate::guest::long_mode::{LARGE_PAGE, Tables};
use crate::guest::memory::Memory;
use crate::guest::vm::{Vm, run_to_halt};

/// MAXPHYADDR of an L1 in bits, unless told otherwise: one for which KVM takes 4 levels, and one for
/// which it takes 5 where it can.
const MAXPHYADDRS: [u8; 2] = [40, 52];

/// L1, an ELF file.
static IMAGE: &[u8] = include_bytes!(env!("EPT_TRACE_L1_IMAGE"));

/// IA32_FEATURE_CONTROL, locked, with VMXON allowed outside SMX: what firmware does. SDM Vol. 3C,
/// "Enabling and Entering VMX Operation".
const FEATURE_CONTROL: kvm_msr_entry = kvm_msr_entry { index: 0x3a, reserved: 0, data: 1 | 1 << 2 };

pub(super) fn cases(host: &Host<'_>) -> Vec<Case> {
    let given = host.settings.maxphyaddrs.as_slice();
    let maxphyaddrs = if given.is_empty() { &MAXPHYADDRS } else { given };
    let case = |bits: u8, levels: u8| {
        let name = format!("MAXPHYADDR {bits}, {levels} levels");
        host.case(&name, |host, _| hypervisor(host.kvm, bits, levels))
    };
    maxphyaddrs.iter().flat_map(|&bits| [case(bits, 4), case(bits, 5)]).collect()
}

/// Runs an L1 of this MAXPHYADDR with nested page tables of so many levels.
fn hypervisor(kvm: &Kvm, maxphyaddr: u8, levels: u8) -> Result<()> {
    let mut vm = Vm::new(kvm)?;
    let shown = Shown::to(&vm);
    let own_levels = match shown {
        Shown { has_svm: true, has_la57: false, .. } if levels == 5 => {
            let why = "L1 would need paging of 5 levels (LA57), which KVM does not show it";
            bail!(Skip(why.to_owned()));
        }
        Shown { has_svm: true, .. } if levels == 5 => 5,
        Shown { has_vmx: false, has_svm: false, .. } => {
            bail!(Skip(missing(Missing::Virtualization).to_owned()));
        }
        _ => 4,
    };

    let mut memory = Memory::new(MEMORY)?;
    let entry = load(&mut memory)?;
    let tables = Tables::new(&mut memory, PAGE_TABLES, own_levels);
    for gpa in (0..MEMORY).step_by(usize::try_from(LARGE_PAGE)?) {
        tables.map(&mut memory, gpa, gpa);
    }
    let far = far(maxphyaddr.min(shown.maxphyaddr), levels)?;
    memory.write(PARAMS, &Params { levels: levels.into(), far }.to_bytes());
    let low = vm.add_memory(0, memory)?;

    let cpuids = [Cpuid::of(maxphyaddr)];
    let mut vcpu = vm.create_vcpu(0, &cpuids)?;
    if shown.has_vmx {
        set_msr(&vcpu, FEATURE_CONTROL)?;
    }
    // The stack as after a call: 8 bytes off a multiple of 16.
    let regs =
        kvm_regs { rip: entry, rsp: STACK_END - 8, rdi: PARAMS, rsi: REPORT, ..Default::default() };
    tables.enter(&vcpu, &cpuids, &regs)?;
    if let Some(how) = run_to_halt(0, &mut vcpu)? {
        bail!("L1: {how}");
    }
    conclude(Report::from_bytes(&vm.memory(low).read(REPORT)))
}

/// What KVM supports of what L1 needs.
#[derive(Clone, Copy)]
struct Shown {
    has_vmx: bool,
    has_svm: bool,
    has_la57: bool,
    maxphyaddr: u8,
}

impl Shown {
    fn to(vm: &Vm) -> Self {
        let entry = |leaf| {
            let entries = vm.supported().as_slice().iter();
            entries.copied().find(|entry| entry.function == leaf).unwrap_or_default()
        };
        Self {
            has_vmx: entry(1).ecx & 1 << 5 != 0,
            has_svm: entry(0x80000001).ecx & 1 << 2 != 0,
            has_la57: entry(7).ecx & 1 << 16 != 0,
            maxphyaddr: vm.maxphyaddr(),
        }
    }
}

/// The uppermost bit of an address that L2 can reach: within the CPU's width and L1's, and within
/// what so many levels map.
fn far(maxphyaddr: u8, levels: u8) -> Result<u64> {
    let bits = maxphyaddr.min(12 + 9 * levels);
    if !(34..=57).contains(&bits) {
        bail!("L1 needs a MAXPHYADDR of 34 or more, not {bits}");
    }
    Ok(1 << (bits - 1))
}

/// Loads L1; where it is entered.
fn load(memory: &mut Memory) -> Result<u64> {
    let image = object::File::parse(IMAGE).context("the image of L1")?;
    for segment in image.segments() {
        memory.write(segment.address(), segment.data().context("the image of L1")?);
    }
    Ok(image.entry())
}

fn set_msr(vcpu: &VcpuFd, msr: kvm_msr_entry) -> Result<()> {
    let msrs = Msrs::from_entries(&[msr]).context("one MSR")?;
    if vcpu.set_msrs(&msrs).context("KVM_SET_MSRS")? != 1 {
        bail!("KVM_SET_MSRS refuses MSR {:#x}", msr.index);
    }
    Ok(())
}

/// Whether L2 ran to its end; if not, why.
fn conclude(report: Report) -> Result<()> {
    let Some(outcome) = report.outcome() else { bail!("L1 reports nonsense: {report:x?}") };
    let how = match outcome {
        Outcome::Halted { violations: L2_PAGES } => return Ok(()),
        Outcome::NotOffered(what) => bail!(Skip(missing(what).to_owned())),
        Outcome::Halted { violations } => {
            format!("L2 halts after {violations} nested page faults, not {L2_PAGES}")
        }
        Outcome::Unfinished => "L1 halts without a report: it panicked".to_owned(),
        Outcome::VmxFailed { error } => {
            format!("L1 cannot set up VMX: VM-instruction error {error}")
        }
        Outcome::EntryFailed { error } => {
            format!("L1 cannot enter L2: VM-instruction error {error}")
        }
        Outcome::OtherExit { reason, qualification, gpa } => format!(
            "L2 exits to L1 with reason {reason:#x}, qualification {qualification:#x}, GPA {gpa:#x}"
        ),
        Outcome::StrayViolation { gpa, qualification } => format!(
            "L2 faults at GPA {gpa:#x}, which it does not use (qualification {qualification:#x})"
        ),
        Outcome::RepeatedViolation { gpa, qualification } => format!(
            "L2 faults again at GPA {gpa:#x}, which L1 has mapped (qualification {qualification:#x})"
        ),
        Outcome::WrongMark { gpa, expected, found } => {
            format!("L2 halts, and {found:#x} is where L1 maps its GPA {gpa:#x}, not {expected:#x}")
        }
    };
    bail!(how)
}

fn missing(what: Missing) -> &'static str {
    match what {
        Missing::Virtualization => {
            "KVM shows L1 neither VMX nor SVM: load kvm_intel or kvm_amd with nested=1"
        }
        Missing::NestedPaging => "KVM shows L1 no nested paging",
        Missing::Levels => "KVM shows L1 no EPT page walks of so many levels",
        Missing::WriteBack => "KVM shows L1 no write-back EPT",
        Missing::LargePages => "KVM shows L1 no EPT pages of 2 MiB",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_fits_between_the_page_tables_and_the_stack() {
        let mut memory = Memory::new(MEMORY).expect("memory");
        let entry = load(&mut memory).expect("an image");
        let image = object::File::parse(IMAGE).expect("an image");
        let end = image.segments().map(|segment| segment.address() + segment.size()).max();
        let begin = image.segments().map(|segment| segment.address()).min();
        assert!(begin.is_some_and(|begin| (PAGE_TABLES + 0x4000..=entry).contains(&begin)));
        assert!(end.is_some_and(|end| end + 0x1_0000 <= STACK_END), "no room for the stack");
    }

    #[test]
    fn l2_reaches_as_far_as_all_allow() {
        let far = |bits, levels| far(bits, levels).ok().map(u64::trailing_zeros);
        assert_eq!([far(40, 4), far(52, 4), far(52, 5)], [Some(39), Some(47), Some(51)]);
        assert_eq!(far(33, 4), None);
    }
}
