//! Recordings in several files.

use super::*;
use crate::model::ConfigureMmu;

const ARGUMENTS: ConfigureMmu = ConfigureMmu {
    enable_tdp: true,
    forced_root_level: None,
    max_root_level: Some(5),
    huge_page_level: Some(3),
};

/// What must be known: the hooks, facts by their release, and arguments.
fn hooks() -> Event {
    event(1, EventKind::Hooks { hooks: Vec::new(), not_seen: vec!["everything".to_owned()] })
}

fn setup() -> Event {
    event(2, EventKind::ConfigureMmu(ARGUMENTS))
}

/// A recording whose every frame is in a part of its own.
fn in_parts(events: &[Event], in_a_frame: usize) -> Vec<Vec<u8>> {
    let memory = Memory::default();
    let mut writer = Writer::new(memory.clone(), header(), Some(1)).expect("memory");
    write(&mut writer, events, in_a_frame);
    drop(writer);
    memory.parts()
}

fn with_state() -> Vec<Event> {
    [hooks(), setup()].into_iter().chain(changes()).collect()
}

#[test]
fn parts_in_their_order_are_as_one_file() {
    for in_a_frame in 1..6 {
        let parts = in_parts(&with_state(), in_a_frame);
        assert_eq!(parts.len(), with_state().len().div_ceil(in_a_frame));
        assert_eq!(read(&parts.concat()), with_state());
        let inputs = parts.iter().map(|part| Ok(&part[..]));
        assert_eq!(read_all(Joined::new(inputs)).expect("memory"), with_state());
    }
}

#[test]
fn each_part_has_a_header_and_what_must_be_known() {
    let parts = in_parts(&with_state(), 4);
    let numbers = parts.iter().map(|part| {
        let header = Header::read(&mut &part[..]).expect("a header");
        assert_eq!(header.session, "a test");
        (header.part, header.newest_vm)
    });
    assert_eq!(numbers.collect::<Vec<_>>(), [(1, 0), (2, 1), (3, 2), (4, 3), (5, 3)]);
    let third = read(&parts[2]);
    assert_eq!(
        gaps(&third[..1]),
        ["part 3 is read without those before it; 8 observations are missing"]
    );
    assert_eq!(third[1..3], [hooks(), setup()]);
    let vms = third[3..7].iter().map(|event| match &event.kind {
        EventKind::SpteChange(change) => (change.vm, change.from_start),
        other => panic!("{other:?}"),
    });
    let expected = [(2, false), (2, false), (3, true), (1, false)].map(|(vm, is)| (Some(vm), is));
    assert_eq!(vms.collect::<Vec<_>>(), expected);
    assert_eq!(gaps(&third[7..]), ["the recording goes on in a part that was not read"]);
    assert_eq!(third.len(), 8);
}

#[test]
fn new_facts_of_the_machine_make_old_arguments_void() {
    let facts = {
        let text = include_str!("../../../../tests/corpus/svm-6.12.jsonl");
        let events =
            text.lines().map(|line| serde_json::from_str::<Event>(line).expect("an event"));
        events.into_iter().find(|event| matches!(event.kind, EventKind::Facts(_))).expect("facts")
    };
    let events = [setup(), facts.clone(), change(3, 1), change(4, 1)];
    let parts = in_parts(&events, 1);
    assert_eq!(read(&parts[1])[1], setup());
    assert_eq!(read(&parts[2])[1], facts);
    assert!(matches!(read(&parts[2])[2].kind, EventKind::SpteChange(_)));
}

#[test]
fn a_part_that_is_not_there_is_told() {
    let parts = in_parts(&with_state(), 4);
    let without = |gone: usize| {
        let parts: Vec<_> = parts.iter().enumerate().filter(|(at, _)| *at != gone).collect();
        let bytes: Vec<_> = parts.into_iter().flat_map(|(_, part)| part.clone()).collect();
        gaps(&read(&bytes)).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(without(1), ["part 3 comes after part 1; 4 observations are missing"]);
    assert_eq!(without(4), ["the recording goes on in a part that was not read"]);
    let twice = [&parts[0][..], &parts[0], &parts[1]].concat();
    assert!(gaps(&read(&twice))[0].starts_with("part 1 comes after part 1; 0 obs"));
}

#[test]
fn a_part_that_was_cut_off_is_told_and_the_next_is_read() {
    let parts = in_parts(&with_state(), 4);
    let cut = [&parts[0][..parts[0].len() - 64], &parts[1..].concat()].concat();
    let told = read(&cut);
    assert_eq!(gaps(&told), ["part 1 was cut off: its end is missing; 0 observations are missing"]);
    assert_eq!(told.len(), with_state().len() + 1);
}

#[test]
fn another_recording_is_not_taken_for_a_part() {
    let memory = Memory::default();
    let other = Header { session: "another".to_owned(), ..header() };
    drop(Writer::new(memory.clone(), other, None).expect("memory"));
    let bytes = [recording(&changes(), 4), memory.bytes()].concat();
    let err = read_all(&bytes[..]).expect_err("two recordings");
    assert!(err.to_string().ends_with("another recording begins here"), "{err}");
}

#[cfg(feature = "live")]
mod files {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::PathBuf;

    use super::*;

    /// A directory for one test, removed with all that is in it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(test: &str) -> Self {
            let name = format!("ept-trace-{}-{test}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).expect("a new directory");
            Self(path)
        }

        fn files(&self) -> Vec<String> {
            let names = fs::read_dir(&self.0).expect("there").map(|entry| entry.expect("there"));
            names.map(|entry| entry.file_name().into_string().expect("text")).collect()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_newest_files_are_kept_and_those_of_others_let_alone() {
        let scratch = Scratch::new("keep");
        let path = scratch.0.join("file");
        let rotation = |keep| Some(Rotation { size: 1, keep });
        let mut before = Recorder::create(&path, rotation(None)).expect("room");
        write(&mut before, &changes()[..12], 1);
        assert_eq!(scratch.files().len(), 12);
        // Another recording at the same place, of fewer parts.
        let mut recorder = Recorder::create(&path, rotation(Some(3))).expect("room");
        write(&mut recorder, &changes()[..3], 1);
        fs::write(scratch.0.join("file.2"), "of someone else").expect("room");
        write(&mut recorder, &changes()[3..9], 1);
        drop(recorder);
        let mut left = scratch.files();
        left.sort_by_key(|name| (name.len(), name.clone()));
        // Its newest three are 6 to 8; 9 to 11 are of the recording before.
        let expected = [2, 6, 7, 8, 9, 10, 11].map(|number| format!("file.{number}"));
        assert_eq!(left, expected);
    }

    #[test]
    fn files_are_for_their_owner_and_no_link_is_followed() {
        let scratch = Scratch::new("mode");
        let path = scratch.0.join("file");
        fs::write(&path, "open to all").expect("room");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("ours");
        symlink(scratch.0.join("victim"), scratch.0.join("file.1")).expect("room");
        let rotation = Some(Rotation { size: 1, keep: None });
        let mut recorder = Recorder::create(&path, rotation).expect("room");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        write(&mut recorder, &changes()[..1], 1);
        assert!(recorder.push(&changes()[1]).is_err(), "file.1 is a link");
        assert!(!scratch.0.join("victim").exists());
        drop(recorder);
        assert_eq!(read(&fs::read(&path).expect("there"))[0], changes()[0]);
    }

    #[test]
    fn what_cannot_be_rotated_is_refused() {
        let rotation = Some(Rotation { size: 1 << 20, keep: None });
        for path in ["/dev/null", "-"] {
            let err = Recorder::create(path.as_ref(), rotation).err().expect("refused");
            assert!(err.to_string().contains("--rotate"), "{path}: {err}");
        }
        assert!(Recorder::create("/dev/null".as_ref(), None).is_ok());
    }
}
