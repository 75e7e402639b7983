//! Files that are written. Only their owner can read them: they tell about other people's guests.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, Stat, fchmod, fstat, ftruncate, open, stat, statat};
use rustix::io::Errno;

/// Creates a file, or empties the one that is there; pipes and devices are written to.
///
/// Where anybody may make files, as in /tmp, somebody may have left a link or a file of his own under
/// this name. Those are refused as the kernel does it with `fs.protected_symlinks` and
/// `fs.protected_regular` on, which not every system has: `PermissionDenied`.
///
/// # Errors
///
/// If it is such a one, or cannot be opened.
pub(crate) fn create(path: &Path, name: Name) -> io::Result<File> {
    let mut flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    if name == Name::Derived {
        flags |= OFlags::NONBLOCK;
    }
    let mode = Mode::RUSR | Mode::WUSR;
    let file = match open(path, flags | OFlags::NOFOLLOW, mode) {
        Err(Errno::LOOP) if name == Name::Given => {
            let link = statat(rustix::fs::CWD, path, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
            // Nobody else can put another in the place of one that passes.
            ensure_ours(&link, path)?;
            open(path, flags, mode)?
        }
        opened => opened?,
    };
    let found = fstat(&file)?;
    if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile {
        ensure_ours(&found, path)?;
        // Closed to others before anything is in it.
        fchmod(&file, mode)?;
        ftruncate(&file, 0)?;
    }
    Ok(file.into())
}

/// Where the name of a file comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// The user has given it: a link is followed, and a pipe waits for its reader.
    Given,
    /// It is made from another, and is meant to be new: neither.
    Derived,
}

/// Refuses what somebody else has put into a directory where anybody may put things.
fn ensure_ours(found: &Stat, path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let dir = stat(parent)?;
    let is_public = Mode::from_raw_mode(dir.st_mode).contains(Mode::SVTX | Mode::WOTH);
    let is_ours = found.st_uid == rustix::process::geteuid().as_raw() || found.st_uid == dir.st_uid;
    if is_public && !is_ours {
        let why = "somebody else's, in a directory that is open to all: remove it, or name another";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::io::Write as _;
    use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    }

    #[test]
    fn what_was_there_is_emptied_and_closed_to_others() {
        let dir = tempfile::tempdir().expect("room");
        let [old, new, link] = ["old", "new", "link"].map(|name| dir.path().join(name));
        fs::write(&old, "what was there").expect("room");
        fs::set_permissions(&old, Permissions::from_mode(0o666)).expect("its mode");
        symlink(&old, &link).expect("room");
        for path in [&new, &link, &old] {
            let mut file = create(path, Name::Given).expect("it can be written");
            file.write_all(b"x").expect("room");
            assert_eq!((mode(path), fs::read(path).expect("readable")), (0o600, b"x".to_vec()));
        }
    }

    #[test]
    fn devices_are_written_to_as_they_are() {
        let dir = tempfile::tempdir().expect("room");
        let (null, link) = (Path::new("/dev/null"), dir.path().join("stdout"));
        symlink(null, &link).expect("room");
        let before = mode(null);
        for path in [null, &link] {
            assert!(create(path, Name::Given).is_ok());
            assert_eq!(mode(path), before);
        }
        assert!(create(&link, Name::Derived).is_err(), "a link that nobody has named");
    }

    #[test]
    fn what_somebody_else_left_in_a_public_directory_is_let_alone() {
        let nobody = Some(65534);
        let dir = tempfile::tempdir().expect("room");
        let [victim, link, file] = ["victim", "link", "file"].map(|name| dir.path().join(name));
        for (path, content) in [(&victim, "precious"), (&file, "bait")] {
            fs::write(path, content).expect("room");
        }
        symlink(&victim, &link).expect("room");
        // Only root can make things somebody else's.
        if lchown(&link, nobody, None).is_err() {
            return;
        }
        chown(&file, nobody, None).expect("as before");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).expect("its mode");
        for path in [&link, &file] {
            let refused = create(path, Name::Given).expect_err("it is refused");
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        }
        assert_eq!(fs::read(&victim).expect("readable"), b"precious");
        assert_eq!(fs::read(&file).expect("readable"), b"bait");
        // Where nobody else can put things, whose they are is the administrator's choice.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("its mode");
        assert!(create(&link, Name::Given).is_ok());
    }
}
