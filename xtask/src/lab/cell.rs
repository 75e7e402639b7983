//! A cell of the lab: one CPU with one kernel.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::setup::kernels::{self, DEBIAN, Debian, Kernel};
use crate::setup::{Setup, own};

/// A CPU with hardware virtualisation, as an emulator makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cpu {
    /// AMD, host paging with 5 levels, so the root of NPT has 5.
    Svm,
    /// The same with 4 levels.
    SvmLa48,
    /// Intel, EPT with 4 levels.
    Vmx,
    /// Intel, EPT with 4 and with 5 levels.
    Vmx5,
}

impl Cpu {
    /// All, as the table lists them.
    pub const ALL: [Self; 4] = [Self::Svm, Self::SvmLa48, Self::Vmx, Self::Vmx5];

    /// As the command line calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Svm => "svm",
            Self::SvmLa48 => "svm-la48",
            Self::Vmx => "vmx",
            Self::Vmx5 => "vmx5",
        }
    }

    /// KVM's module for it.
    pub fn module(self) -> &'static str {
        match self {
            Self::Svm | Self::SvmLa48 => "kvm_amd",
            Self::Vmx | Self::Vmx5 => "kvm_intel",
        }
    }

    /// Whether its emulator, Bochs, changes the kernel's memory by itself as the guest asks. QEMU
    /// does so as we ask.
    pub fn is_poked_by_itself(self) -> bool {
        matches!(self, Self::Vmx | Self::Vmx5)
    }

    /// Reads the option `--cpu`.
    pub fn parse(text: &str) -> Result<Vec<Self>> {
        if text == "all" {
            return Ok(Self::ALL.to_vec());
        }
        match Self::ALL.into_iter().find(|cpu| cpu.name() == text) {
            Some(cpu) => Ok(vec![cpu]),
            None => bail!("no CPU `{text}`: svm, svm-la48, vmx, vmx5 or all"),
        }
    }
}

/// A kernel to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelChoice {
    /// One that setup fetches.
    Debian(Debian),
    /// The same with modules of the user's in the place of its own.
    Patched(Debian, PathBuf),
    /// One of the user's: a bzImage or a package, and where its modules are.
    Image(PathBuf, Option<PathBuf>),
}

impl KernelChoice {
    /// Reads the options `--kernel` and `--modules`.
    pub fn parse(text: &str, modules: Option<PathBuf>) -> Result<Vec<Self>> {
        let debian = DEBIAN.into_iter().find(|debian| debian.version == text);
        match (text, debian, modules) {
            ("all", _, Some(_)) => bail!("--modules belong to one kernel, and not to `all`"),
            ("all", _, None) => Ok(DEBIAN.map(Self::Debian).to_vec()),
            (_, Some(debian), Some(modules)) => Ok(vec![Self::Patched(debian, modules)]),
            (_, Some(debian), None) => Ok(vec![Self::Debian(debian)]),
            (_, None, modules) => Ok(vec![Self::Image(PathBuf::from(text), modules)]),
        }
    }

    /// The kernel itself; the first time, it is fetched.
    pub fn ensure(&self, setup: &Setup) -> Result<Kernel> {
        match self {
            Self::Debian(debian) => kernels::ensure(setup, *debian),
            Self::Patched(debian, modules) => {
                own::patched(setup, kernels::ensure(setup, *debian)?, modules)
            }
            Self::Image(image, modules) => own::open(setup, image, modules.as_deref()),
        }
    }

    /// As the command line calls it; a file by its name alone.
    pub fn name(&self) -> String {
        match self {
            Self::Debian(debian) | Self::Patched(debian, _) => debian.version.to_owned(),
            Self::Image(image, _) => {
                image.file_name().map_or("kernel".to_owned(), |name| name.to_string_lossy().into())
            }
        }
    }
}

/// One CPU with one kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The CPU.
    pub cpu: Cpu,
    /// The kernel.
    pub kernel: KernelChoice,
}

impl Cell {
    /// The name for files: `vmx5-6.12`.
    pub fn file_name(&self) -> String {
        format!("{}-{}", self.cpu.name(), self.kernel.name())
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<8} {:<4}", self.cpu.name(), self.kernel.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_every_cpu_and_every_kernel() {
        assert_eq!(Cpu::parse("all").ok(), Some(Cpu::ALL.to_vec()));
        assert_eq!(KernelChoice::parse("all", None).map(|all| all.len()).ok(), Some(4));
        assert!(Cpu::parse("vmx6").is_err());
    }

    #[test]
    fn modules_belong_to_one_kernel() {
        let dir = PathBuf::from("modules");
        assert!(KernelChoice::parse("all", Some(dir.clone())).is_err());
        let image = KernelChoice::Image(PathBuf::from("bzImage"), Some(dir.clone()));
        assert_eq!(KernelChoice::parse("bzImage", Some(dir.clone())).ok(), Some(vec![image]));
        let patched = KernelChoice::Patched(DEBIAN[1], dir.clone());
        assert_eq!(KernelChoice::parse("6.1", Some(dir)).ok(), Some(vec![patched]));
    }
}
