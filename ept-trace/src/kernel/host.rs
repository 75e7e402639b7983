//! This machine, read once: what the facts and the plan are made from.

use std::fs;
use std::os::linux::fs::MetadataExt as _;

use anyhow::Result;
use ept_trace_common::abi::{ABSENT, Config, Field, Inputs, Variable, Variables};
use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::Kvm;

use super::eptp_write::{EptpWrite, argument};
use super::kallsyms::Symbol;
use super::kcore::Kcore;
use super::layout::{kvm_tracepoints, tracepoint_fields};
use super::msr::IA32_VMX_EPT_VPID_CAP;
use super::{Access, AttachPlan, Layout, Modules, Scope, Symbols, Tracefs};
use crate::model::{Behaviour, Fact, KernelFacts, KvmState, RetPf, Vendor};

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
    /// Where the EPTP is written, or why that is not known.
    pub eptp_write: Result<EptpWrite, String>,
}

/// What the kernel side leaves out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    /// Everything that another process does.
    pub tgid: Option<u32>,
    /// What is plainly right.
    pub drop_right: bool,
    /// All but one of so many walks; 0: all of them.
    pub one_walk_in: u32,
    /// Changes of entries are not left out.
    pub history: bool,
}

impl Host {
    /// Reads the machine.
    ///
    /// # Errors
    ///
    /// Without `/proc/kallsyms` or BTF nothing can be captured, so those are errors; everything
    /// else that is missing is a fact that is unknown.
    pub fn read() -> Result<Self> {
        Self::read_by(&Access::open()?)
    }

    /// Reads the machine, by what is open already.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn read_by(access: &Access) -> Result<Self> {
        let layout = Layout::read()?;
        let symbols = Symbols::parse(&access.kallsyms()?);
        let modules = Modules::read();
        let facts = gather(&modules, &symbols, &layout, access);
        let eptp_write = match &access.kcore {
            Ok(kcore) => EptpWrite::find(&symbols, kcore).map_err(|err| format!("{err:#}")),
            Err(err) => Err(format!("{err:#}")),
        };
        Ok(Self { modules, symbols, layout, facts, eptp_write })
    }

    /// The constants for the kernel side.
    pub fn config(&self, tracefs: &Tracefs, filter: Filter) -> Config {
        let pidns = fs::metadata("/proc/self/ns/pid");
        let (pidns_dev, pidns_ino) = pidns.map_or((0, 0), |file| (file.st_dev(), file.st_ino()));
        Config {
            pidns_dev,
            pidns_ino,
            filter_tgid: filter.tgid.unwrap_or(0),
            cpuid_embedded: u32::from(self.layout.cpuid_embedded),
            drop_right: u32::from(filter.drop_right),
            struct_page_size: self.layout.struct_page_size.unwrap_or(ABSENT),
            one_walk_in: filter.one_walk_in,
            memslot_size: self.layout.memslot_size.unwrap_or(ABSENT),
            history: u32::from(filter.history),
            reserved: 0,
            fields: self.layout.fields,
            files: self.layout.files,
            tracepoints: tracepoint_fields(tracefs),
        }
    }

    /// What the kernel side has to know of the modules that are loaded now.
    pub fn variables(&self, tracefs: &Tracefs) -> Variables {
        let address = |module, name| self.symbols.address(module, name).unwrap_or(0);
        let mut variables = Variables {
            judged: judged(&self.facts.kvm),
            tdp_page_fault: address("kvm", "kvm_tdp_page_fault"),
            vmemmap_base: address("", "vmemmap_base"),
            page_offset_base: address("", "page_offset_base"),
            encryption_mask: self.facts.kvm.encryption_mask.value().unwrap_or(0),
            beyond_host: self.beyond_host(),
            page_role: self.layout.modules.page_role,
            ept_caps: self.layout.modules.ept_caps,
            eptp12: self.eptp12_place().unwrap_or(Field::ABSENT),
            l1_cr4: self.npt_argument("cr4").unwrap_or(Field::ABSENT),
            l1_efer: self.npt_argument("efer").unwrap_or(Field::ABSENT),
            tracepoints: kvm_tracepoints(tracefs),
            eptp: self.eptp_write.as_ref().map_or(Field::ABSENT, |write| write.register),
            ..Variables::UNKNOWN
        };
        for variable in Variable::ALL {
            let (module, name, _) = symbol_of(variable);
            variables.address[variable as usize] = address(module, name);
        }
        variables
    }

    /// Bits 51:12 from MAXPHYADDR of the host on, less those that encrypt.
    fn beyond_host(&self) -> u64 {
        let encrypt = self.facts.kvm.encryption_mask.value().unwrap_or(0);
        let width = self.facts.hardware.maxphyaddr.value();
        let above = width.map_or(u64::MAX, |bits| u64::MAX.checked_shl(bits.into()).unwrap_or(0));
        above & 0x000f_ffff_ffff_f000 & !encrypt
    }

    /// Where EPTP12 is at the entry of `kvm_init_shadow_ept_mmu`, in `struct pt_regs`.
    ///
    /// Kernels without BTF for modules are older than the argument before it (5.17).
    pub fn eptp12_place(&self) -> Option<Field> {
        let names = &self.layout.modules.shadow_ept_parameters;
        named_argument(names.as_deref(), "new_eptp")
            .or_else(|| argument(3).filter(|_| names.is_none() && self.is_before_5_15()))
    }

    /// Where an argument of `kvm_init_shadow_npt_mmu` is. Kernels without BTF for modules have
    /// CR0, CR4 and EFER of L1, in this order, after the vCPU.
    fn npt_argument(&self, name: &str) -> Option<Field> {
        let names = &self.layout.modules.shadow_npt_parameters;
        let old = ["vcpu", "cr0", "cr4", "efer", "nested_cr3"].iter().position(|old| *old == name);
        let old = old.filter(|_| names.is_none() && self.is_before_5_15());
        named_argument(names.as_deref(), name).or_else(|| argument(old?))
    }

    /// Whether `tdp_root_level`, which came with 5.15, is away.
    fn is_before_5_15(&self) -> bool {
        let behaviour = &self.facts.behaviour;
        behaviour.has_max_tdp_level && !behaviour.has_tdp_root_level
    }

    /// What `watch` will attach.
    pub fn plan(&self, tracefs: &Tracefs, scope: Scope) -> AttachPlan {
        AttachPlan::new(self, tracefs, scope)
    }
}

/// The variables as the facts have them.
fn judged(kvm: &KvmState) -> Inputs {
    let bit = |fact: &Fact<bool>| fact.value().map(u32::from);
    let level = |fact: &Fact<u8>| fact.value().map(u32::from);
    let mut inputs = Inputs::default();
    for variable in Variable::ALL {
        let value = match variable {
            Variable::TdpEnabled => bit(&kvm.tdp_enabled),
            Variable::MaxTdpLevel => level(&kvm.max_tdp_level),
            Variable::TdpRootLevel => level(&kvm.tdp_root_level),
            Variable::EnableEpt => bit(&kvm.enable_ept),
            Variable::VmxCapabilityEpt => kvm.vmx_capability_ept.value(),
            Variable::NptEnabled => bit(&kvm.npt_enabled),
            Variable::EnableEptAdBits => bit(&kvm.enable_ept_ad_bits),
        };
        if let Some(value) = value {
            inputs.valid |= 1 << variable as u32;
            inputs.value[variable as usize] = value;
        }
    }
    inputs
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
        Variable::EnableEptAdBits => ("kvm_intel", "enable_ept_ad_bits", Some("eptad")),
    }
}

fn gather(modules: &Modules, symbols: &Symbols, layout: &Layout, access: &Access) -> KernelFacts {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let vendor = if modules.vendor_is_live() { modules.vendor.0.clone() } else { Vendor::None };
    let parameter = |name: &str| {
        let parameters = layout.modules.configure_mmu_parameters.as_deref().unwrap_or_default();
        parameters.iter().any(|parameter| parameter == name)
    };
    let behaviour = Behaviour {
        has_tdp_root_level: symbols.unique("kvm", "tdp_root_level").is_some()
            || parameter("tdp_forced_root_level"),
        has_max_tdp_level: symbols.unique("kvm", "max_tdp_level").is_some()
            || parameter("tdp_max_root_level"),
        has_cached_tdp_level: layout.has_cached_tdp_level,
        has_maxguestphyaddr: symbols.unique("kvm", "cpuid_query_maxguestphyaddr").is_some(),
        has_guest_mtrr_types: symbols.unique("kvm", "kvm_mtrr_get_guest_memory_type").is_some(),
        passthrough_bit: layout.modules.passthrough_bit,
        invalid_bit: layout.modules.invalid_bit,
        ret_pf: None,
    };
    let behaviour = Behaviour {
        ret_pf: layout.modules.ret_pf.or_else(|| ret_pf_without_btf(symbols, &behaviour)),
        ..behaviour
    };
    let kvm = kvm_state(symbols, &behaviour, &access.kcore);
    let release = release.trim().to_owned();
    KernelFacts { release, vendor, behaviour, hardware: access.hardware.clone(), kvm }
}

/// `RET_PF_*` of kernels without BTF for modules: the TDP MMU (5.10) brought FIXED and SPURIOUS,
/// and they stayed as they were until after `tdp_root_level` (5.15) came.
fn ret_pf_without_btf(symbols: &Symbols, behaviour: &Behaviour) -> Option<RetPf> {
    let has_tdp_mmu = symbols.unique("kvm", "kvm_tdp_mmu_map").is_some();
    (has_tdp_mmu && !behaviour.has_tdp_root_level).then_some(RetPf { fixed: 3, spurious: 4 })
}

/// An argument by the name that BTF has for it.
fn named_argument(names: Option<&[String]>, name: &str) -> Option<Field> {
    argument(names?.iter().position(|parameter| parameter == name)?)
}

fn kvm_state(symbols: &Symbols, behaviour: &Behaviour, kcore: &Result<Kcore>) -> KvmState {
    let read = |variable: Variable| -> Fact<u32> {
        let (module, name, parameter) = symbol_of(variable);
        let from_memory = || {
            let address = address(symbols, module, name)?;
            let kcore = kcore.as_ref().map_err(|err| format!("{err:#}"))?;
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
    let word = |module: &str, name: &str| {
        let read = || {
            let address = address(symbols, module, name)?;
            let kcore = kcore.as_ref().map_err(|err| format!("{err:#}"))?;
            kcore.read::<8>(address).map_err(|err| format!("{err:#}"))
        };
        match read() {
            Ok(bytes) => Fact::known(u64::from_le_bytes(bytes), format!("{name}, /proc/kcore")),
            Err(why) => Fact::unknown(why),
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
        enable_ept_ad_bits: read(Variable::EnableEptAdBits).map(|value| value != 0),
        nested_ept_vpid_cap: match feature_msr(IA32_VMX_EPT_VPID_CAP) {
            Ok(value) => Fact::known(value, "KVM_GET_MSRS of /dev/kvm"),
            Err(why) => Fact::unknown(why),
        },
        allow_smaller_maxphyaddr: from_sysfs("kvm_intel", "allow_smaller_maxphyaddr")
            .map(|value| value != 0),
        encryption_mask: word("", "sme_me_mask"),
        shadow_mmio_value: word("kvm", "shadow_mmio_value"),
        shadow_mmio_mask: word("kvm", "shadow_mmio_mask"),
        shadow_mmu_writable_mask: word("kvm", "shadow_mmu_writable_mask"),
        tdp_mmu: from_sysfs("kvm", "tdp_mmu").map(|value| value != 0),
        nx_huge_pages: nx_huge_pages(),
    }
}

/// A feature MSR: what KVM offers to guests, as it tells who asks before creating one.
fn feature_msr(index: u32) -> Result<u64, String> {
    let kvm = Kvm::new().map_err(|err| format!("/dev/kvm: {err}"))?;
    let entry = kvm_msr_entry { index, ..Default::default() };
    let mut msrs = Msrs::from_entries(&[entry]).map_err(|_| "KVM_GET_MSRS".to_owned())?;
    match kvm.get_msrs(&mut msrs) {
        Ok(1) => Ok(msrs.as_slice()[0].data),
        Ok(_) => Err(format!("KVM_GET_MSRS of /dev/kvm: no MSR {index:#x}")),
        Err(err) => Err(format!("KVM_GET_MSRS of /dev/kvm: {err}")),
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

/// Whether KVM splits huge pages when they are executed: `nx_huge_pages` of kvm. `auto` was
/// replaced by what came of it; `never` is off for good.
fn nx_huge_pages() -> Fact<bool> {
    let path = "/sys/module/kvm/parameters/nx_huge_pages";
    match fs::read_to_string(path).as_deref().map(str::trim) {
        Ok("Y" | "1") => Fact::known(true, path),
        Ok("N" | "0" | "never" | "off") => Fact::known(false, path),
        Ok(other) => Fact::unknown(format!("{path} is {other:?}")),
        Err(err) => Fact::unknown(format!("{path}: {err}")),
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
