//! Which KVM modules there are, and in which state.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
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
    /// Which load of `kvm` and of the vendor module it is: sysfs numbers each anew.
    loads: [Option<u64>; 2],
}

impl Modules {
    /// Looks at `/sys/module`.
    pub fn read() -> Self {
        let vendor = vendor();
        let name = match &vendor.0 {
            Vendor::None => String::new(),
            vendor => vendor.to_string(),
        };
        Self { kvm: presence("kvm"), vendor, loads: [load("kvm"), load(&name)] }
    }

    /// Whether the vendor module is there and has finished `hardware_setup`.
    pub fn vendor_is_live(&self) -> bool {
        matches!(self.vendor.1, Presence::Loaded | Presence::BuiltIn)
    }
}

/// The vendor module that is at work. What is built in is there even where its set-up failed, on
/// the other vendor's CPU or without nested virtualisation, so it comes last and has to show more.
fn vendor() -> (Vendor, Presence) {
    let known =
        [(Vendor::Vmx, "vmx", presence("kvm_intel")), (Vendor::Svm, "svm", presence("kvm_amd"))];
    for (vendor, _, presence) in &known {
        if matches!(presence, Presence::Loaded | Presence::InTransit) {
            return (vendor.clone(), *presence);
        }
    }
    if let Some(other) = other_vendor() {
        let presence = presence(&other);
        return (Vendor::Other(other), presence);
    }
    // A vendor module that has set itself up registers the device.
    let has_device = Path::new("/sys/class/misc/kvm").exists();
    for (vendor, flag, presence) in known {
        if presence == Presence::BuiltIn && has_device && cpu_has(flag) {
            return (vendor, presence);
        }
    }
    (Vendor::None, Presence::Absent)
}

fn load(module: &str) -> Option<u64> {
    let dir = Path::new("/sys/module").join(module);
    fs::metadata(dir).ok().filter(|_| !module.is_empty()).map(|dir| dir.ino())
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
        .filter(|name| name != "kvm_intel" && name != "kvm_amd")
        .collect();
    names.sort();
    names.into_iter().next()
}

fn cpu_has(flag: &str) -> bool {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut flags = cpuinfo.lines().filter(|line| line.starts_with("flags"));
    flags.next().is_some_and(|line| line.split_ascii_whitespace().any(|word| word == flag))
}
