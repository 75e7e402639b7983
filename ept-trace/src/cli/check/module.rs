//! The vendor module: unloaded, and loaded again.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::kernel::{Modules, Presence};
use crate::live::CannotRun;
use crate::model::Vendor;

/// A vendor module that is not loaded; loaded again when dropped, so that no failure leaves the
/// machine without.
pub(super) struct Unloaded {
    module: &'static str,
    is_due: bool,
}

impl Unloaded {
    /// Unloads the vendor module; if there is none, that of this CPU is taken to be it.
    pub(super) fn new() -> Result<Self> {
        let modules = Modules::read();
        let module = match &modules.vendor {
            (Vendor::Vmx, Presence::Loaded) => "kvm_intel",
            (Vendor::Svm, Presence::Loaded) => "kvm_amd",
            (Vendor::None, _) => {
                return Ok(Self { module: vendor_module_of_cpu()?, is_due: false });
            }
            (vendor, Presence::BuiltIn) => {
                bail!(CannotRun(format!("{vendor} cannot be unloaded: it is built in")))
            }
            (vendor, Presence::InTransit) => bail!("{vendor} is just being loaded or unloaded"),
            (vendor, _) => bail!(CannotRun(format!("how to load {vendor} again is not known"))),
        };
        modprobe(&["-r", module])?;
        Ok(Self { module, is_due: true })
    }

    /// Loads it.
    pub(super) fn load(mut self) -> Result<()> {
        self.is_due = false;
        modprobe(&[self.module])
    }
}

impl Drop for Unloaded {
    fn drop(&mut self) {
        if self.is_due
            && let Err(err) = modprobe(&[self.module])
        {
            eprintln!("ept-trace: {} is not loaded: {err:#}", self.module);
        }
    }
}

fn vendor_module_of_cpu() -> Result<&'static str> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
    let has = |flag: &str| cpuinfo.split_ascii_whitespace().any(|word| word == flag);
    match (has("vmx"), has("svm")) {
        (true, _) => Ok("kvm_intel"),
        (_, true) => Ok("kvm_amd"),
        _ => bail!(CannotRun("this CPU offers neither VMX nor SVM".to_owned())),
    }
}

fn modprobe(arguments: &[&str]) -> Result<()> {
    let status = Command::new("modprobe").args(arguments).status().context("modprobe")?;
    if !status.success() {
        bail!(
            "`modprobe {}` failed ({status}); are virtual machines running?",
            arguments.join(" ")
        );
    }
    Ok(())
}
