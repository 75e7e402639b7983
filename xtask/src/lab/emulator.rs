//! The emulators: QEMU without hardware help for SVM, Bochs for VMX.
//!
//! Both get a kernel and an initramfs in the run directory, and write its two serial ports to
//! the files [`CONSOLE`] and [`CHANNEL`] there.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result};

use super::{BOCHS_BIOS, Cpu, ISOLINUX, LDLINUX, VGA_BIOS};
use crate::command;

/// The run directory's files.
pub const CONSOLE: &str = "console";
/// The command's channel.
pub const CHANNEL: &str = "channel";
/// The emulator's own words.
pub const LOG: &str = "emulator.log";
/// The command's channel both ways, where we poke the memory.
const PIPE: &str = "pipe";
/// QEMU's GDB stub, by which we do.
pub const GDB: &str = "gdb";
/// The initramfs.
pub const INITRAMFS: &str = "initramfs";
const ISO: &str = "boot.iso";

/// For both: a watchdog would take the emulator's slowness for a lock-up, and the check of the timer
/// for a broken one.
const KERNEL_OPTIONS: &str = "console=ttyS0,115200 quiet panic=-1 nowatchdog no_timer_check \
     mitigations=off tsc=unstable";

/// Removes the largest files of a run, which an emulator needs no more once its guest is up. They
/// stay where a guest does not come up, for then they may be why.
pub fn discard_images(dir: &Path) {
    for file in [INITRAMFS, ISO] {
        // Each emulator has but one of them.
        let _ = fs::remove_file(dir.join(file));
    }
}

/// What is asked of a machine.
#[derive(Debug, Clone, Copy)]
pub struct Machine<'a> {
    /// CPUs, on QEMU.
    pub smp: u32,
    /// Where its memory may be poked: the nonce of the guest's requests.
    pub pokes: Option<&'a str>,
}

/// A running emulator. Killed when dropped, and by the kernel should this process die.
#[derive(Debug)]
pub struct Emulator {
    child: Child,
    answers: Option<File>,
}

impl Emulator {
    /// Starts the machine of `cpu` in the run directory.
    pub fn start(
        cpu: Cpu,
        bochs: Option<&Path>,
        image: &Path,
        machine: Machine<'_>,
        dir: &Path,
    ) -> Result<Self> {
        let mut command = match (cpu, bochs) {
            (Cpu::Vmx | Cpu::Vmx5, Some(bochs)) => self::bochs(cpu, bochs, image, machine, dir)?,
            _ => qemu(cpu, image, machine),
        };
        let is_answered = machine.pokes.is_some() && !cpu.is_poked_by_itself();
        let answers = if is_answered { Some(answers(dir)?) } else { None };
        let log = File::create(dir.join(LOG)).context("cannot write the emulator's log")?;
        let child = command
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start the emulator; `setpriv` is in util-linux")?;
        Ok(Self { child, answers })
    }

    /// Sends the command a line.
    pub fn answer(&mut self, line: &str) -> Result<()> {
        let file = self.answers.as_mut().context("this machine cannot be poked")?;
        writeln!(file, "{line}").context("cannot answer the command")
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // It may have ended already; either way it is reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that dies with the thread that starts it, whatever kills that.
fn mortal(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

fn qemu(cpu: Cpu, image: &Path, machine: Machine<'_>) -> Command {
    let la57 = if cpu == Cpu::Svm { "on" } else { "off" };
    let mut command = mortal(Path::new("qemu-system-x86_64"));
    // All CPUs in one thread: with a thread for each, QEMU 7.2 may go on in code that another CPU has
    // patched, and the kernel dies of its own breakpoint.
    command.args(["-accel", "tcg,thread=single", "-smp", &machine.smp.to_string()]);
    command.args(["-m", "1024", "-nodefaults", "-no-reboot", "-display", "none"]);
    command.args(["-cpu", &format!("max,svm=on,la57={la57}")]);
    command.arg("-kernel").arg(image).args(["-initrd", INITRAMFS, "-append", KERNEL_OPTIONS]);
    command.args(["-serial", &format!("file:{CONSOLE}")]);
    if machine.pokes.is_some() {
        let channel = format!("pipe,id=channel,path={PIPE}");
        command.args(["-chardev", &channel, "-serial", "chardev:channel"]);
        command.args(["-gdb", &format!("unix:{GDB},server=on,wait=off")]);
    } else {
        command.args(["-serial", &format!("file:{CHANNEL}")]);
    }
    command
}

/// Makes what QEMU takes for the two ends of a pipe: one to read answers from, and as the other the
/// same file that it writes without pokes. Returned is the former, open for reading too: then
/// neither this nor the emulator waits for the other.
fn answers(dir: &Path) -> Result<File> {
    let path = dir.join(PIPE).with_extension("in");
    command::run(Command::new("mkfifo").arg(&path))?;
    File::create(dir.join(CHANNEL))
        .and_then(|_| symlink(CHANNEL, dir.join(PIPE).with_extension("out")))
        .and_then(|()| File::options().read(true).write(true).open(path))
        .context("cannot make the pipe for answers")
}

/// Bochs boots from a CD only, so it gets one with isolinux.
fn bochs(
    cpu: Cpu,
    binary: &Path,
    image: &Path,
    machine: Machine<'_>,
    dir: &Path,
) -> Result<Command> {
    let iso = dir.join("iso");
    fs::create_dir(&iso)?;
    fs::copy(image, iso.join("vmlinuz"))
        .with_context(|| format!("cannot copy {}", image.display()))?;
    fs::rename(dir.join(INITRAMFS), iso.join("initrd"))?;
    for file in [ISOLINUX, LDLINUX].map(Path::new) {
        let name = file.file_name().unwrap_or_default();
        fs::copy(file, iso.join(name))
            .with_context(|| format!("cannot copy {}", file.display()))?;
    }
    // A fixed lpj spares the calibration of the delay loop.
    let menu = format!(
        "default lab\nprompt 0\nlabel lab\n kernel vmlinuz\n \
         append initrd=initrd {KERNEL_OPTIONS} lpj=1000000\n"
    );
    fs::write(iso.join("isolinux.cfg"), menu)?;
    let mut xorriso = Command::new("xorriso");
    xorriso.args(["-as", "mkisofs", "-quiet", "-o", ISO, "-b", "isolinux.bin", "-c", "boot.cat"]);
    xorriso.args(["-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "iso"]);
    command::run(xorriso.current_dir(dir)).context("cannot make the boot CD")?;
    fs::remove_dir_all(&iso)?;

    fs::write(dir.join("bochsrc"), bochsrc())?;
    let mut command = mortal(binary);
    command.args(["-q", "-f", "bochsrc"]);
    let ept5 = (cpu == Cpu::Vmx5).then_some("1");
    for (variable, value) in [("EPT_TRACE_LAB_EPT5", ept5), ("EPT_TRACE_LAB_POKE", machine.pokes)] {
        match value {
            Some(value) => command.env(variable, value),
            None => command.env_remove(variable),
        };
    }
    Ok(command)
}

/// Names no file by an absolute path of ours, for Bochs splits its options at commas.
fn bochsrc() -> String {
    format!(
        "\
display_library: nogui
cpu: model=corei7_skylake_x, count=1, ips=100000000, reset_on_triple_fault=0
clock: sync=none
memory: guest=512, host=512
romimage: file={BOCHS_BIOS}
vgaromimage: file={VGA_BIOS}
ata0-master: type=cdrom, path={ISO}, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev={CONSOLE}
com2: enabled=1, mode=file, dev={CHANNEL}
log: bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
"
    )
}
