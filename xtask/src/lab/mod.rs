//! `cargo xtask lab`: real KVM on a CPU that this machine lacks.
//!
//! A *cell* is a CPU with a kernel. An emulator boots the kernel with an initramfs that holds
//! busybox, KVM's modules, `ept-trace` and what the user adds; its init loads KVM, runs the
//! command, and sends output, exit code and files back over a serial port.

mod cell;
pub mod console;
pub mod emulator;
mod faults;
mod gdb;
mod initramfs;
pub mod matrix;
mod pack;
mod poke;
pub mod product;
mod run;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

pub use self::cell::{Cell, Cpu, KernelChoice};
pub use self::faults::{Seeding, seeding};
pub use self::pack::pack;
pub use self::run::{Options, Outcome, run};
use crate::FAILURE;
use crate::setup::{Setup, own, packages};

/// The static busybox that becomes the guest's userland.
pub const BUSYBOX: &str = "/bin/busybox";
/// The BIOS of Bochs' machine.
pub const BOCHS_BIOS: &str = "/usr/share/bochs/BIOS-bochs-latest";
/// The BIOS of its display adapter.
pub const VGA_BIOS: &str = "/usr/share/vgabios/vgabios.bin";
/// The boot loader on its CD, and what that loads first.
pub const ISOLINUX: &str = "/usr/lib/ISOLINUX/isolinux.bin";
/// See [`ISOLINUX`].
pub const LDLINUX: &str = "/usr/lib/syslinux/modules/bios/ldlinux.c32";

/// What runs unless told otherwise. A kernel whose guests hang, one in each scenario, comes to its
/// verdict within [`run::DEFAULT_TIMEOUT`].
const COMMAND: [&str; 4] = ["ept-trace", "check", "--patience", "30"];

/// `cargo xtask lab`
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub struct Args {
    /// svm, svm-la48, vmx, vmx5 or all
    #[arg(long, default_value = "vmx5")]
    cpu: String,
    /// 5.10, 6.1, 6.12, 7.2, all, or the path of a bzImage or of a kernel's .deb
    #[arg(long, default_value = "6.12")]
    kernel: String,
    /// The kernel's modules, packed or not: the tree where it was built, what `make
    /// modules_install INSTALL_MOD_PATH=DIR` wrote, or a .deb. With 5.10 to 7.2: modules that take
    /// the place of its own
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,
    /// Put FILE in the guest's /add
    #[arg(long, value_name = "FILE")]
    add: Vec<PathBuf>,
    /// How long a cell may take, in seconds
    #[arg(long, value_name = "SECS", default_value_t = run::DEFAULT_TIMEOUT)]
    timeout: u64,
    /// How many cells to run side by side (default: one per core)
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Leave KVM's modules unloaded
    #[arg(long)]
    no_kvm: bool,
    /// Where the files that the command leaves in /out go; with several cells, one directory each
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// With several cells: show the output of each, not only of those that failed
    #[arg(long, short)]
    verbose: bool,
    /// Do without ept-trace
    #[arg(long, hide = true)]
    no_product: bool,
    /// CPUs of the guest, on QEMU
    #[arg(long, hide = true, default_value_t = 1)]
    smp: u32,
    /// Let the command use `poke`
    #[arg(long, hide = true)]
    pokes: bool,
    /// Show every rule its faults, and see that each is found, and nothing else
    #[arg(long, conflicts_with_all = ["command", "out", "no_product", "no_kvm", "add"])]
    faults: bool,
    /// With --faults: those of these rules alone
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "faults")]
    rules: Vec<String>,
    /// With --faults in every cell: renew the table in docs/rules.md
    #[arg(long, requires = "faults", conflicts_with = "rules")]
    write_docs: bool,
    /// What to run (default: ept-trace check --patience 30)
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Runs the command in every cell asked for.
pub fn main(args: &Args) -> Result<ExitCode> {
    let cells = cells(args)?;
    let setup = Setup::within_another_verb()?;
    packages::ensure(&setup, &packages::LAB)?;
    check_kernels(&setup, &cells, !args.no_kvm)?;
    let command = match args.command.as_slice() {
        [] => COMMAND.map(str::to_owned).to_vec(),
        words => words.to_vec(),
    };
    let options = Options {
        command,
        product: if args.no_product { None } else { Some(product::build(&setup)?) },
        add: args.add.clone(),
        files: Vec::new(),
        timeout: Duration::from_secs(args.timeout),
        load_kvm: !args.no_kvm,
        smp: args.smp,
        pokes: args.pokes,
        out: args.out.clone(),
        stream: cells.len() == 1 && !args.faults,
    };
    if args.faults {
        return faults::main(&setup, &cells, &options, args.jobs, &args.rules, args.write_docs);
    }
    match cells.as_slice() {
        [cell] => {
            let outcome = run(cell, &options)?;
            let (boot, total) = (outcome.boot_time.as_secs_f64(), outcome.total_time.as_secs_f64());
            eprintln!("lab: {cell} {}: {total:.1} s (boot {boot:.1} s)", outcome.release);
            if let Some(dir) = &outcome.out_files {
                eprintln!("lab: the files of /out are in {}", dir.display());
            }
            Ok(exit_code(outcome.exit_code))
        }
        cells => {
            let tell =
                |cell: &Cell, result: &Result<Outcome>| matrix::print(cell, result, args.verbose);
            let results = matrix::run_all(&setup, cells, &options, args.jobs, tell)?;
            Ok(conclude(&results))
        }
    }
}

/// What the other verbs need of the lab before they boot cells: the static product.
pub fn prepare(setup: &Setup) -> Result<PathBuf> {
    packages::ensure(setup, &packages::LAB)?;
    product::build(setup)
}

/// The exit code of many cells is that of the first in the table that is not 0; a cell that
/// crashed or hung counts as 2.
fn conclude(results: &[Result<Outcome>]) -> ExitCode {
    let code = |result: &Result<Outcome>| {
        result.as_ref().map_or(i32::from(FAILURE), |outcome| outcome.exit_code)
    };
    let failed: Vec<i32> = results.iter().map(code).filter(|code| *code != 0).collect();
    println!("{} of {} cells ok", results.len() - failed.len(), results.len());
    exit_code(failed.first().copied().unwrap_or(0))
}

fn cells(args: &Args) -> Result<Vec<Cell>> {
    let kernels = KernelChoice::parse(&args.kernel, args.modules.clone())?;
    let cpus = Cpu::parse(&args.cpu)?.into_iter();
    let row = |cpu| kernels.iter().cloned().map(move |kernel| Cell { cpu, kernel });
    Ok(cpus.flat_map(row).collect())
}

/// What can be told of the kernels before anything is built and booted.
fn check_kernels(setup: &Setup, cells: &[Cell], load_kvm: bool) -> Result<()> {
    let mut told = BTreeSet::new();
    for cell in cells {
        let kernel = cell.kernel.ensure(setup)?;
        if load_kvm {
            told.extend(own::check(&kernel, cell.cpu.module())?);
        }
    }
    for note in told {
        eprintln!("lab: {note}");
    }
    Ok(())
}

/// A program's exit code as our own.
pub fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}
