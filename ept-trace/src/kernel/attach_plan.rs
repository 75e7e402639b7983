//! Which hooks to attach, where, and why not the others. A plan is data: `doctor` prints the very
//! plan that `watch` executes.

use std::fmt;

use ept_trace_common::abi::{Field, Hook};

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
    pub name: &'static str,
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

/// The name of a hook in plans, summaries and events.
pub fn hook_name(hook: Hook) -> &'static str {
    match hook {
        Hook::InitMmuEntry => "kvm_init_mmu",
        Hook::InitMmuReturn => "kvm_init_mmu return",
        Hook::InitTdpMmu => "init_kvm_tdp_mmu",
        Hook::ConfigureMmu => "kvm_configure_mmu",
        Hook::HardwareSetup => "kvm_intel:hardware_setup",
        Hook::VmxHardwareSetup => "kvm_intel:vmx_hardware_setup",
        Hook::SvmHardwareSetup => "kvm_amd:svm_hardware_setup",
        Hook::IoctlEnter => "sys_enter_ioctl",
        Hook::IoctlExit => "sys_exit_ioctl",
        Hook::GetPage => "kvm_mmu_get_page",
        Hook::DestroyVm => "kvm_arch_destroy_vm",
    }
}

impl AttachPlan {
    /// Makes the plan for a machine.
    pub fn new(host: &Host, tracefs: &Tracefs, allow_kprobes: bool) -> Self {
        let kprobes = kprobes(host, tracefs, allow_kprobes);
        let decisions = kprobes.clone().and_then(|()| kprobe(Hook::InitMmuEntry, host));
        let by_function = decisions.is_ok();
        let mut plan = Self { hooks: Vec::new(), lost: Vec::new() };
        for hook in Hook::ALL {
            let attach = match hook {
                Hook::IoctlEnter | Hook::IoctlExit | Hook::GetPage if by_function => {
                    Err("not needed: kvm_init_mmu shows every decision".to_owned())
                }
                Hook::IoctlEnter | Hook::IoctlExit | Hook::GetPage => {
                    tracepoint(hook, host, tracefs)
                }
                _ => kprobes.clone().and_then(|()| kprobe(hook, host)),
            };
            plan.hooks.push(PlannedHook { hook, name: hook_name(hook), attach });
        }
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
            plan.lost.push("hardware_setup and kvm_configure_mmu are not seen".to_owned());
        }
        plan
    }

    /// Chooses no tracepoint, for this reason.
    pub fn refuse_tracepoints(&mut self, why: &str) {
        for planned in &mut self.hooks {
            if matches!(planned.attach, Ok(Attach::Tracepoint { .. })) {
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
            hook: planned.name.to_owned(),
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
        let attach = |hook: Hook| {
            let planned = self.hooks.iter().find(|planned| planned.hook == hook);
            planned.map_or(Err(String::new()), |planned| planned.attach.clone().map(|_| ()))
        };
        let both = |one, other| attach(one).and_then(|()| attach(other));
        both(Hook::InitMmuEntry, Hook::InitMmuReturn).or_else(|function| {
            both(Hook::IoctlEnter, Hook::IoctlExit).map_err(|tracepoint| {
                format!("kvm_init_mmu: {function}; tracepoints: {tracepoint}")
            })
        })
    }
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
    let (module, symbol) = match hook {
        Hook::InitMmuEntry | Hook::InitMmuReturn => ("kvm", "kvm_init_mmu"),
        Hook::InitTdpMmu => ("kvm", "init_kvm_tdp_mmu"),
        Hook::ConfigureMmu => ("kvm", "kvm_configure_mmu"),
        Hook::DestroyVm => ("kvm", "kvm_arch_destroy_vm"),
        Hook::HardwareSetup => ("kvm_intel", "hardware_setup"),
        Hook::VmxHardwareSetup => ("kvm_intel", "vmx_hardware_setup"),
        Hook::SvmHardwareSetup => ("kvm_amd", "svm_hardware_setup"),
        Hook::IoctlEnter | Hook::IoctlExit | Hook::GetPage => {
            return Err("a tracepoint".to_owned());
        }
    };
    let at_return = hook == Hook::InitMmuReturn;
    let kprobe = |place: String, deferred| Ok(Attach::Kprobe { place, at_return, deferred });
    if module != "kvm" {
        return match &host.modules.vendor {
            (_, Presence::Absent) | (Vendor::Other(_), _) => {
                kprobe(format!("{module}:{symbol}"), true)
            }
            (loaded, Presence::BuiltIn) => {
                Err(format!("{loaded} is built in, and its hardware_setup has run"))
            }
            (loaded, _) => Err(format!(
                "{loaded} is loaded, and its hardware_setup has run: seen when it is loaded again"
            )),
        };
    }
    match host.modules.kvm {
        // Whether a function is inlined cannot be told before its module is there.
        Presence::Absent if symbol == "init_kvm_tdp_mmu" => Err("kvm is not loaded".to_owned()),
        Presence::Absent | Presence::InTransit => kprobe(format!("{module}:{symbol}"), true),
        Presence::Loaded | Presence::BuiltIn => match host.symbols.unique(module, symbol) {
            Some(found) if found.module.is_empty() => kprobe(symbol.to_owned(), false),
            Some(found) => kprobe(format!("{}:{symbol}", found.module), false),
            None if symbol == "init_kvm_tdp_mmu" => {
                Err("inlined by the compiler: no such symbol".to_owned())
            }
            None => Err("no such symbol in /proc/kallsyms, or several".to_owned()),
        },
    }
}

fn tracepoint(hook: Hook, host: &Host, tracefs: &Tracefs) -> Result<Attach, String> {
    let (category, name) = match hook {
        Hook::IoctlEnter => ("syscalls", "sys_enter_ioctl"),
        Hook::IoctlExit => ("syscalls", "sys_exit_ioctl"),
        _ => ("kvmmmu", "kvm_mmu_get_page"),
    };
    if !tracefs.has_event(category, name) {
        return Err(format!("this kernel has no tracepoint {category}:{name}"));
    }
    let missing: Vec<_> = host.layout.missing.iter().chain(&host.layout.missing_files).collect();
    if let Some(first) = missing.first() {
        return Err((*first).clone());
    }
    let fields = super::layout::tracepoint_fields(tracefs);
    let places: &[Field] = match hook {
        Hook::IoctlEnter => &[fields.ioctl_fd, fields.ioctl_cmd],
        Hook::IoctlExit => &[fields.ioctl_ret],
        _ => &[fields.page_gfn, fields.page_role],
    };
    if places.contains(&Field::ABSENT) {
        return Err(format!("the format of {category}:{name} is not as expected"));
    }
    Ok(Attach::Tracepoint { category, name })
}

#[cfg(test)]
mod tests;
