//! The eBPF object: loading it with this machine's offsets, and its programs by hook.

use std::fs;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use aya::maps::{Array, MapData, RingBuf};
use aya::programs::{KProbe, Program, ProgramError, ProgramInfo, TracePoint};
use aya::{Ebpf, EbpfLoader, Pod};
use ept_trace_common::abi::{Config, Counters, Hook, Variables};
use serde::Serialize;

use super::CannotRun;
use super::counters::MappedCounters;

/// The eBPF object that is built in.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("EPT_TRACE_EBPF_OBJECT"));

/// How much larger the rings of the walks and of the history are than that of the other events.
const MANY_FACTOR: u32 = 4;

/// A type of the ABI, in the form that aya asks for.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Abi<T>(pub(super) T);

// SAFETY: integers without padding, as `ept_trace_common::abi` asserts of each.
unsafe impl Pod for Abi<Config> {}
// SAFETY: as above.
unsafe impl Pod for Abi<Variables> {}

/// The loaded object.
pub(super) struct Object {
    ebpf: Ebpf,
    counters: MappedCounters,
}

/// What the verifier made of a program.
#[derive(Clone, Debug, Serialize)]
pub struct ProgramSize {
    /// Its name.
    pub program: &'static str,
    /// Instructions that the verifier walked through, where the kernel tells (5.16 and later).
    pub verified_instructions: Option<u32>,
    /// Bytes of the program after the verifier.
    pub translated_bytes: Option<u32>,
    /// Why it could not be loaded, if so.
    pub refused: Option<String>,
}

/// The function of the eBPF side that serves a hook.
fn program_name(hook: Hook) -> &'static str {
    match hook {
        Hook::InitMmuEntry => "kvm_init_mmu_entry",
        Hook::InitMmuReturn => "kvm_init_mmu_return",
        Hook::InitTdpMmu => "init_kvm_tdp_mmu",
        Hook::ConfigureMmu => "kvm_configure_mmu",
        Hook::HardwareSetup => "hardware_setup",
        Hook::VmxHardwareSetup => "vmx_hardware_setup",
        Hook::SvmHardwareSetup => "svm_hardware_setup",
        Hook::IoctlEnter => "sys_enter_ioctl",
        Hook::IoctlExit => "sys_exit_ioctl",
        Hook::GetPage => "kvm_mmu_get_page",
        Hook::DestroyVm => "kvm_arch_destroy_vm",
        Hook::VmxLoadPgd => "vmx_load_mmu_pgd",
        Hook::EptpWrite => "eptp_write",
        Hook::SvmLoadPgd => "svm_load_mmu_pgd",
        Hook::ShadowEptEntry => "kvm_init_shadow_ept_mmu",
        Hook::ShadowEptReturn => "kvm_init_shadow_ept_mmu_return",
        Hook::ShadowNptEntry => "kvm_init_shadow_npt_mmu",
        Hook::ShadowNptReturn => "kvm_init_shadow_npt_mmu_return",
        Hook::PageFault => "kvm_mmu_page_fault",
        Hook::TdpFaultReturn => "kvm_tdp_page_fault",
        Hook::SpteRequested => "kvm_mmu_spte_requested",
        Hook::PageFaultReturn => "kvm_mmu_page_fault_return",
        Hook::InitVm => "kvm_arch_init_vm",
        Hook::ChangedSpte => "handle_changed_spte",
        Hook::ChangedSpteInner => "handle_changed_spte_inner",
        Hook::SpteChanged => "kvm_tdp_mmu_spte_changed",
        Hook::SpteSet => "kvm_mmu_set_spte",
    }
}

impl Object {
    /// Creates the maps and relocates the programs; none is loaded yet.
    pub(super) fn open(config: &Config, ring_bytes: u32, file: Option<&Path>) -> Result<Self> {
        let bytes;
        let object = match file {
            Some(path) => {
                bytes = fs::read(path).with_context(|| path.display().to_string())?;
                &bytes
            }
            None => OBJECT,
        };
        let name =
            file.map_or_else(|| "the built-in one".to_owned(), |path| path.display().to_string());
        // The logs of the kernel side cost a check for each message, unless asked for.
        let log_level: u8 = if log::log_enabled!(log::Level::Warn) { 2 } else { 0 };
        let many = ring_bytes.saturating_mul(MANY_FACTOR).min(1 << 30);
        let ebpf = EbpfLoader::new()
            .override_global("CONFIG", &Abi(*config), true)
            .override_global("AYA_LOG_LEVEL", &log_level, false)
            .map_max_entries("COUNTERS", MappedCounters::entries()?)
            .map_max_entries("EVENTS", ring_bytes)
            .map_max_entries("WALKS", many)
            .map_max_entries("HISTORY", if config.history == 0 { 1 << 12 } else { many })
            .load(object)
            .map_err(|err| refused(err.into(), &format!("the eBPF object ({name})")))?;
        let counters = ebpf.map("COUNTERS").context("no map COUNTERS")?;
        let counters = MappedCounters::new(counters).context("map COUNTERS")?;
        Ok(Self { ebpf, counters })
    }

    /// Loads the program of a hook through the verifier.
    pub(super) fn load(&mut self, hook: Hook) -> Result<BorrowedFd<'_>> {
        let name = program_name(hook);
        let program =
            self.ebpf.program_mut(name).with_context(|| format!("no eBPF program {name}"))?;
        // Once loaded it stays so: a second call only asks for it.
        let loaded = match program {
            _ if program.fd().is_ok() => Ok(()),
            Program::KProbe(program) => KProbe::load(program),
            Program::TracePoint(program) => TracePoint::load(program),
            _ => Err(ProgramError::UnexpectedProgramType),
        };
        loaded.map_err(|err| refused(err.into(), &format!("eBPF program {name}")))?;
        let fd = match program {
            Program::KProbe(program) => program.fd(),
            Program::TracePoint(program) => program.fd(),
            _ => Err(ProgramError::UnexpectedProgramType),
        };
        Ok(fd?.as_fd())
    }

    /// The loaded program of a hook.
    pub(super) fn program(&self, hook: Hook) -> Option<&Program> {
        self.ebpf.program(program_name(hook))
    }

    /// Takes a ring out, to be read.
    pub(super) fn ring(&mut self, name: &str) -> Result<RingBuf<MapData>> {
        let map = self.ebpf.take_map(name).with_context(|| format!("no map {name}"))?;
        Ok(RingBuf::try_from(map)?)
    }

    /// What became of the calls of a hook so far.
    pub(super) fn counters(&self, hook: Hook) -> Counters {
        self.counters.read(hook)
    }

    /// Tells the kernel side where KVM's variables are.
    pub(super) fn set_variables(&mut self, variables: Variables) -> Result<()> {
        let map = self.ebpf.map_mut("VARIABLES").context("no map VARIABLES")?;
        let mut array = Array::<_, Abi<Variables>>::try_from(map)?;
        Ok(array.set(0, Abi(variables), 0)?)
    }

    /// Sends the kernel side's own messages to the log.
    pub(super) fn forward_logs(&mut self) {
        if !log::log_enabled!(log::Level::Warn) {
            return;
        }
        match aya_log::EbpfLogger::init(&mut self.ebpf) {
            Ok(mut logger) => {
                tokio::spawn(async move {
                    let mut tick = tokio::time::interval(std::time::Duration::from_millis(250));
                    loop {
                        tick.tick().await;
                        logger.flush();
                    }
                });
            }
            Err(err) => log::warn!("messages of the eBPF programs are not shown: {err}"),
        }
    }
}

/// Tells a kernel that refuses eBPF from a defect of our own.
fn refused(err: anyhow::Error, what: &str) -> anyhow::Error {
    let denied = err.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|err| err.raw_os_error() == Some(libc::EPERM))
    });
    if denied {
        return anyhow!(CannotRun(format!(
            "the kernel refuses {what}: run as root; in a container, CAP_BPF and CAP_PERFMON \
             are needed, and a seccomp profile that allows bpf()"
        )));
    }
    if let Some(ProgramError::LoadError { io_error, verifier_log }) = err.downcast_ref() {
        log::debug!("{verifier_log}");
        // The verifier tells its whole way; why it stopped stands at the end.
        let log = verifier_log.to_string();
        let reason = log.lines().rev().find(|line| {
            let line = line.trim();
            !(line.is_empty()
                || line.starts_with("processed ")
                || line.starts_with("stack depth ")
                || line.starts_with("verification time "))
        });
        let reason = reason.unwrap_or("no reason given");
        return anyhow!("{what} is refused by the verifier: {reason} ({io_error})");
    }
    err.context(format!("{what} cannot be loaded"))
}

/// Loads every program with this machine's offsets, attaches none, and tells their sizes.
///
/// # Errors
///
/// If the object itself cannot be loaded.
pub fn program_sizes(config: &Config) -> Result<Vec<ProgramSize>> {
    let mut object = Object::open(config, 1 << 12, None)?;
    let size = |hook| {
        let refused = object.load(hook).err().map(|err| format!("{err:#}"));
        let info = object.program(hook).and_then(|program| program.info().ok());
        ProgramSize {
            program: program_name(hook),
            verified_instructions: info.as_ref().and_then(ProgramInfo::verified_instruction_count),
            translated_bytes: info.as_ref().and_then(ProgramInfo::size_translated),
            refused,
        }
    };
    Ok(Hook::ALL.into_iter().map(size).collect())
}
