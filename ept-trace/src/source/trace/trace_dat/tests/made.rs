//! Files that are made by hand.

use std::io::Write as _;

use super::super::compression::Compression;

pub const PAGE: usize = 4096;

/// A page of the ring buffer.
pub struct Page {
    time: u64,
    data: Vec<u8>,
}

impl Page {
    /// Without an event yet.
    pub fn at(time: u64) -> Self {
        Self { time, data: Vec::new() }
    }

    /// An event so much later than what is before it.
    pub fn event(self, delta: u32, event: &[u8]) -> Self {
        let units = event.len().div_ceil(4);
        if (1..=28).contains(&units) {
            let padded = [event, &[0; 3][..units * 4 - event.len()]].concat();
            return self.entry(u32::try_from(units).unwrap(), delta, &padded);
        }
        let size = u32::try_from(event.len() + 4).unwrap().to_le_bytes();
        let padding = &[0; 3][..units * 4 - event.len()];
        self.entry(0, delta, &[&size, event, padding].concat())
    }

    /// `TIME_EXTEND`.
    pub fn extend(self, delta: u64) -> Self {
        self.time_entry(30, delta)
    }

    /// `TIME_STAMP`: the lower 59 bits of a time.
    pub fn stamp(self, time: u64) -> Self {
        self.time_entry(31, time)
    }

    fn time_entry(self, kind: u32, time: u64) -> Self {
        let low = u32::try_from(time & ((1 << 27) - 1)).unwrap();
        let high = u32::try_from(time >> 27).unwrap();
        self.entry(kind, low, &high.to_le_bytes())
    }

    /// Any entry at all.
    pub fn entry(mut self, kind: u32, delta: u32, rest: &[u8]) -> Self {
        self.data.extend((kind | delta << 5).to_le_bytes());
        self.data.extend(rest);
        self
    }

    /// The page, as the kernel has it.
    pub fn bytes(self) -> Vec<u8> {
        self.with_flags(0, &[])
    }

    /// After a loss of events.
    pub fn after_loss(self, events: Option<u64>) -> Vec<u8> {
        match events {
            // As a negative number, which it was up to 5.1.
            None => self.with_flags(0xffff_ffff_8000_0000, &[]),
            Some(events) => self.with_flags(3 << 30, &events.to_le_bytes()),
        }
    }

    fn with_flags(self, flags: u64, stored: &[u8]) -> Vec<u8> {
        let length = self.data.len() as u64 + flags;
        let time = self.time.to_le_bytes();
        let mut page = [&time[..], &length.to_le_bytes(), &self.data, stored].concat();
        assert!(page.len() <= PAGE);
        page.resize(PAGE, 0);
        page
    }
}

fn common(id: u16, tid: u32) -> Vec<u8> {
    [&id.to_le_bytes()[..], &[0; 2], &tid.to_le_bytes()].concat()
}

/// `kvm:kvm_entry`.
pub fn entry(tid: u32, vcpu: u32) -> Vec<u8> {
    [common(10, tid), vcpu.to_le_bytes().to_vec()].concat()
}

/// `kvmmmu:kvm_tdp_mmu_spte_changed` at level 1.
pub fn changed(tid: u32, gfn: u64, new: u64) -> Vec<u8> {
    let words = [gfn, 0, new, 1].map(u64::to_le_bytes).concat();
    [common(11, tid), words].concat()
}

/// `sched:sched_switch`.
pub fn switch(tid: u32) -> Vec<u8> {
    [common(12, tid), vec![0; 8]].concat()
}

/// An event that the file has no format of.
pub fn unknown() -> Vec<u8> {
    common(99, 1)
}

/// Of the CPUs of an instance.
pub struct Buffer {
    pub name: &'static str,
    pub cpus: Vec<Vec<Vec<u8>>>,
}

/// What a file has.
#[derive(Default)]
pub struct Made {
    pub buffers: Vec<Buffer>,
    pub options: Vec<(u16, Vec<u8>)>,
}

impl Made {
    /// With pages of the CPUs of the top instance.
    pub fn new(cpus: Vec<Vec<Vec<u8>>>) -> Self {
        Self { buffers: vec![Buffer { name: "", cpus }], options: Vec::new() }
    }

    /// One more option, a text.
    pub fn option(mut self, id: u16, text: &str) -> Self {
        self.options.push((id, [text.as_bytes(), b"\0"].concat()));
        self
    }

    /// What the kernel counted for a CPU.
    pub fn stats(self, cpu: u32, overrun: u64, dropped: u64) -> Self {
        let text = format!(
            "CPU: {cpu}\nentries: 0\noverrun: {overrun}\ncommit overrun: 0\nbytes: 0\n\
             oldest event ts:     4.387708\nnow ts:     4.407985\ndropped events: {dropped}\n\
             read events: 176\n"
        );
        self.option(2, &text)
    }

    /// As version 6.
    pub fn v6(&self) -> Vec<u8> {
        let mut file = preamble("6");
        file.extend(header_info());
        file.extend(ftrace_events());
        file.extend(event_formats());
        file.extend([0; 16]);
        let cpus = self.buffers[0].cpus.len();
        file.extend(u32::try_from(cpus).unwrap().to_le_bytes());
        file.extend(b"options  \0");
        for (id, data) in &self.options {
            file.extend(option(*id, data));
        }
        let mut places = Vec::new();
        for buffer in &self.buffers[1..] {
            let data = [&[0; 8], buffer.name.as_bytes(), b"\0"].concat();
            places.push(file.len() + 6);
            file.extend(option(3, &data));
        }
        file.extend([0; 2]);
        for (number, buffer) in self.buffers.iter().enumerate() {
            if number > 0 {
                let (place, at) = (places[number - 1], file.len() as u64);
                file[place..place + 8].copy_from_slice(&at.to_le_bytes());
            }
            file.extend(b"flyrecord\0");
            let table = file.len();
            file.resize(table + 16 * cpus, 0);
            for (cpu, pages) in buffer.cpus.iter().enumerate() {
                file.resize(file.len().next_multiple_of(PAGE), 0);
                let (at, pages) = (file.len() as u64, pages.concat());
                let row = [at.to_le_bytes(), (pages.len() as u64).to_le_bytes()].concat();
                file[table + 16 * cpu..][..16].copy_from_slice(&row);
                file.extend(pages);
            }
        }
        file
    }

    /// As version 7.
    pub fn v7(&self, compression: Compression) -> Vec<u8> {
        let mut file = preamble("7");
        file.extend(match compression {
            Compression::None => &b"none\0\0"[..],
            Compression::Zlib => b"zlib\x001.2.13\0",
            Compression::Zstd => b"zstd\x001.5.4\0",
        });
        let options_at = file.len();
        file.extend([0; 8]);
        let mut options = Vec::new();
        for (id, data) in [(16, header_info()), (17, ftrace_events()), (18, event_formats())] {
            options.extend(option(id, &(file.len() as u64).to_le_bytes()));
            file.extend(section(id, &data, compression));
        }
        for (id, data) in &self.options {
            options.extend(option(*id, data));
        }
        // The tables of the ring buffers are written at last, as trace-cmd does it.
        let first = file.len() as u64;
        file[options_at..options_at + 8].copy_from_slice(&first.to_le_bytes());
        let next = file.len() + 16 + options.len() + 6 + 8;
        let mut tables = Vec::new();
        let mut buffers = Vec::new();
        for buffer in &self.buffers {
            let (option, bytes) = self::buffer(buffer, next + buffers.len(), compression);
            tables.extend(option);
            buffers.extend(bytes);
        }
        let second = (next + buffers.len()) as u64;
        options.extend(option(0, &second.to_le_bytes()));
        file.extend(section(0, &options, Compression::None));
        file.extend(buffers);
        tables.extend(option(0, &[0; 8]));
        file.extend(section(0, &tables, Compression::None));
        file
    }
}

fn buffer(buffer: &Buffer, at: usize, compression: Compression) -> (Vec<u8>, Vec<u8>) {
    let is_compressed = compression != Compression::None;
    let mut section = [3_u16.to_le_bytes(), u16::from(is_compressed).to_le_bytes()].concat();
    section.extend([0; 12]);
    let mut table = [&(at as u64).to_le_bytes(), buffer.name.as_bytes(), b"\0local\0"].concat();
    for number in [PAGE, buffer.cpus.len()] {
        table.extend(u32::try_from(number).unwrap().to_le_bytes());
    }
    for (cpu, pages) in buffer.cpus.iter().enumerate() {
        let padded = (at + section.len()).next_multiple_of(PAGE) - at;
        section.resize(padded, 0);
        let mut size = pages.len() * PAGE;
        let place = (at + section.len()) as u64;
        if is_compressed {
            let chunks = pages.chunks(10).map(|chunk| block(&chunk.concat(), compression));
            let chunks: Vec<_> = chunks.collect();
            section.extend(u32::try_from(chunks.len()).unwrap().to_le_bytes());
            // As trace-cmd counts it.
            size = chunks.concat().len();
            section.extend(chunks.concat());
        } else {
            section.extend(pages.concat());
        }
        table.extend(u32::try_from(cpu).unwrap().to_le_bytes());
        table.extend(place.to_le_bytes());
        table.extend((size as u64).to_le_bytes());
    }
    let size = (section.len() - 16) as u64;
    section[8..16].copy_from_slice(&size.to_le_bytes());
    (option(3, &table), section)
}

fn preamble(version: &str) -> Vec<u8> {
    let page_size = u32::try_from(PAGE).unwrap().to_le_bytes();
    [b"\x17\x08\x44tracing", version.as_bytes(), b"\0\0\x08", &page_size].concat()
}

fn option(id: u16, data: &[u8]) -> Vec<u8> {
    let size = u32::try_from(data.len()).unwrap().to_le_bytes();
    [&id.to_le_bytes()[..], &size, data].concat()
}

fn section(id: u16, data: &[u8], compression: Compression) -> Vec<u8> {
    let is_compressed = compression != Compression::None;
    let data = if is_compressed { block(data, compression) } else { data.to_vec() };
    let head = [id.to_le_bytes(), u16::from(is_compressed).to_le_bytes(), [0; 2], [0; 2]].concat();
    [head, (data.len() as u64).to_le_bytes().to_vec(), data].concat()
}

/// Compressed, with both its sizes before it.
pub fn block(data: &[u8], compression: Compression) -> Vec<u8> {
    let stored = match compression {
        Compression::None => data.to_vec(),
        Compression::Zlib => {
            let mut deflate =
                flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            deflate.write_all(data).unwrap();
            deflate.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(data, 1).unwrap(),
    };
    let size = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_le_bytes();
    [&size(&stored), &size(data), &stored[..]].concat()
}

fn sized(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn header_info() -> Vec<u8> {
    let page = "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\
        \tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n\
        \tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n\
        \tfield: char data;\toffset:16;\tsize:4080;\tsigned:1;\n";
    let event = "# compressed entry header\n";
    [b"header_page\0", &sized(page)[..], b"header_event\0", &sized(event)].concat()
}

fn ftrace_events() -> Vec<u8> {
    1_u32.to_le_bytes().into_iter().chain(format("print", 5, "")).collect()
}

fn event_formats() -> Vec<u8> {
    let entry = "\tfield:unsigned int vcpu_id;\toffset:8;\tsize:4;\tsigned:0;\n";
    let changed = "\tfield:u64 gfn;\toffset:8;\tsize:8;\tsigned:0;\n\
        \tfield:u64 old_spte;\toffset:16;\tsize:8;\tsigned:0;\n\
        \tfield:u64 new_spte;\toffset:24;\tsize:8;\tsigned:0;\n\
        \tfield:u8 level;\toffset:32;\tsize:1;\tsigned:0;\n\
        \tfield:u8 as_id;\toffset:33;\tsize:1;\tsigned:0;\n";
    let switch = "\tfield:long prev_state;\toffset:8;\tsize:8;\tsigned:1;\n";
    [
        &3_u32.to_le_bytes(),
        &b"kvm\0\x01\0\0\0"[..],
        &format("kvm_entry", 10, entry),
        b"kvmmmu\0\x01\0\0\0",
        &format("kvm_tdp_mmu_spte_changed", 11, changed),
        b"sched\0\x01\0\0\0",
        &format("sched_switch", 12, switch),
    ]
    .concat()
}

fn format(name: &str, id: u16, fields: &str) -> Vec<u8> {
    sized(&format!(
        "name: {name}\nID: {id}\nformat:\n\
         \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
         \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
         \tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n\
         \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n{fields}\n\
         print fmt: \"\"\n"
    ))
}
