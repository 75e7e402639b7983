//! Which hooks to attach, where, and why not the others. A plan is data: `doctor` prints the very
//! plan that `watch` executes.

use std::fmt;

use ept_trace_common::abi::{Field, Hook};

use super::hooks::{PAIRS, Pair, Place, hook_name, place};
use super::{Host, Presence, Tracefs};
use crate::model::{EventKind, HookStatus, Vendor};

/// How a hook is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attach {
    /// A kprobe event of tracefs.
    Kprobe {
        /// `symbol`, or `module:symbol`.
        place: String,
        /// At the function's return.
        at_return: bool,
        /// The module is not loaded; the kernel arms the probe when it comes.
        deferred: bool,
    },
    /// A tracepoint.
    Tracepoint {
        /// Its system.
        category: &'static str,
        /// Its name.
        name: &'static str,
    },
}

impl fmt::Display for Attach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kprobe { place, at_return, deferred } => {
                f.write_str(if *at_return { "kretprobe " } else { "kprobe " })?;
                f.write_str(place)?;
                f.write_str(if *deferred { ", waits for the module" } else { "" })
            }
            Self::Tracepoint { category, name } => write!(f, "tracepoint {category}:{name}"),
        }
    }
}

/// One hook of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedHook {
    /// The hook.
    pub hook: Hook,
    /// What it is called in plans, summaries and events.
    pub name: String,
    /// How it is attached, or why it is not.
    pub attach: Result<Attach, String>,
}

/// The whole plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachPlan {
    /// Every hook that there is, chosen or refused.
    pub hooks: Vec<PlannedHook>,
    /// What cannot be seen with this plan, and why.
    pub lost: Vec<String>,
}

/// What is asked of a plan.
#[expect(clippy::struct_excessive_bools, reason = "each is asked for by itself")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Functions may be hooked, not tracepoints alone.
    pub kprobes: bool,
    /// Walks are captured.
    pub walks: bool,
    /// And what their faults resolve to, by a tracepoint that keeps kvm from being unloaded.
    pub frames: bool,
    /// Changes of entries are captured.
    pub history: bool,
}

impl AttachPlan {
    /// Makes the plan for a machine.
    pub fn new(host: &Host, tracefs: &Tracefs, scope: Scope) -> Self {
        let kprobes = kprobes(host, tracefs, scope.kprobes);
        let decisions = kprobes.clone().and_then(|()| kprobe(Hook::InitMmuEntry, host));
        let by_function = decisions.is_ok();
        let mut plan = Self { hooks: Vec::new(), lost: Vec::new() };
        for hook in Hook::ALL {
            let attach = match place(hook) {
                _ if is_of_walks(hook) && !scope.walks => {
                    Err("not asked for: walks are off".to_owned())
                }
                _ if is_of_history(hook) && !scope.history => {
                    Err("not asked for: see --history".to_owned())
                }
                _ if hook == Hook::SpteRequested && !scope.frames => {
                    Err("not asked for: --frames, for it keeps kvm from being unloaded".to_owned())
                }
                // What a fault resolved to is of no use where the fault is not seen.
                _ if hook == Hook::SpteRequested && !by_function => Err(kprobes
                    .clone()
                    .err()
                    .unwrap_or_else(|| format!("useless without {}", hook_name(Hook::PageFault)))),
                Place::Tracepoint(..)
                    if by_function && hook != Hook::SpteRequested && !is_of_history(hook) =>
                {
                    Err("not needed: kvm_init_mmu shows every decision".to_owned())
                }
                Place::Tracepoint(category, name) => {
                    tracepoint(hook, category, name, host, tracefs)
                }
                Place::Entry(..) | Place::Return(..) | Place::Inside(..) => {
                    kprobes.clone().and_then(|()| kprobe(hook, host))
                }
            };
            plan.hooks.push(PlannedHook { hook, name: hook_name(hook), attach });
        }
        plan.refuse_halves();
        plan.tell_lost_history(scope);
        if let Err(why) = decisions {
            let what = if kprobes.is_err() { "no function can" } else { "kvm_init_mmu cannot" };
            plan.lost.extend([
                format!("{what} be hooked: {why}"),
                "a vCPU is seen when its CPUID is set and when it is run, not at each decision: \
                 what changes in between is not seen"
                    .to_owned(),
            ]);
        }
        if kprobes.is_err() {
            plan.lost.push(
                "hardware_setup, kvm_configure_mmu, EPTPs, the MMUs of nested guests, walks and \
                 faults that come back are not seen"
                    .to_owned(),
            );
        } else {
            plan.tell_lost_pairs(host);
            if let (Ok(_), Err(why)) =
                (plan.attach_of(Hook::PageFaultReturn), plan.attach_of(Hook::SpteRequested))
            {
                let what = "the frame and the level that a fault is resolved to";
                plan.lost.push(format!("{what} are not seen: {why}"));
            }
        }
        plan
    }

    /// Refuses a hook whose other half is refused: it would see nothing.
    pub fn refuse_halves(&mut self) {
        let attached: Vec<_> = self.chosen().map(|(planned, _)| planned.hook).collect();
        for planned in &mut self.hooks {
            if let (Ok(_), Some(other)) = (&planned.attach, missing_half(planned.hook, &attached)) {
                planned.attach = Err(format!("useless without {}", hook_name(other)));
            }
        }
    }

    fn tell_lost_pairs(&mut self, host: &Host) {
        let is_of = |pair: &Pair, vendor| match place(pair.entry) {
            Place::Entry("kvm", _) if is_of_ept(pair.entry) => vendor != "kvm_amd",
            Place::Entry("kvm", _) if is_of_npt(pair.entry) => vendor != "kvm_intel",
            Place::Entry("kvm", _) => true,
            Place::Entry(module, _) => module == vendor,
            _ => false,
        };
        let vendor = host.modules.vendor.0.to_string();
        for pair in PAIRS.iter().filter(|pair| is_of(pair, vendor.as_str())) {
            let halves = [pair.entry, pair.outcome].map(|hook| self.attach_of(hook).err());
            let why = halves.into_iter().flatten().find(|why| !why.starts_with("useless"));
            let is_told = pair.entry == Hook::InitMmuEntry || is_unasked(why.as_deref());
            if let (Some(why), false) = (why, is_told) {
                self.lost.push(format!("{} are not seen: {why}", pair.sees));
            }
        }
    }

    /// Tells what of the changes of entries is not seen.
    fn tell_lost_history(&mut self, scope: Scope) {
        if !scope.history {
            return;
        }
        if let Err(why) = self.attach_of(Hook::SpteChanged) {
            self.lost.push(format!("changes of entries of the TDP MMU are not seen: {why}"));
            for planned in &mut self.hooks {
                if is_of_changes(planned.hook) && planned.attach.is_ok() {
                    let what = hook_name(Hook::SpteChanged);
                    planned.attach = Err(format!("useless without {what}"));
                }
            }
            return;
        }
        let inner = self.attach_of(Hook::ChangedSpteInner).err();
        let owner = inner.and_then(|_| self.attach_of(Hook::ChangedSpte).err());
        if let Some(why) = owner.or_else(|| self.attach_of(Hook::InitVm).err()) {
            self.lost.push(format!("whose entry it is that changes is not seen: {why}"));
        }
    }

    fn attach_of(&self, hook: Hook) -> Result<&Attach, String> {
        let planned = self.hooks.iter().find(|planned| planned.hook == hook);
        planned.map_or(Err(String::new()), |planned| planned.attach.as_ref().map_err(Clone::clone))
    }

    /// Chooses no tracepoint whose fields are constants of the programs, for this reason.
    pub fn refuse_tracepoints(&mut self, why: &str) {
        for planned in &mut self.hooks {
            // Where the fields of the others are is told as soon as kvm is there.
            let is_constant =
                matches!(planned.hook, Hook::IoctlEnter | Hook::IoctlExit | Hook::GetPage);
            if is_constant && matches!(planned.attach, Ok(Attach::Tracepoint { .. })) {
                planned.attach = Err(why.to_owned());
            }
        }
    }

    /// The hooks to attach.
    pub fn chosen(&self) -> impl Iterator<Item = (&PlannedHook, &Attach)> {
        self.hooks.iter().filter_map(|hook| Some((hook, hook.attach.as_ref().ok()?)))
    }

    /// The plan as a stream tells it.
    pub fn event(&self) -> EventKind {
        let status = |planned: &PlannedHook| HookStatus {
            hook: planned.name.clone(),
            attached: planned.attach.is_ok(),
            how: match &planned.attach {
                Ok(attach) => attach.to_string(),
                Err(why) => why.clone(),
            },
        };
        EventKind::Hooks {
            hooks: self.hooks.iter().map(status).collect(),
            not_seen: self.lost.clone(),
        }
    }

    /// Whether decisions can be seen at all; else why not.
    pub fn sees_decisions(&self) -> Result<(), String> {
        let both = |one, other| self.attach_of(one).and_then(|_| self.attach_of(other)).map(|_| ());
        both(Hook::InitMmuEntry, Hook::InitMmuReturn).or_else(|function| {
            both(Hook::IoctlEnter, Hook::IoctlExit).map_err(|tracepoint| {
                format!("kvm_init_mmu: {function}; tracepoints: {tracepoint}")
            })
        })
    }
}

/// The hook without which this one sees nothing, if it is not attached. An entry may serve more than
/// one outcome.
pub fn missing_half(hook: Hook, attached: &[Hook]) -> Option<Hook> {
    let is = |hook: &Hook| attached.contains(hook);
    let entry = PAIRS.iter().find(|pair| pair.outcome == hook).map(|pair| pair.entry);
    let outcomes = || PAIRS.iter().filter(|pair| pair.entry == hook).map(|pair| pair.outcome);
    match entry {
        Some(entry) => (!is(&entry)).then_some(entry),
        None if outcomes().any(|outcome| is(&outcome)) => None,
        None => outcomes().next(),
    }
}

/// Whether a hook serves walks alone.
fn is_of_walks(hook: Hook) -> bool {
    matches!(hook, Hook::SpteRequested | Hook::PageFaultReturn)
}

/// Whether a hook serves the history of entries alone.
fn is_of_history(hook: Hook) -> bool {
    is_of_changes(hook) || matches!(hook, Hook::SpteChanged | Hook::SpteSet)
}

/// Whether a hook tells whose entry it is that changes, and since when that VM is there.
fn is_of_changes(hook: Hook) -> bool {
    matches!(hook, Hook::InitVm | Hook::ChangedSpte | Hook::ChangedSpteInner)
}

/// Whether a hook is not attached because nobody asked for it.
fn is_unasked(why: Option<&str>) -> bool {
    why.is_some_and(|why| why.starts_with("not asked for"))
}

/// Whether functions of KVM can be hooked at all.
fn kprobes(host: &Host, tracefs: &Tracefs, allowed: bool) -> Result<(), String> {
    if !allowed {
        return Err("--tracepoints asks for tracepoints alone".to_owned());
    }
    if !tracefs.has_kprobes() {
        return Err("this kernel has no kprobe events (CONFIG_KPROBE_EVENTS)".to_owned());
    }
    if !host.layout.missing.is_empty() {
        return Err(host.layout.missing.join("; "));
    }
    Ok(())
}

fn kprobe(hook: Hook, host: &Host) -> Result<Attach, String> {
    let (module, symbol, at_return, offset) = match place(hook) {
        Place::Entry(module, symbol) => (module, symbol, false, None),
        Place::Return(module, symbol) => (module, symbol, true, None),
        Place::Inside(module, symbol) => {
            (module, symbol, false, Some(host.eptp_write.clone().map(|write| write.offset)))
        }
        Place::Tracepoint(..) => return Err("a tracepoint".to_owned()),
    };
    let kprobe = |place: String, deferred| {
        let place = match &offset {
            None => place,
            Some(Ok(offset)) => format!("{place}+{offset:#x}"),
            Some(Err(why)) => return Err(why.clone()),
        };
        Ok(Attach::Kprobe { place, at_return, deferred })
    };
    let runs_once =
        matches!(hook, Hook::HardwareSetup | Hook::VmxHardwareSetup | Hook::SvmHardwareSetup);
    let (vendor, vendor_presence) = &host.modules.vendor;
    let presence = match vendor {
        Vendor::Svm if is_of_ept(hook) => return Err("kvm_amd has no EPT".to_owned()),
        Vendor::Vmx if is_of_npt(hook) => return Err("kvm_intel has no NPT".to_owned()),
        _ if module == "kvm" => host.modules.kvm,
        Vendor::Vmx | Vendor::Svm if vendor.to_string() == module => *vendor_presence,
        Vendor::Vmx | Vendor::Svm => return Err(format!("{vendor} is at work, and not {module}")),
        // It may come yet.
        Vendor::Other(_) | Vendor::None => Presence::Absent,
    };
    match presence {
        // Whether a function is inlined cannot be told before its module is there.
        Presence::Absent if symbol == "init_kvm_tdp_mmu" => Err("kvm is not loaded".to_owned()),
        // Nor what is inside one.
        Presence::Absent | Presence::InTransit if offset.is_some() => {
            Err(format!("{module} is not loaded: set when it is"))
        }
        Presence::BuiltIn if runs_once => {
            Err(format!("{module} is built in, and its hardware_setup has run"))
        }
        Presence::Loaded | Presence::InTransit if runs_once => Err(format!(
            "{module} is loaded, and its hardware_setup has run: seen when it is loaded again"
        )),
        Presence::Absent | Presence::InTransit => kprobe(format!("{module}:{symbol}"), true),
        Presence::Loaded | Presence::BuiltIn => match host.symbols.unique(module, symbol) {
            _ if matches!(hook, Hook::VmxLoadPgd | Hook::SvmLoadPgd)
                && !host.facts.behaviour.has_max_tdp_level =>
            {
                Err("it has no argument for the level before 5.9".to_owned())
            }
            _ if hook == Hook::PageFaultReturn
                && host.symbols.address("", "page_offset_base").is_none() =>
            {
                Err("page_offset_base, by which entries are read, is not in /proc/kallsyms"
                    .to_owned())
            }
            _ if hook == Hook::ShadowEptEntry && host.eptp12_place().is_none() => {
                Err("which argument EPTP12 is cannot be told without BTF of kvm".to_owned())
            }
            Some(found) if found.module.is_empty() => kprobe(symbol.to_owned(), false),
            Some(found) => kprobe(format!("{}:{symbol}", found.module), false),
            None if symbol == "init_kvm_tdp_mmu" => {
                Err("inlined by the compiler: no such symbol".to_owned())
            }
            None => Err("no such symbol in /proc/kallsyms, or several".to_owned()),
        },
    }
}

fn is_of_ept(hook: Hook) -> bool {
    matches!(hook, Hook::ShadowEptEntry | Hook::ShadowEptReturn)
}

fn is_of_npt(hook: Hook) -> bool {
    matches!(hook, Hook::ShadowNptEntry | Hook::ShadowNptReturn)
}

fn tracepoint(
    hook: Hook,
    category: &'static str,
    name: &'static str,
    host: &Host,
    tracefs: &Tracefs,
) -> Result<Attach, String> {
    if !tracefs.has_event(category, name) {
        return Err(format!("this kernel has no tracepoint {category}:{name}"));
    }
    // The way to a vCPU from an ioctl; a fault has it at hand.
    let missing_files = host
        .layout
        .missing_files
        .iter()
        .filter(|_| hook != Hook::SpteRequested && !is_of_history(hook));
    if let Some(first) = host.layout.missing.iter().chain(missing_files).next() {
        return Err(first.clone());
    }
    let fields = super::layout::tracepoint_fields(tracefs);
    let kvm = super::layout::kvm_tracepoints(tracefs);
    let places: &[Field] = match hook {
        Hook::IoctlEnter => &[fields.ioctl_fd, fields.ioctl_cmd],
        Hook::IoctlExit => &[fields.ioctl_ret],
        Hook::SpteRequested => &[kvm.requested_gfn, kvm.requested_pfn, kvm.requested_level],
        Hook::SpteChanged => &[
            kvm.changed_as_id,
            kvm.changed_gfn,
            kvm.changed_level,
            kvm.changed_old,
            kvm.changed_new,
        ],
        Hook::SpteSet => &[kvm.set_gfn, kvm.set_level, kvm.set_spte, kvm.set_place],
        _ => &[fields.page_gfn, fields.page_role],
    };
    if places.contains(&Field::ABSENT) {
        return Err(format!("the format of {category}:{name} is not as expected"));
    }
    Ok(Attach::Tracepoint { category, name })
}

#[cfg(test)]
mod tests;
