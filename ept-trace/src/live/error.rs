//! Why this machine cannot be watched, with the next step.

use std::fs;

use caps::{CapSet, Capability};

/// Watching is not possible here; distinct from a failure, for CI tells a skip from a defect.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CannotRun(pub String);

/// What stands in the way before anything is tried.
///
/// # Errors
///
/// [`CannotRun`] without the capabilities, or under confidentiality lockdown.
pub fn preflight() -> Result<(), CannotRun> {
    let needed = [
        (Capability::CAP_BPF, "loads the eBPF programs"),
        (Capability::CAP_PERFMON, "attaches them and reads kernel memory"),
        (Capability::CAP_DAC_OVERRIDE, "writes to tracefs"),
    ];
    let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    // Before 5.8, and on a kernel that has more, CAP_SYS_ADMIN stands for the first two.
    if !has(Capability::CAP_SYS_ADMIN) {
        for (capability, why) in needed {
            if !has(capability) {
                return Err(CannotRun(format!(
                    "{capability} is missing ({why}): run as root, with `sudo ept-trace ...`"
                )));
            }
        }
    }
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    if lockdown.contains("[confidentiality]") {
        return Err(CannotRun(
            "kernel lockdown is in confidentiality mode, which keeps eBPF from reading kernel \
             memory: boot with lockdown=integrity or without it"
                .to_owned(),
        ));
    }
    Ok(())
}
