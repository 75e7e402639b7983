//! What this program may do beyond others: only what it still has a use for.
//!
//! Attaching takes much: kernel addresses, `/proc/kcore`, MSRs, perhaps a mount. What is opened for
//! it stays open, so that all a module that comes later asks for is CAP_BPF and CAP_PERFMON. The
//! rest goes as soon as everything is attached, and cannot come back.

use std::collections::HashSet;
use std::fs;

use anyhow::{Context as _, Result};
use caps::{CapSet, Capability, CapsHashSet};
use rustix::thread::set_no_new_privs;

/// What is still to come, and asks for more than hooks do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ahead {
    /// A command is to be ended, which may run as another user.
    pub ends_command: bool,
    /// Files are to be opened or made, wherever whoever called us may.
    pub opens_files: bool,
}

/// Whether this process has a capability.
pub(super) fn has(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

/// Gives up every capability but those that a watcher needs from now on, for this thread and all
/// that it starts; what it executes gets no more either.
///
/// Where CAP_SYS_ADMIN alone stands for CAP_BPF or CAP_PERFMON, as it does for the kernel, it
/// stays; and where hooks cannot be set without it.
///
/// # Errors
///
/// If the kernel refuses, which it has no reason to.
pub fn drop_privileges(ahead: Ahead) -> Result<()> {
    let held = caps::read(None, CapSet::Permitted).context("capabilities")?;
    keep(&held, &needed(&held, is_root(), perf_is_for_admins(), ahead))
}

/// The same for the child that cleans up, which writes to tracefs and does nothing else.
pub(super) fn drop_all_but_tracefs() -> Result<()> {
    let held = caps::read(None, CapSet::Permitted).context("capabilities")?;
    keep(&held, &for_tracefs(is_root()))
}

/// Whether `perf_event_open` asks for CAP_SYS_ADMIN, whatever else one has: so do the kernels of Debian
/// and others, which know a `kernel.perf_event_paranoid` above 2, where it is that.
pub(super) fn perf_is_for_admins() -> bool {
    let level = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
    level.is_ok_and(|level| level.trim().parse().is_ok_and(|level: i32| level > 2))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn keep(held: &CapsHashSet, needed: &CapsHashSet) -> Result<()> {
    let kept: CapsHashSet = needed.intersection(held).copied().collect();
    // First the bounding set, which takes one of those that go. Who has not got that cannot gain
    // any by it, for root's are held back by no_new_privs below.
    if held.contains(&Capability::CAP_SETPCAP) {
        let bounding = caps::read(None, CapSet::Bounding).context("capabilities")?;
        for capability in bounding.difference(&kept) {
            caps::drop(None, CapSet::Bounding, *capability)
                .with_context(|| format!("{capability} cannot be given up"))?;
        }
    }
    set_no_new_privs(true).context("no_new_privs")?;
    caps::clear(None, CapSet::Ambient).context("ambient capabilities cannot be given up")?;
    let none = HashSet::new();
    let sets =
        [(CapSet::Inheritable, &none), (CapSet::Effective, &kept), (CapSet::Permitted, &kept)];
    for (set, kept) in sets {
        caps::set(None, set, kept).context("capabilities cannot be given up")?;
    }
    Ok(())
}

/// What has a use once everything is attached.
fn needed(held: &CapsHashSet, is_root: bool, only_admins: bool, ahead: Ahead) -> CapsHashSet {
    // A module that comes is looked at, and hooked: programs are loaded, and set on events.
    let mut needed = HashSet::from([Capability::CAP_BPF, Capability::CAP_PERFMON]);
    if only_admins || !needed.is_subset(held) {
        needed.insert(Capability::CAP_SYS_ADMIN);
    }
    needed.extend(for_tracefs(is_root));
    if ahead.ends_command {
        needed.insert(Capability::CAP_KILL);
    }
    if ahead.opens_files {
        needed.extend([Capability::CAP_DAC_OVERRIDE, Capability::CAP_FOWNER]);
    }
    needed
}

/// tracefs is root's.
fn for_tracefs(is_root: bool) -> CapsHashSet {
    (!is_root).then_some(Capability::CAP_DAC_OVERRIDE).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING_AHEAD: Ahead = Ahead { ends_command: false, opens_files: false };

    #[test]
    fn hooks_need_two_capabilities_or_the_one_that_stands_for_them() {
        let both = HashSet::from([Capability::CAP_BPF, Capability::CAP_PERFMON]);
        assert_eq!(needed(&caps::all(), true, false, NOTHING_AHEAD), both);
        let all = needed(&caps::all(), true, true, NOTHING_AHEAD);
        assert!(all.contains(&Capability::CAP_SYS_ADMIN) && all.len() == 3, "{all:?}");
        let admin = HashSet::from([Capability::CAP_SYS_ADMIN]);
        assert!(needed(&admin, true, false, NOTHING_AHEAD).contains(&Capability::CAP_SYS_ADMIN));
    }

    #[test]
    fn what_is_ahead_asks_for_more() {
        let more = |is_root, ahead| {
            let mut more = needed(&caps::all(), is_root, false, ahead);
            more.retain(|capability| {
                !matches!(capability, Capability::CAP_BPF | Capability::CAP_PERFMON)
            });
            more
        };
        let files = HashSet::from([Capability::CAP_DAC_OVERRIDE, Capability::CAP_FOWNER]);
        assert_eq!(more(true, Ahead { opens_files: true, ..NOTHING_AHEAD }), files);
        let kill = HashSet::from([Capability::CAP_KILL]);
        assert_eq!(more(true, Ahead { ends_command: true, ..NOTHING_AHEAD }), kill);
        assert_eq!(more(false, NOTHING_AHEAD), HashSet::from([Capability::CAP_DAC_OVERRIDE]));
    }
}
