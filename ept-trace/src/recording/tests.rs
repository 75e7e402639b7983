//! Recordings that are whole, damaged, hostile, and in parts.

mod damage;
mod hostile;
mod parts;

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;

use super::*;
use crate::model::{Event, EventKind, SpteChange};

/// Parts in memory, which outlive their writer.
#[derive(Clone, Default)]
struct Memory(Rc<RefCell<Vec<Vec<u8>>>>);

/// One of them, by its number.
struct InMemory(Memory, u32);

impl Memory {
    /// What is in each part now.
    fn parts(&self) -> Vec<Vec<u8>> {
        self.0.borrow().clone()
    }

    /// All of it.
    fn bytes(&self) -> Vec<u8> {
        self.parts().concat()
    }
}

impl Parts for Memory {
    type Part = InMemory;

    fn begin(&mut self, part: u32) -> io::Result<InMemory> {
        assert_eq!(part as usize, self.0.borrow().len() + 1);
        self.0.borrow_mut().push(Vec::new());
        Ok(InMemory(self.clone(), part))
    }
}

impl Write for InMemory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self(memory, part) = self;
        memory.0.borrow_mut()[*part as usize - 1].extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn header() -> Header {
    Header { session: "a test".to_owned(), monotonic_ns: 5, ..Header::default() }
}

fn writer(memory: &Memory) -> Writer<Memory> {
    Writer::new(memory.clone(), header(), None).expect("memory")
}

/// A recording of these observations, with some in each frame.
fn recording(events: &[Event], in_a_frame: usize) -> Vec<u8> {
    let memory = Memory::default();
    let mut writer = writer(&memory);
    write(&mut writer, events, in_a_frame);
    drop(writer);
    memory.bytes()
}

/// Writes observations, with some in each frame.
fn write<P: Parts>(writer: &mut Writer<P>, events: &[Event], in_a_frame: usize) {
    for events in events.chunks(in_a_frame) {
        for event in events {
            writer.push(event).expect("room");
        }
        writer.flush().expect("room");
    }
}

fn read(bytes: &[u8]) -> Vec<Event> {
    read_all(bytes).expect("memory")
}

fn event(time_ns: u64, kind: EventKind) -> Event {
    Event { time_ns, kind }
}

fn change(time_ns: u64, vm: u32) -> Event {
    let change =
        SpteChange { vm: Some(vm), from_start: true, gfn: time_ns, ..SpteChange::default() };
    event(time_ns, EventKind::SpteChange(change))
}

/// Changes of three VMs, of which one begins after the other, and the end.
fn changes() -> Vec<Event> {
    let vms = [1, 1, 1, 2, 1, 2, 2, 2, 3, 1, 3, 3, 2, 3];
    let changes = vms.into_iter().zip(10..).map(|(vm, time)| change(time, vm));
    changes.chain([event(99, EventKind::End)]).collect()
}

fn gaps(events: &[Event]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::Gap { reason } => Some(reason.as_str()),
            _ => None,
        })
        .collect()
}

/// A generator of numbers that are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("below a usize")
    }
}

#[test]
fn a_recording_is_read_as_it_was_written() {
    for in_a_frame in [1, 2, 7, 100] {
        let bytes = recording(&changes(), in_a_frame);
        assert!(recognise(&bytes));
        assert_eq!(read(&bytes), changes());
        let read = Header::read(&mut &bytes[..]).expect("a header");
        let version = Version { major: 1, minor: 0 };
        assert_eq!(read, Header { version, part: 1, ..header() });
    }
}

#[test]
fn random_observations_come_back_whatever_is_in_them() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..200 {
        let memory = Memory::default();
        let limit = (random.below(2) == 0).then(|| random.below(2000));
        let mut writer = Writer::new(memory.clone(), header(), limit).expect("memory");
        let mut written = Vec::new();
        for _ in 0..random.below(60) {
            let new = random_event(&mut random);
            writer.push(&new).expect("memory");
            written.push(new);
            if random.below(4) == 0 {
                writer.flush().expect("memory");
            }
        }
        written.push(event(random.below(u64::MAX), EventKind::End));
        writer.push(&written[written.len() - 1]).expect("memory");
        drop(writer);
        assert_eq!(read(&memory.bytes()), written);
    }
}

fn random_event(random: &mut Random) -> Event {
    let time_ns = random.below(u64::MAX) >> random.below(64);
    let mut text = || -> String {
        let length = random.below(40);
        let character = |_| char::from_u32(u32::try_from(random.below(0x3000)).unwrap_or(0));
        (0..length).filter_map(character).collect()
    };
    let kind = match time_ns % 5 {
        0 => EventKind::Gap { reason: text() },
        1 => EventKind::HardwareSetup { function: text() },
        2 => EventKind::Complaint { by: text(), text: text() },
        3 => EventKind::VmGone { vm: u32::try_from(random.below(1 << 32)).unwrap_or(0) },
        _ => EventKind::SpteChange(SpteChange {
            vm: (random.below(3) > 0).then_some(7),
            from_start: random.below(2) == 0,
            gfn: random.below(u64::MAX),
            old: (random.below(2) == 0).then_some(u64::MAX),
            ..SpteChange::default()
        }),
    };
    event(time_ns, kind)
}

#[test]
fn what_has_waited_for_a_second_is_written() {
    let memory = Memory::default();
    let mut writer = writer(&memory);
    writer.push(&changes()[0]).expect("memory");
    writer.keep_up().expect("memory");
    assert!(gaps(&read(&memory.bytes())).len() == 1 && read(&memory.bytes()).len() == 1);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    writer.keep_up().expect("memory");
    assert_eq!(read(&memory.bytes())[0], changes()[0]);
}

#[test]
fn a_killed_writer_leaves_all_full_frames() {
    let memory = Memory::default();
    let mut writer = writer(&memory);
    let written: Vec<_> = (0..20_000).map(|time| change(time, 1)).collect();
    for event in &written {
        writer.push(event).expect("memory");
    }
    let left = read(&memory.bytes());
    std::mem::forget(writer);
    let (gap, left) = left.split_last().expect("a gap");
    assert_eq!(gaps(std::slice::from_ref(gap)), ["the file was cut off here: its end is missing"]);
    assert_eq!(left, &written[..left.len()]);
    // A frame has some 256 KiB.
    assert!(written.len() - left.len() < 3000, "{}", left.len());
}

#[test]
fn a_writer_that_is_dropped_writes_what_it_has() {
    let memory = Memory::default();
    let mut writer = writer(&memory);
    writer.push(&changes()[0]).expect("memory");
    drop(writer);
    assert_eq!(read(&memory.bytes())[0], changes()[0]);
}

/// A disk with room for some bytes.
struct Disk {
    room: usize,
    memory: Memory,
}

impl Parts for Disk {
    type Part = OnDisk;

    fn begin(&mut self, part: u32) -> io::Result<OnDisk> {
        Ok(OnDisk { room: self.room, part: self.memory.begin(part)? })
    }
}

struct OnDisk {
    room: usize,
    part: InMemory,
}

impl Write for OnDisk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = self.part.write(&bytes[..bytes.len().min(self.room)])?;
        self.room -= written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_told_and_what_is_on_it_can_be_read() {
    for room in 250..700 {
        let memory = Memory::default();
        let disk = Disk { room, memory: memory.clone() };
        let mut writer = Writer::new(disk, header(), None).expect("there is room for the header");
        let mut written = 0;
        let failure = changes().iter().cycle().find_map(|event| {
            let pushed = writer.push(event).and_then(|()| writer.flush());
            written += usize::from(pushed.is_ok());
            pushed.err()
        });
        assert_eq!(failure.map(|err| err.kind()), Some(io::ErrorKind::StorageFull));
        drop(writer);
        assert_eq!(memory.bytes().len(), room);
        let left = read(&memory.bytes());
        let whole: Vec<_> = changes().into_iter().cycle().take(written).collect();
        assert_eq!(left[..written], whole);
        assert_eq!(gaps(&left).len(), 1);
    }
}
