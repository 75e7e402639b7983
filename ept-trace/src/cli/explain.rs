//! `explain`: a rule's documentation, or the decision step by step with the kernel's own names.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use ept_trace_common::decision::max_ept_level;

use super::Exit;
use super::output::print;
use crate::model::{Behaviour, Fact, Mode};
use crate::oracle::{Branch, EPT_CONDITIONS, ReplayInputs, may_enable_ept, replay};
use crate::rules::{RULES, Rule};

/// The arguments.
#[derive(clap::Args)]
pub(super) struct Args {
    /// A rule, such as EPT103; without any argument, the rules there are
    #[arg(conflicts_with = "maxphyaddr")]
    rule: Option<String>,
    /// Explain the decision for a guest with this MAXPHYADDR, in bits
    #[arg(long, value_name = "BITS")]
    maxphyaddr: Option<u8>,
    /// The EPT capability (MSR 0x48c), in hex; this machine's if left out
    #[arg(long, value_name = "HEX", value_parser = parse_hex, requires = "maxphyaddr")]
    ept_cap: Option<u64>,
    /// Explain for NPT on a host whose own paging has this many levels
    #[arg(long, value_name = "LEVELS", requires = "maxphyaddr", conflicts_with = "ept_cap")]
    #[arg(value_parser = clap::value_parser!(u8).range(4..=5))]
    npt: Option<u8>,
}

/// A hexadecimal number, with or without 0x.
pub(super) fn parse_hex(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16).map_err(|err| format!("not a hexadecimal number: {err}"))
}

/// What the vendor module hands to kvm, with where it comes from.
enum Hardware {
    Ept { capability: u64, origin: String },
    Npt { levels: u8, origin: String },
}

/// Prints the explanation.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let text = match (&args.rule, args.maxphyaddr) {
        (Some(id), _) => match Rule::find(id) {
            Some(rule) => rule.explanation() + "\n",
            None => bail!("no rule {id}; `ept-trace explain` lists them"),
        },
        (None, Some(maxphyaddr)) => decision(maxphyaddr, &hardware(args)?),
        (None, None) => RULES.iter().fold(String::new(), |mut text, rule| {
            let _ = writeln!(text, "{}  {}", rule.id, rule.name);
            text
        }),
    };
    print(&text)?;
    Ok(Exit::Clean)
}

fn hardware(args: &Args) -> Result<Hardware> {
    let given = || "given on the command line".to_owned();
    if let Some(capability) = args.ept_cap {
        return Ok(Hardware::Ept { capability, origin: given() });
    }
    if let Some(levels) = args.npt {
        return Ok(Hardware::Npt { levels, origin: given() });
    }
    this_machine()
}

#[cfg(feature = "live")]
fn this_machine() -> Result<Hardware> {
    use crate::kernel::Host;
    use crate::model::Vendor;

    let facts = Host::read()?.facts;
    let capability = facts.hardware.ept_vpid_cap;
    let capability = capability.or(|| facts.kvm.vmx_capability_ept.map(u64::from));
    match (&facts.vendor, &capability, &facts.hardware.host_la57) {
        (Vendor::Vmx, Fact::Known { value, origin }, _) => {
            Ok(Hardware::Ept { capability: *value, origin: origin.to_string() })
        }
        (Vendor::Svm, _, Fact::Known { value, origin }) => {
            let levels = if *value { 5 } else { 4 };
            Ok(Hardware::Npt { levels, origin: origin.to_string() })
        }
        (vendor, _, _) => bail!(
            "this machine's own capability is not known (vendor module: {vendor}); give one with \
             --ept-cap HEX or --npt LEVELS"
        ),
    }
}

#[cfg(not(feature = "live"))]
fn this_machine() -> Result<Hardware> {
    bail!("built without live tracing: give --ept-cap HEX or --npt LEVELS")
}

fn decision(maxphyaddr: u8, hardware: &Hardware) -> String {
    let mut text = String::new();
    let (tdp_enabled, forced, max) = match hardware {
        Hardware::Ept { capability, origin } => vmx_setup(&mut text, *capability, origin),
        Hardware::Npt { levels, origin } => {
            let _ = writeln!(text, "svm_hardware_setup: the host's own paging has {levels} levels");
            let _ = writeln!(text, "  ({origin}), and NPT has as many: forced from 5.15 on");
            (true, *levels, *levels)
        }
    };
    let _ = writeln!(
        text,
        "  kvm_configure_mmu(enable_tdp={}, forced={forced}, max={max}, ...)",
        u8::from(tdp_enabled)
    );
    let _ = writeln!(text, "\nkvm_init_mmu, for a vCPU with MAXPHYADDR {maxphyaddr}:");
    let _ = writeln!(text, "  cpuid_query_maxphyaddr  EAX[7:0] of CPUID 0x80000008 = {maxphyaddr}");
    let _ = writeln!(text, "  mmu_is_nested           no: this is L1, and not L2 on nested TDP");
    let behaviour = Behaviour::default();
    let origin = "explained";
    let inputs = ReplayInputs {
        behaviour: &behaviour,
        nested: false,
        tdp_enabled: Fact::known(tdp_enabled, origin),
        forced: Fact::known(forced, origin),
        max: Fact::known(max, origin),
        maxphyaddr: Fact::known(maxphyaddr, origin),
        vm_type: None,
        cpuid: None,
        paging: Some((0, 0)),
    };
    match replay(&inputs) {
        Ok(replay) => {
            let way = match replay.mode {
                Mode::Tdp => "yes: init_kvm_tdp_mmu",
                Mode::Soft | Mode::Nested => "no: init_kvm_softmmu, shadow paging",
            };
            let _ = writeln!(text, "  tdp_enabled             {way}");
            if replay.mode == Mode::Tdp {
                let why = match replay.branch {
                    Branch::Forced => format!("tdp_root_level is {forced}, and decides"),
                    Branch::FourReaches => {
                        format!("max_tdp_level is 5, and {maxphyaddr} is not above 48: 4")
                    }
                    _ => format!("max_tdp_level is {max}, and decides"),
                };
                let _ = writeln!(text, "  kvm_mmu_get_tdp_level   {why}");
            }
            conclude(&mut text, replay.mode, replay.level, maxphyaddr);
        }
        Err(missing) => {
            let _ = writeln!(text, "  {} is not known: {}", missing.what, missing.why);
        }
    }
    text
}

fn conclude(text: &mut String, mode: Mode, level: Option<u8>, maxphyaddr: u8) {
    let level = level.unwrap_or_default();
    if mode == Mode::Soft {
        let _ = writeln!(text, "\nroot level 3 to 5, following the guest's own paging mode");
        return;
    }
    let reach = if level == 5 { 57 } else { 48 };
    let _ = writeln!(text, "\nroot level {level}: reaches {reach} bits of guest-physical address");
    if maxphyaddr > reach {
        let _ = writeln!(
            text,
            "The guest is told of {maxphyaddr} bits: a page above 2^{reach} can never be mapped, \
             and faults for ever,\nunless GuestPhysBits (CPUID 0x80000008 EAX[23:16]) warns it."
        );
    }
}

fn vmx_setup(text: &mut String, capability: u64, origin: &str) -> (bool, u8, u8) {
    let _ = writeln!(text, "vmx_hardware_setup (hardware_setup before 6.10):");
    let _ = writeln!(text, "  IA32_VMX_EPT_VPID_CAP     {capability:#x} ({origin})");
    for condition in EPT_CONDITIONS {
        let has = if capability & (1 << condition.bit) == 0 { "no" } else { "yes" };
        let _ = writeln!(text, "  {:<26}bit {:<2}  {has}", condition.function, condition.bit);
    }
    let enable_ept = may_enable_ept(capability).is_ok();
    let _ = writeln!(text, "  enable_ept                {}", u8::from(enable_ept));
    let max = max_ept_level(capability);
    let has = if max == 5 { "yes" } else { "no" };
    let _ = writeln!(text, "  cpu_has_vmx_ept_5levels   bit 7   {has}");
    let _ = writeln!(text, "  vmx_get_max_ept_level     {max}");
    (enable_ept, 0, max)
}
