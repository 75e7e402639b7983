//! Which KVM modules there are, and in which state.

use std::fs;
use std::path::Path;

use crate::model::Vendor;

/// Whether a module is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Not at all.
    Absent,
    /// Being loaded or unloaded.
    InTransit,
    /// Loaded.
    Loaded,
    /// Part of the kernel itself.
    BuiltIn,
}

/// The modules of KVM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Modules {
    /// `kvm`.
    pub kvm: Presence,
    /// The vendor module, and its presence.
    pub vendor: (Vendor, Presence),
}

impl Modules {
    /// Looks at `/sys/module`.
    pub fn read() -> Self {
        let vmx = presence("kvm_intel");
        let svm = presence("kvm_amd");
        let vendor = if vmx == Presence::BuiltIn && svm == Presence::BuiltIn {
            // Both are built in; only the one that fits the CPU is alive.
            if cpu_has("vmx") { (Vendor::Vmx, vmx) } else { (Vendor::Svm, svm) }
        } else if vmx != Presence::Absent {
            (Vendor::Vmx, vmx)
        } else if svm != Presence::Absent {
            (Vendor::Svm, svm)
        } else {
            other_vendor().map_or((Vendor::None, Presence::Absent), |name| {
                let presence = presence(&name);
                (Vendor::Other(name), presence)
            })
        };
        Self { kvm: presence("kvm"), vendor }
    }

    /// Whether the vendor module is there and has finished `hardware_setup`.
    pub fn vendor_is_live(&self) -> bool {
        matches!(self.vendor.1, Presence::Loaded | Presence::BuiltIn)
    }
}

fn presence(module: &str) -> Presence {
    let dir = Path::new("/sys/module").join(module);
    if !dir.exists() {
        return Presence::Absent;
    }
    match fs::read_to_string(dir.join("initstate")) {
        Ok(state) if state.trim() == "live" => Presence::Loaded,
        Ok(_) => Presence::InTransit,
        Err(_) => Presence::BuiltIn,
    }
}

/// A vendor module that is neither Intel's nor AMD's.
fn other_vendor() -> Option<String> {
    let mut names: Vec<String> = fs::read_dir("/sys/module")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("kvm_"))
        .collect();
    names.sort();
    names.into_iter().next()
}

fn cpu_has(flag: &str) -> bool {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut flags = cpuinfo.lines().filter(|line| line.starts_with("flags"));
    flags.next().is_some_and(|line| line.split_ascii_whitespace().any(|word| word == flag))
}
