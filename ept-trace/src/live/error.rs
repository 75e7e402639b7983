//! Why this machine cannot be watched, with the next step.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;

use caps::Capability;
use tokio::runtime::{Builder, Runtime};

use super::privileges::{has, perf_is_for_admins};

/// Watching is not possible here; distinct from a failure, for CI tells a skip from a defect.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CannotRun(pub String);

/// What stands in the way before anything is tried.
///
/// # Errors
///
/// [`CannotRun`] without the capabilities, all of which are named, or under confidentiality lockdown, or
/// without what any system has.
pub fn preflight() -> Result<(), CannotRun> {
    let missing = missing(has, can_reach_tracefs(), perf_is_for_admins());
    if !missing.is_empty() {
        return Err(CannotRun(format!(
            "without {}: run as root, with `sudo ept-trace ...`",
            missing.join(", ")
        )));
    }
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    if lockdown.contains("[confidentiality]") {
        return Err(CannotRun(
            "kernel lockdown is in confidentiality mode, which keeps eBPF from reading kernel \
             memory: boot with lockdown=integrity or without it"
                .to_owned(),
        ));
    }
    has_unix_sockets()
}

/// What runs the tasks of a verb.
///
/// # Errors
///
/// [`CannotRun`] on a kernel without Unix sockets; or if the system has no room for it.
pub fn runtime() -> anyhow::Result<Runtime> {
    // Without them tokio panics.
    has_unix_sockets()?;
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// What waits for signals and child processes is told by them.
fn has_unix_sockets() -> Result<(), CannotRun> {
    let pair = UnixStream::pair();
    pair.map(drop).map_err(|err| CannotRun(format!("no Unix sockets (CONFIG_UNIX): {err}")))
}

/// The capabilities without which nothing can be watched, with what each is for. Others only make
/// facts known that are unknown without them.
fn missing(
    has: impl Fn(Capability) -> bool,
    can_reach_tracefs: bool,
    only_admins: bool,
) -> Vec<String> {
    // For the kernel CAP_SYS_ADMIN stands for the first two, and before 5.8 there was nothing else.
    let is_admin = has(Capability::CAP_SYS_ADMIN);
    [
        (Capability::CAP_BPF, is_admin, "loads the eBPF programs"),
        (Capability::CAP_PERFMON, is_admin, "attaches them and reads kernel memory"),
        (
            Capability::CAP_SYS_ADMIN,
            !only_admins,
            "attaches them where kernel.perf_event_paranoid is above 2",
        ),
        (Capability::CAP_DAC_OVERRIDE, can_reach_tracefs, "writes to tracefs, which is root's"),
    ]
    .into_iter()
    .filter(|(capability, is_dispensable, _)| !is_dispensable && !has(*capability))
    .map(|(capability, _, why)| format!("{capability} ({why})"))
    .collect()
}

/// Whether tracefs is open to this user: root's, or by the group that it is mounted with.
fn can_reach_tracefs() -> bool {
    rustix::process::geteuid().is_root() || Path::new("/sys/kernel/tracing/events").is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_missing_is_named_at_once() {
        let missing = |held: &[Capability], can_reach_tracefs| {
            missing(|capability| held.contains(&capability), can_reach_tracefs, false).join(", ")
        };
        let nothing = missing(&[], false);
        for capability in ["CAP_BPF (", "CAP_PERFMON (", "CAP_DAC_OVERRIDE ("] {
            assert!(nothing.contains(capability), "{nothing}");
        }
        let both = [Capability::CAP_BPF, Capability::CAP_PERFMON];
        assert_eq!(missing(&both, true), "");
        assert_eq!(missing(&both, false), "CAP_DAC_OVERRIDE (writes to tracefs, which is root's)");
        assert_eq!(missing(&[Capability::CAP_SYS_ADMIN], true), "");
        let restricted = super::missing(|capability| both.contains(&capability), true, true);
        assert!(restricted.concat().starts_with("CAP_SYS_ADMIN ("), "{restricted:?}");
        assert!(missing(&[Capability::CAP_BPF], true).starts_with("CAP_PERFMON ("));
    }
}
