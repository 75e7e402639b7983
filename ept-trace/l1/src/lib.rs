//! A hypervisor as small as can be: it runs as L1 in a guest of the scenario `nested` of `ept-trace
//! check`, and runs one L2 under nested page tables of its own.
//!
//! L2 is in 64-bit mode, writes a mark to each of several places, and halts. No page of it is
//! mapped beforehand: L1 maps each at L2's first access, never at the same address, and checks in
//! the end that every mark is where its tables lead. So a table that KVM walks wrongly is noticed.
//!
//! The program is built for `x86_64-unknown-none` by the build script of `ept-trace`, which
//! embeds it. As a library it is built for the host too, for the [`protocol`] and for tests. The
//! lab's `walker` has its VMX and SVM from here.
#![cfg_attr(not(test), no_std)]
#![expect(clippy::cast_possible_truncation, reason = "it runs in 64-bit mode alone")]

pub mod cpu;
pub mod frames;
pub mod protocol;
pub mod svm;
pub mod vmx;

mod hypervisor;
mod l2;
mod tables;

pub use hypervisor::{Exit, Registers, Start, Vcpu, run};
