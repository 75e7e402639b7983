//! What the integration tests share: the cells of the lab, and running the product.

#[cfg(feature = "lab")]
pub mod lab;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail};
use ept_trace::analysis::{Analysis, Judged};
use ept_trace::model::Event;
use ept_trace::recording::{read_all, recognise};
use ept_trace::source::{Observations, Source as _, Told};

/// A cell of the lab: a CPU, and a kernel on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// `svm`, `svm-la48`, `vmx` or `vmx5`.
    pub cpu: &'static str,
    /// `5.10`, `6.1`, `6.12` or `7.2`.
    pub kernel: &'static str,
}

/// The CPUs of the lab.
pub const CPUS: [&str; 4] = ["svm", "svm-la48", "vmx", "vmx5"];
/// The kernels of the lab.
pub const KERNELS: [&str; 4] = ["5.10", "6.1", "6.12", "7.2"];

impl Cell {
    /// All sixteen.
    pub fn all() -> impl Iterator<Item = Self> {
        CPUS.into_iter().flat_map(|cpu| KERNELS.map(|kernel| Self { cpu, kernel }))
    }

    /// The root level that a guest with this MAXPHYADDR has here.
    ///
    /// Written down from the kernels' sources and the CPUs' capabilities, and not computed by
    /// what is tested: EPT of 5 levels is used above 48 bits; NPT has the host's levels, and 4
    /// on 5.10, whose host never has 5 with SVM.
    pub fn root_level(self, maxphyaddr: u32) -> u8 {
        match (self.cpu, self.kernel) {
            ("vmx5", _) if maxphyaddr > 48 => 5,
            ("svm", "6.1" | "6.12" | "7.2") => 5,
            _ => 4,
        }
    }

    /// Whether it is an advisory that a guest has this CPUID leaf 0x80000008: it is not told that
    /// its root does not map all of its MAXPHYADDR.
    pub fn is_out_of_reach(self, maxphyaddr: u32, address_sizes: Option<u32>) -> bool {
        let guest_phys_bits = address_sizes.map_or(0, |eax| eax >> 16 & 0xff);
        maxphyaddr > 48 && self.root_level(maxphyaddr) == 4 && guest_phys_bits == 0
    }

    /// The function by which the vendor module sets itself up.
    pub fn hardware_setup(self) -> &'static str {
        match (self.cpu, self.kernel) {
            ("vmx" | "vmx5", "5.10" | "6.1") => "kvm_intel:hardware_setup",
            ("vmx" | "vmx5", _) => "kvm_intel:vmx_hardware_setup",
            _ => "kvm_amd:svm_hardware_setup",
        }
    }

    /// What was observed in this cell.
    ///
    /// # Errors
    ///
    /// If its file is not there, or not as it should be.
    pub fn corpus(self) -> Result<Vec<Event>> {
        let file = format!("{}-{}.jsonl", self.cpu, self.kernel);
        observations(&Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(file))
    }
}

/// Reads a recording, or observations as JSON lines, every one of which must be as it should be.
///
/// # Errors
///
/// If it cannot be read, or a line is not an observation.
pub fn observations(path: &Path) -> Result<Vec<Event>> {
    let name = path.display();
    let bytes = fs::read(path).with_context(|| name.to_string())?;
    if recognise(&bytes) {
        return read_all(&bytes[..]).with_context(|| name.to_string());
    }
    let mut source = Observations::new(&bytes[..]);
    let mut events = Vec::new();
    loop {
        let mut told = Told::default();
        source.read(&mut told)?;
        if let Some(bad) = told.skipped.first.first() {
            bail!("{name}: {bad}");
        }
        if told.events.is_empty() {
            return Ok(events);
        }
        events.extend(told.events);
    }
}

/// Judges events in their order.
pub fn judge(events: Vec<Event>) -> Vec<Judged> {
    let mut analysis = Analysis::default();
    events.into_iter().map(|event| analysis.judge(event).clone()).collect()
}

/// The product as it is built beside these tests.
///
/// # Panics
///
/// If it cannot be built: then no test can run.
pub fn product() -> PathBuf {
    static PRODUCT: OnceLock<PathBuf> = OnceLock::new();
    PRODUCT.get_or_init(build).clone()
}

fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--package", "ept-trace"])
        .args(cfg!(not(debug_assertions)).then_some("--release"))
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status()
        .expect("cargo can be started");
    assert!(built.success(), "ept-trace cannot be built");
    let test = std::env::current_exe().expect("the test has a path");
    let target = test.parent().and_then(Path::parent).expect("target/debug/deps/test");
    target.join("ept-trace")
}

/// What a run printed, as text.
pub fn text(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    format!("{out}{err}")
}
