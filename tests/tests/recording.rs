//! Recordings as others meet them: with what was observed in the lab, of old programs, and by the
//! document alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ept_trace::model::Event;
use ept_trace::recording::{Header, Parts, Writer, read_all};
use tests::{judge, observations};

/// A file of the repository.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Parts that are files of a directory.
struct Files(PathBuf);

impl Parts for Files {
    type Part = fs::File;

    fn begin(&mut self, part: u32) -> io::Result<fs::File> {
        fs::File::create(self.0.join(part.to_string()))
    }
}

/// What is read again of observations that were recorded, in parts if there is a limit.
fn recorded(events: &[Event], limit: Option<u64>) -> Vec<Event> {
    let name = format!("ept-trace-recording-{}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    fs::create_dir_all(&directory).expect("room");
    let mut writer = Writer::new(Files(directory.clone()), Header::default(), limit).expect("room");
    for (event, number) in events.iter().zip(1..) {
        writer.push(event).expect("room");
        if number % 10 == 0 {
            writer.flush().expect("room");
        }
    }
    drop(writer);
    let parts = (1..).map(|part| fs::read(directory.join(part.to_string())));
    let parts: Vec<_> = parts.map_while(Result::ok).collect();
    fs::remove_dir_all(&directory).expect("ours");
    assert_eq!(parts.len() > 1, limit.is_some());
    read_all(&parts.concat()[..]).expect("read")
}

#[test]
fn what_was_observed_is_judged_from_a_recording_as_it_was_live() {
    let corpus = fs::read_dir(file("tests/corpus")).expect("there");
    let files = corpus.map(|entry| entry.expect("there").path());
    let files: Vec<_> = files.filter(|file| file.extension() == Some("jsonl".as_ref())).collect();
    assert!(files.len() >= 19, "{files:?}");
    for file in files {
        let live = observations(&file).expect("observations");
        for limit in [None, Some(1000)] {
            let again = recorded(&live, limit);
            assert_eq!(again, live, "{}", file.display());
            let verdicts = format!("{:?}", judge(again));
            assert!(verdicts == format!("{:?}", judge(live.clone())), "{}", file.display());
        }
    }
}

/// These files are never to be written again: whoever has one of their version must be able to read
/// it. The second has the same observations in four parts.
#[test]
fn a_recording_of_version_1_0_can_be_read_for_ever() {
    let events = observations(&file("tests/corpus/recording-1.0.jsonl")).expect("lines");
    assert_eq!(events.len(), 35);
    for name in ["recording-1.0.ept", "recording-1.0-parts.ept"] {
        let recorded = observations(&file("tests/corpus").join(name)).expect("a recording");
        assert_eq!(recorded, events, "{name}");
    }
    let bytes = fs::read(file("tests/corpus/recording-1.0.ept")).expect("there");
    let header = Header::read(&mut &bytes[..]).expect("a header");
    assert_eq!((header.part, header.version.to_string().as_str()), (1, "1.0"));
    assert_eq!(header.tool, "ept-trace 0.1.0");
}

#[test]
fn the_document_is_enough_to_read_a_recording() {
    let document = fs::read_to_string(file("docs/recording.md")).expect("there");
    let program = document.split("```python\n").nth(1).and_then(|rest| rest.split("```").next());
    let program = program.expect("a program in the document");
    let is_there = |tool: &str| {
        let tool = Command::new(tool).arg("--version").stdout(Stdio::null()).status();
        tool.is_ok_and(|status| status.success())
    };
    if !is_there("python3") || !is_there("zstd") {
        eprintln!("not tested: python3 and zstd are not there");
        return;
    }
    let path = file("tests/corpus/recording-1.0.ept");
    let output =
        Command::new("python3").args(["-c", program]).arg(&path).output().expect("python3");
    assert!(output.status.success(), "{}", tests::text(&output));
    let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let events: Vec<Event> =
        lines.map(|line| serde_json::from_slice(line).expect("an observation")).collect();
    assert_eq!(events, observations(&path).expect("a recording"));
}

#[test]
fn the_example_of_the_document_is_a_real_one() {
    let document = fs::read_to_string(file("docs/recording.md")).expect("there");
    let bytes = fs::read(file("tests/corpus/recording-1.0.ept")).expect("there");
    let mut rows = 0;
    for line in document.lines() {
        let Some((offset, row)) = line.split_once("  ").filter(|(offset, _)| offset.len() == 8)
        else {
            continue;
        };
        let Ok(offset) = usize::from_str_radix(offset, 16) else { continue };
        let row = row.split('|').next().unwrap_or_default();
        let shown: Vec<u8> =
            row.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect();
        assert_eq!(bytes[offset..][..shown.len()], shown, "{line}");
        rows += 1;
    }
    assert!(rows >= 8, "{rows} rows");
}
