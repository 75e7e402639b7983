//! Walks in tables that were put together from the changes of their entries.

use anyhow::{Result, bail};

use super::args::{AccessKind, EVERYTHING, WIDEST};
use super::root::{Pointer, Refused, Root, TheCpu};
use super::{Tables, dump, json, text};
use crate::cli::Exit;
use crate::cli::output::print;
use crate::ept::EptCapability;
use crate::model::{Gpa, KernelFacts, Vendor};
use crate::oracle::{Image, ROOT};
use ept_trace_common::eptp;

/// What of the tables is asked for.
#[derive(clap::Args)]
pub(in crate::cli) struct Replay {
    /// Walk to this guest-physical address, in the tables as their changes have left them
    #[arg(long, value_name = "GPA", value_parser = crate::cli::explain::parse_hex)]
    walk: Option<u64>,
    /// What the access does: read, write or fetch
    #[arg(long, value_enum, default_value = "r", requires = "walk")]
    access: AccessKind,
    /// Show all ranges of the tables, as their changes have left them
    #[arg(long, conflicts_with = "walk")]
    dump: bool,
    /// At this time, in seconds as they are shown, instead of at the end
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    at: Option<u64>,
    /// Of this VM, by its number
    #[arg(long)]
    vm: Option<u32>,
}

/// Nanoseconds, of seconds with at most nine digits behind the point.
fn parse_seconds(text: &str) -> Result<u64, String> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let bad = || "seconds, such as 121.170553".to_owned();
    if !is_digits(fraction) || fraction.len() > 9 || seconds.is_empty() || !is_digits(seconds) {
        return Err(bad());
    }
    let nanoseconds: u64 = format!("{fraction:0<9}").parse().map_err(|_| bad())?;
    let seconds: u64 = seconds.parse().map_err(|_| bad())?;
    let all = seconds.checked_mul(1_000_000_000).and_then(|all| all.checked_add(nanoseconds));
    all.ok_or_else(bad)
}

impl Replay {
    /// Whether anything of the tables is asked for.
    pub(in crate::cli) fn is_asked(&self) -> bool {
        self.walk.is_some() || self.dump
    }

    /// What happened after this is not looked at, in nanoseconds.
    pub(in crate::cli) fn until(&self) -> u64 {
        self.at.unwrap_or(u64::MAX)
    }

    /// The VM: the one that was named, or the only one.
    pub(in crate::cli) fn choose(&self, whole: &[u32]) -> Result<u32> {
        match (self.vm, whole) {
            (Some(vm), _) => Ok(vm),
            (None, [only]) => Ok(*only),
            (None, []) => bail!(
                "the history of no VM is known from its begin on: a log must tell of every VM that \
                 its vCPUs were made (kvm_write_tsc_offset, kvm_entry) and every change \
                 (kvm_tdp_mmu_spte_changed), a recording is made with --history"
            ),
            (None, several) => bail!("there are several VMs: give --vm with one of {several:?}"),
        }
    }

    /// Shows what was asked for.
    pub(in crate::cli) fn show(
        &self,
        image: Image,
        facts: Option<&KernelFacts>,
        is_json: bool,
    ) -> Result<Exit> {
        let (pointer, cpu) = root_of(&image, facts)?;
        let gpa = self.walk.map(Gpa);
        let tables = Tables::Replayed(Box::new(image));
        let root = match Root::new(pointer, &cpu, &tables, gpa) {
            Ok(root) => root,
            Err(Refused::Usage(why) | Refused::Pointer(why)) => bail!(why),
        };
        let Some(gpa) = gpa else { return dump::run(&root, &tables, is_json) };
        let access = self.access.access();
        let walk = root.walk(&tables, gpa, &access);
        let why_missing = tables.why_missing();
        print(&if is_json {
            json::walk(&root, gpa, &walk, why_missing.as_deref())?
        } else {
            text::walk(&root, gpa, &access, &walk, why_missing.as_deref())
        })?;
        Ok(super::exit_of(&walk))
    }
}

/// The root as the hardware is told it, but for its address, and the CPU.
fn root_of(image: &Image, facts: Option<&KernelFacts>) -> Result<(Pointer, TheCpu)> {
    let Some(facts) = facts else {
        bail!("is it EPT or NPT? give --kernel-facts, --ept-cap (Intel) or --npt (AMD)")
    };
    let mut assumed = vec![format!("the root, of which no change tells where it is, is at {ROOT}")];
    let maxphyaddr = facts.hardware.maxphyaddr.value().unwrap_or_else(|| {
        assumed.push(format!("MAXPHYADDR {WIDEST}"));
        WIDEST
    });
    let capability = facts.hardware.ept_vpid_cap.value();
    let of_kvm = || facts.kvm.vmx_capability_ept.value().map(u64::from);
    let capability = EptCapability(capability.or_else(of_kvm).unwrap_or(EVERYTHING));
    let levels = Some(image.root_level);
    let pointer = match facts.vendor {
        Vendor::Vmx => Pointer::Eptp(eptp::of(ROOT.0, image.root_level, false)),
        Vendor::Svm => Pointer::Ncr3(ROOT.0),
        Vendor::Other(_) | Vendor::None => bail!("no vendor module that is known was loaded"),
    };
    Ok((pointer, TheCpu { maxphyaddr, capability, mbe: false, levels, assumed }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_shown() {
        assert_eq!(parse_seconds("121.170553"), Ok(121_170_553_000));
        assert_eq!(parse_seconds("121"), Ok(121_000_000_000));
        assert_eq!(parse_seconds("0.000000001"), Ok(1));
        for bad in ["", ".5", "1.0000000001", "-1", "1e9", "1.x", "99999999999999999999"] {
            assert!(parse_seconds(bad).is_err(), "{bad}");
        }
    }
}
