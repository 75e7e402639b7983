//! A program for a bare CPU with VMX or SVM: it takes in cases, each some entries of EPT or NPT and
//! an access, has a guest make the access, and tells what came of it. What should come of it is for
//! `cargo xtask walks` to say, which makes the cases.
//!
//! It is booted as a kernel of Linux would be, with the cases as its initramfs, and answers over the
//! second serial port. It is built for `x86_64-unknown-none`; as a library for the host too, for the
//! [`protocol`].
#![cfg_attr(not(test), no_std)]
#![expect(clippy::cast_possible_truncation, reason = "it runs in 64-bit mode alone")]

pub mod protocol;

mod cases;
mod serial;

pub use cases::run;
pub use serial::Serial;
