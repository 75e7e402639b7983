//! This machine, read once: what the facts and the plan are made from.

use std::fs;
use std::os::linux::fs::MetadataExt as _;

use anyhow::Result;
use ept_trace_common::abi::{Config, Variable, Variables};

use super::kallsyms::Symbol;
use super::kcore::Kcore;
use super::layout::tracepoint_fields;
use super::{AttachPlan, Layout, Modules, Symbols, Tracefs, machine};
use crate::model::{Behaviour, Fact, KernelFacts, KvmState, Vendor};

/// Everything that was read of this machine.
#[derive(Debug)]
pub struct Host {
    /// Which KVM modules there are.
    pub modules: Modules,
    /// Symbols of the kernel and its modules.
    pub symbols: Symbols,
    /// Offsets.
    pub layout: Layout,
    /// What the verdicts rest on.
    pub facts: KernelFacts,
}

impl Host {
    /// Reads the machine.
    ///
    /// # Errors
    ///
    /// Without `/proc/kallsyms` or BTF nothing can be captured, so those are errors; everything
    /// else that is missing is a fact that is unknown.
    pub fn read() -> Result<Self> {
        let layout = Layout::read()?;
        let symbols = Symbols::read()?;
        let modules = Modules::read();
        let facts = gather(&modules, &symbols, &layout);
        Ok(Self { modules, symbols, layout, facts })
    }

    /// The constants for the kernel side.
    pub fn config(&self, tracefs: &Tracefs, tgid: Option<u32>) -> Config {
        let pidns = fs::metadata("/proc/self/ns/pid");
        let (pidns_dev, pidns_ino) = pidns.map_or((0, 0), |file| (file.st_dev(), file.st_ino()));
        Config {
            pidns_dev,
            pidns_ino,
            filter_tgid: tgid.unwrap_or(0),
            cpuid_embedded: u32::from(self.layout.cpuid_embedded),
            fields: self.layout.fields,
            files: self.layout.files,
            tracepoints: tracepoint_fields(tracefs),
        }
    }

    /// Where KVM's variables are, for the kernel side.
    pub fn variables(&self) -> Variables {
        let mut variables = Variables::default();
        for variable in Variable::ALL {
            let (module, name, _) = symbol_of(variable);
            let address = self.symbols.address(module, name).unwrap_or(0);
            variables.address[variable as usize] = address;
        }
        variables
    }

    /// What `watch` will attach.
    pub fn plan(&self, tracefs: &Tracefs, allow_kprobes: bool) -> AttachPlan {
        AttachPlan::new(self, tracefs, allow_kprobes)
    }
}

/// Module, symbol, and the module parameter that shows the same value.
fn symbol_of(variable: Variable) -> (&'static str, &'static str, Option<&'static str>) {
    match variable {
        Variable::TdpEnabled => ("kvm", "tdp_enabled", None),
        Variable::MaxTdpLevel => ("kvm", "max_tdp_level", None),
        Variable::TdpRootLevel => ("kvm", "tdp_root_level", None),
        Variable::EnableEpt => ("kvm_intel", "enable_ept", Some("ept")),
        Variable::VmxCapabilityEpt => ("kvm_intel", "vmx_capability", None),
        Variable::NptEnabled => ("kvm_amd", "npt_enabled", Some("npt")),
    }
}

fn gather(modules: &Modules, symbols: &Symbols, layout: &Layout) -> KernelFacts {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let vendor = if modules.vendor_is_live() { modules.vendor.0.clone() } else { Vendor::None };
    let parameter = |name: &str| {
        let parameters = layout.configure_mmu_parameters.as_deref().unwrap_or_default();
        parameters.iter().any(|parameter| parameter == name)
    };
    let behaviour = Behaviour {
        has_tdp_root_level: symbols.unique("kvm", "tdp_root_level").is_some()
            || parameter("tdp_forced_root_level"),
        has_max_tdp_level: symbols.unique("kvm", "max_tdp_level").is_some()
            || parameter("tdp_max_root_level"),
        has_cached_tdp_level: layout.has_cached_tdp_level,
        has_maxguestphyaddr: symbols.unique("kvm", "cpuid_query_maxguestphyaddr").is_some(),
    };
    let kvm = kvm_state(symbols, &behaviour);
    let release = release.trim().to_owned();
    KernelFacts { release, vendor, behaviour, hardware: machine::hardware(), kvm }
}

fn kvm_state(symbols: &Symbols, behaviour: &Behaviour) -> KvmState {
    let kcore = Kcore::open().map_err(|err| format!("{err:#}"));
    let read = |variable: Variable| -> Fact<u32> {
        let (module, name, parameter) = symbol_of(variable);
        let from_memory = || {
            let address = address(symbols, module, name)?;
            let kcore = kcore.as_ref().map_err(Clone::clone)?;
            let value = match variable.size() {
                1 => kcore.read::<1>(address).map(|[byte]| u32::from(byte)),
                _ => kcore.read::<4>(address).map(u32::from_le_bytes),
            };
            value.map_err(|err| format!("{err:#}"))
        };
        match from_memory() {
            Ok(value) => Fact::known(value, format!("{name} of {module}, /proc/kcore")),
            Err(why) => parameter
                .map_or_else(|| Fact::unknown(why), |parameter| from_sysfs(module, parameter)),
        }
    };
    let level = |fact: Fact<u32>| match fact {
        Fact::Known { value, origin } => match u8::try_from(value) {
            Ok(level) => Fact::known(level, origin),
            Err(_) => Fact::unknown(format!("{origin}: {value:#x} is no level")),
        },
        Fact::Unknown { why } => Fact::unknown(why),
    };
    let tdp_root_level = if behaviour.has_max_tdp_level && !behaviour.has_tdp_root_level {
        Fact::known(0, "this kernel forces no level")
    } else {
        level(read(Variable::TdpRootLevel))
    };
    KvmState {
        tdp_enabled: read(Variable::TdpEnabled).map(|value| value != 0),
        max_tdp_level: level(read(Variable::MaxTdpLevel)),
        tdp_root_level,
        enable_ept: read(Variable::EnableEpt).map(|value| value != 0),
        vmx_capability_ept: read(Variable::VmxCapabilityEpt),
        npt_enabled: read(Variable::NptEnabled).map(|value| value != 0),
    }
}

fn address(symbols: &Symbols, module: &str, name: &str) -> Result<u64, String> {
    match symbols.unique(module, name) {
        None => Err(format!("no symbol {name} of {module} in /proc/kallsyms")),
        Some(Symbol { address: 0, .. }) => Err(format!(
            "/proc/kallsyms hides the address of {name}: see kernel.kptr_restrict, CAP_SYSLOG"
        )),
        Some(symbol) => Ok(symbol.address),
    }
}

/// A boolean module parameter.
fn from_sysfs(module: &str, parameter: &str) -> Fact<u32> {
    let path = format!("/sys/module/{module}/parameters/{parameter}");
    match fs::read_to_string(&path).as_deref().map(str::trim) {
        Ok("Y" | "1") => Fact::known(1, path),
        Ok("N" | "0") => Fact::known(0, path),
        Ok(_) => Fact::unknown(format!("{path} is neither Y nor N")),
        Err(err) => Fact::unknown(format!("{path}: {err}")),
    }
}
