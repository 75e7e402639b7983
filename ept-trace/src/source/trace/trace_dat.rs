//! trace.dat: what `trace-cmd record` writes, in its versions 6 and 7.
//!
//! trace-cmd.dat.v6(5) and trace-cmd.dat.v7(5) specify it. The file has what tracefs says of the
//! kernel's events, options, and for each instance of tracefs and each CPU the pages of the ring
//! buffer just as the kernel had them. These are read where they are, some at a time, and the
//! events of all CPUs are put in order.
//!
//! The file has no checksums. What cannot be as it says is told, with its offset; and where events
//! may be missing, the records have a [`Lost`](super::Tracepoint::Lost): at the begin of such a
//! gap, with how many if that is told; and with none at its end, and every now and then within, so
//! that nothing is taken for whole there.

mod clock;
mod compression;
mod contents;
mod options;
mod page;
mod pages;
mod reader;
mod source;
mod stream;
mod v6;
mod v7;

use std::fs::File;
use std::io::{self, BufReader, Seek as _, SeekFrom};
use std::sync::Arc;

use self::compression::Decompressor;
use self::contents::{Buffer, Contents};
use self::pages::Pages;
pub use self::reader::Reader;
use self::source::Source;
use self::stream::Stream;
use super::binary::Decoder;
use super::record::{Batch, TraceReader, Tracepoint};
use super::tracing_data::{Input, MAGIC, read_version};

/// A trace.dat.
#[derive(Debug)]
pub struct TraceDat {
    file: Arc<File>,
    contents: Contents,
    decoder: Arc<Decoder>,
    instances: Vec<Instance>,
}

/// An instance of tracefs: a ring buffer of its own for each CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its name, which is empty for the top instance.
    pub name: String,
    /// The clock of its events, such as `local`, `mono` or `x86-tsc`.
    pub clock: String,
    /// The times are nanoseconds. Else they say nothing but the order.
    pub has_times: bool,
}

/// Whether a file that begins with these bytes is a trace.dat.
pub fn recognise(head: &[u8]) -> bool {
    head.starts_with(MAGIC)
}

/// The memory for what is read ahead, of all CPUs, in bytes.
const MOST_AHEAD: usize = 48 << 20;

impl TraceDat {
    /// Reads all but the pages.
    ///
    /// # Errors
    ///
    /// It cannot be read, is no trace.dat, of another version, or of a machine that is big-endian;
    /// it was never finished; or it is damaged such that it is not known where its events are.
    pub fn open(file: File) -> io::Result<Self> {
        let length = (&file).seek(SeekFrom::End(0)).map_err(|err| match err.kind() {
            io::ErrorKind::NotSeekable => {
                io::Error::new(err.kind(), "a pipe cannot be read: save it to a file first")
            }
            _ => err,
        })?;
        (&file).rewind()?;
        let mut input = Input::new(BufReader::new(&file))?;
        let mut contents = match read_version(&mut input)?.as_str() {
            "6" => v6::read(&mut input)?,
            "7" => v7::read(&mut input)?,
            version => {
                let version = version.escape_debug();
                return Err(input.bad(&format!("version {version} of trace.dat is not known")));
            }
        };
        contents.check(length)?;
        let decoder = Arc::new(std::mem::take(&mut contents.events.decoder));
        let instances = contents.buffers.iter().map(|buffer| contents.instance(buffer)).collect();
        Ok(Self { file: Arc::new(file), contents, decoder, instances })
    }

    /// The instances that the file tells of.
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// Whether an instance has an event that would be read, which takes until the first of them.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn holds_kvm(&self, instance: usize) -> io::Result<bool> {
        if !self.decoder.knows_kvm() {
            return Ok(false);
        }
        let mut reader = self.reader(instance)?;
        loop {
            let mut batch = Batch::default();
            reader.read(&mut batch)?;
            let is_loss = |event: Tracepoint| matches!(event, Tracepoint::Lost { .. });
            if batch.records.iter().any(|record| !is_loss(record.event)) {
                return Ok(true);
            }
            if batch.records.is_empty() {
                return Ok(false);
            }
        }
    }

    /// Reads the events of an instance, which is counted as in [`Self::instances`]; of one that
    /// is not there, there are none.
    ///
    /// # Errors
    ///
    /// If there is no memory.
    pub fn reader(&self, instance: usize) -> io::Result<Reader> {
        let Contents { options, buffers, layout, .. } = &self.contents;
        let nothing = Buffer::default();
        let buffer = buffers.get(instance).unwrap_or(&nothing);
        let cpus: Vec<_> = buffer.cpus.iter().filter(|cpu| cpu.size > 0).collect();
        let streams = cpus.iter().map(|cpu| {
            Stream::new(
                Pages::new(cpu, buffer.is_compressed),
                layout.with_size(buffer.page_size),
                options.clock.of_cpu(&buffer.name, cpu.number),
                Arc::clone(&self.decoder),
                options.losses(&buffer.name, cpu.number),
            )
        });
        let source = Source {
            file: Arc::clone(&self.file),
            page_size: buffer.page_size,
            most_ahead: MOST_AHEAD / cpus.len().max(1),
            decompressor: Decompressor::new(self.contents.compression)?,
            stored: Vec::new(),
        };
        let mut skipped = self.contents.events.skipped.clone();
        skipped.append(self.contents.skipped.clone());
        Ok(Reader::new(source, streams.collect(), skipped, self.contents.is_torn))
    }
}

#[cfg(test)]
mod tests;
