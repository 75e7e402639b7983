//! tracefs: events and their formats.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use ept_trace_common::abi::Field;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// The tracing directory.
#[derive(Debug)]
pub struct Tracefs {
    root: PathBuf,
    /// Holds the mount where it is our own, which nobody else can see and which goes with us.
    _mount: Option<OwnedFd>,
}

impl Tracefs {
    /// Opens the mounted one; else mounts it for this process alone.
    ///
    /// # Errors
    ///
    /// If tracefs is not mounted and may not be: no `CAP_SYS_ADMIN`, or not in this kernel.
    pub fn open() -> Result<Self> {
        for mounted in ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"] {
            if Path::new(mounted).join("events").is_dir() {
                return Ok(Self { root: mounted.into(), _mount: None });
            }
        }
        let mount = detached_mount().context(
            "tracefs is not mounted (try `mount -t tracefs tracefs /sys/kernel/tracing`)",
        )?;
        let root = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
        Ok(Self { root, _mount: Some(mount) })
    }

    /// A directory that looks like one.
    #[cfg(test)]
    pub(crate) fn at(root: PathBuf) -> Self {
        Self { root, _mount: None }
    }

    /// Whether kprobe events can be made here.
    pub fn has_kprobes(&self) -> bool {
        self.kprobe_events().exists()
    }

    /// The file that kprobe events are made and removed by.
    pub fn kprobe_events(&self) -> PathBuf {
        self.root.join("kprobe_events")
    }

    /// Writes one line of `kprobe_events`.
    ///
    /// # Errors
    ///
    /// What the kernel says of the line.
    pub fn command(&self, line: &str) -> std::io::Result<()> {
        let mut file = OpenOptions::new().append(true).open(self.kprobe_events())?;
        file.write_all(line.as_bytes())
    }

    /// `(hits, misses)` of a kprobe event, by the kernel's own count.
    ///
    /// # Errors
    ///
    /// If the event is not there.
    pub fn kprobe_profile(&self, event: &str) -> Result<(u64, u64)> {
        let path = self.root.join("kprobe_profile");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let of_event = text.lines().find_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next()? == event).then_some(())?;
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        });
        of_event.with_context(|| format!("{} has no line for {event}", path.display()))
    }

    /// Whether there is such a tracepoint.
    pub fn has_event(&self, category: &str, name: &str) -> bool {
        self.event(category, name).is_dir()
    }

    fn event(&self, category: &str, name: &str) -> PathBuf {
        self.root.join("events").join(category).join(name)
    }

    /// The id of an event, which `perf_event_open` asks for.
    ///
    /// # Errors
    ///
    /// If there is no such event.
    pub fn id(&self, category: &str, name: &str) -> Result<u64> {
        let path = self.event(category, name).join("id");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        text.trim().parse().with_context(|| path.display().to_string())
    }

    /// The place of a field in the records of a tracepoint.
    ///
    /// # Errors
    ///
    /// If there is no such event or field.
    pub fn field(&self, category: &str, name: &str, field: &str) -> Result<Field> {
        let path = self.event(category, name).join("format");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        match format_field(&text, field) {
            Some(place) => Ok(place),
            None => bail!("{}: no field {field}", path.display()),
        }
    }

    /// Groups of kprobe events, with the events in them.
    ///
    /// # Errors
    ///
    /// If `kprobe_events` cannot be read.
    pub fn kprobe_groups(&self) -> Result<Vec<(String, String)>> {
        let path = self.kprobe_events();
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let events = text.lines().filter_map(|line| {
            let (_, name) = line.split_ascii_whitespace().next()?.split_once(':')?;
            let (group, event) = name.split_once('/')?;
            Some((group.to_owned(), event.to_owned()))
        });
        Ok(events.collect())
    }
}

/// Mounts tracefs where only the holder of the descriptor can reach it.
fn detached_mount() -> Result<OwnedFd> {
    let context = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

/// Finds `field:TYPE NAME; offset:N; size:N; signed:N;` by name.
fn format_field(text: &str, name: &str) -> Option<Field> {
    text.lines().find_map(|line| {
        let mut parts = line.trim().strip_prefix("field:")?.split(';').map(str::trim);
        let declared = parts.next()?.rsplit([' ', '*']).next()?;
        (declared == name).then_some(())?;
        let mut number = |key: &str| parts.next()?.strip_prefix(key)?.parse::<u32>().ok();
        let offset = number("offset:")?;
        let size = u8::try_from(number("size:")?).ok()?;
        matches!(size, 1 | 2 | 4 | 8).then_some(())?;
        Some(Field { offset, size, shift: 0, width: 0, reserved: 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_fields_are_found_by_name() {
        let format = "name: kvm_mmu_get_page\nID: 1\nformat:\n\
            \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
            \n\
            \tfield:__u64 gfn;\toffset:16;\tsize:8;\tsigned:0;\n\
            \tfield:__u32 role;\toffset:24;\tsize:4;\tsigned:0;\n";
        let field = format_field(format, "role").unwrap();
        assert_eq!((field.offset, field.size), (24, 4));
        assert_eq!(format_field(format, "gfn").unwrap().offset, 16);
        assert!(format_field(format, "level").is_none());
    }
}
