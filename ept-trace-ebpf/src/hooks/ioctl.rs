//! Tracepoints of the `ioctl` system call: the way to a vCPU where kprobes are not to be had.
//!
//! The file descriptor leads to the vCPU itself, by the offsets of `current->files`. What the
//! last decision left in it is read when KVM_SET_CPUID2 returns and when KVM_RUN begins.

use aya_ebpf::helpers::generated::bpf_get_current_task;
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_probe_read_kernel};
use ept_trace_common::abi::{Hook, MmuState, VmRecord, flag, kind};

use crate::call::{Outcome, count, emit, header, wanted};
use crate::maps::{IN_IOCTL, InFlight, REPORTED, Reported, URGENT, config};
use crate::{read, vcpu};

/// `ANON_INODE_FS_MAGIC` of uapi/linux/magic.h.
const ANON_INODE_FS_MAGIC: u64 = 0x0904_1934;
/// `_IO(KVMIO, 0x01)`, on `/dev/kvm`; its result is the descriptor of the VM.
const KVM_CREATE_VM: u32 = 0xae01;
/// `_IO(KVMIO, 0x41)`, on a VM; its result is the descriptor of the vCPU.
const KVM_CREATE_VCPU: u32 = 0xae41;
/// `_IO(KVMIO, 0x80)`.
const KVM_RUN: u32 = 0xae80;
/// `_IOW(KVMIO, 0x90, struct kvm_cpuid2)`.
const KVM_SET_CPUID2: u32 = 0x4008_ae90;

tracepoint! {
    /// `syscalls:sys_enter_ioctl`.
    sys_enter_ioctl(record) {
        count(Hook::IoctlEnter, &enter(record));
    }
}

#[inline(always)]
fn enter(record: u64) -> Outcome {
    let fields = &config().tracepoints;
    let Some(cmd) = read::field(record, &fields.ioctl_cmd) else { return Outcome::Dropped };
    let cmd = cmd as u32;
    if !matches!(cmd, KVM_RUN | KVM_SET_CPUID2 | KVM_CREATE_VM | KVM_CREATE_VCPU) || !wanted() {
        return Outcome::Filtered;
    }
    let Some(fd) = read::field(record, &fields.ioctl_fd) else { return Outcome::Dropped };
    let vcpu = match cmd {
        KVM_CREATE_VM | KVM_CREATE_VCPU => Some(0),
        _ => private_data(fd as u32, b"kvm-vcpu:"),
    };
    let Some(vcpu) = vcpu else { return Outcome::Filtered };
    let call = InFlight { vcpu, detail: u64::from(cmd), before: MmuState::default() };
    if IN_IOCTL.insert(&bpf_get_current_pid_tgid(), &call, 0).is_err() {
        return Outcome::Dropped;
    }
    if cmd == KVM_RUN { report_if_changed(Hook::IoctlEnter, vcpu) } else { Outcome::Delivered }
}

tracepoint! {
    /// `syscalls:sys_exit_ioctl`.
    sys_exit_ioctl(record) {
        count(Hook::IoctlExit, &exit(record));
    }
}

#[inline(always)]
fn exit(record: u64) -> Outcome {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: copied at once; only this thread writes its own key.
    let Some(call) = (unsafe { IN_IOCTL.get(&thread) }).copied() else {
        return Outcome::Filtered;
    };
    let _ = IN_IOCTL.remove(&thread);
    let Some(result) = read::field(record, &config().tracepoints.ioctl_ret) else {
        return Outcome::Dropped;
    };
    match (call.detail as u32, result as i64) {
        (KVM_SET_CPUID2, 0) => report_if_changed(Hook::IoctlExit, call.vcpu),
        (KVM_CREATE_VM, fd @ 0..) => match private_data(fd as u32, b"kvm-vm\0") {
            Some(vm) => emit(&URGENT, &VmRecord { header: header(kind::VM, Hook::IoctlExit), vm }),
            None => Outcome::Filtered,
        },
        (KVM_CREATE_VCPU, fd @ 0..) => {
            // The address may have been another vCPU's.
            if let Some(vcpu) = private_data(fd as u32, b"kvm-vcpu:") {
                let _ = REPORTED.remove(&vcpu);
            }
            Outcome::Filtered
        }
        _ => Outcome::Filtered,
    }
}

/// Reports the vCPU unless it is as it was when last reported.
#[inline(always)]
fn report_if_changed(hook: Hook, vcpu: u64) -> Outcome {
    let state = vcpu::mmu_state(vcpu);
    let maxphyaddr = read::field(vcpu, &config().fields.maxphyaddr).unwrap_or(0) as u32;
    let now = Reported { maxphyaddr, root_level: state.root_level, role: state.role };
    // SAFETY: compared at once; a vCPU runs on one thread at a time.
    if unsafe { REPORTED.get(&vcpu) }.is_some_and(|last| *last == now) {
        return Outcome::Filtered;
    }
    let nested = if vcpu::is_nested(vcpu) { flag::NESTED } else { 0 };
    let outcome = vcpu::report_decision(hook, vcpu, u64::from(nested), &MmuState::default());
    if matches!(outcome, Outcome::Delivered) {
        let _ = REPORTED.insert(&vcpu, &now, 0);
    }
    outcome
}

/// What is behind a file descriptor of the current process, if its file is an anonymous inode
/// whose name begins like this: `kvm-vcpu:N`, or `kvm-vm`.
///
/// Other drivers use the same ioctl numbers, and anybody can give a file that name: only KVM
/// makes an anonymous inode of it.
#[inline(always)]
fn private_data<const N: usize>(fd: u32, name: &[u8; N]) -> Option<u64> {
    let fields = &config().files;
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    let files = read::field(task, &fields.files)?;
    let table = read::field(files, &fields.fdt)?;
    if u64::from(fd) >= read::field(table, &fields.max_fds)? {
        return None;
    }
    let array = read::field(table, &fields.fd)?;
    // SAFETY: bpf_probe_read_kernel accepts any address.
    let file = unsafe { bpf_probe_read_kernel((array + u64::from(fd) * 8) as *const u64) }.ok()?;
    let dentry = read::field(file, &fields.dentry)?;
    let superblock = read::field(dentry, &fields.superblock)?;
    if read::field(superblock, &fields.magic)? != ANON_INODE_FS_MAGIC {
        return None;
    }
    let text = read::field(dentry, &fields.name)?;
    // SAFETY: as above.
    let text = unsafe { bpf_probe_read_kernel(text as *const [u8; N]) }.ok()?;
    if text != *name {
        return None;
    }
    read::field(file, &fields.private_data).filter(|data| *data != 0)
}
