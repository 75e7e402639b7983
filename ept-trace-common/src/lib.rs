//! What the eBPF side and userspace of ept-trace share.
//!
//! [`abi`] is the layout of what crosses the ring buffers and of the configuration that is handed
//! down; [`decision`] is KVM's choice of the TDP root level, compiled for both sides.
#![no_std]

pub mod abi;
pub mod decision;
pub mod eptp;
