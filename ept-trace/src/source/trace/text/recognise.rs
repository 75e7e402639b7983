//! Tells texts apart by what is in them.

use super::cursor::{Cursor, last_word, trim_end, whole_decimal, whole_hex};
use super::line::Line;
use super::{Kind, ftrace, payload, perf_script, task, trace_cmd};

/// More of a file is not looked at.
const MOST: usize = 64 << 10;

/// Which text a file is that begins with `head`; nothing if it is none of these.
///
/// # Errors
///
/// It is a text of these tools that tells too little: why, and what to do.
pub fn recognise(head: &[u8]) -> Option<Result<Kind, String>> {
    let head = &head[..head.len().min(MOST)];
    // A line that is cut off says little.
    let whole = memchr::memrchr(b'\n', head).map_or(head, |newline| &head[..newline]);
    let lines =
        || whole.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let has_header = lines().take(16).any(|line| line.starts_with(b"# tracer: "));
    let has_cpus = lines().take(16).any(|line| line.starts_with(b"cpus="));

    let mut likely = None;
    for line in lines() {
        if let Some(why) = refused(line, has_header) {
            return Some(Err(why.to_owned()));
        }
        if !has_header && let Line::Event(_) = perf_script::line(line, &mut None) {
            return Some(Ok(Kind::PerfScript));
        }
        match (ftrace::line(line, &mut None), trace_cmd::line(line, &mut None)) {
            (Line::Event(_), _) if has_header => return Some(Ok(Kind::Ftrace)),
            (_, Line::Event(_)) if has_cpus => return Some(Ok(Kind::TraceCmd)),
            (Line::Event(_), Line::Bad(_)) => return Some(Ok(Kind::Ftrace)),
            (_, Line::Event(event)) => {
                if let Some(kind) = by_padding(line, event.name, event.payload) {
                    return Some(Ok(kind));
                }
                likely = Some(Kind::TraceCmd);
            }
            _ => {}
        }
    }
    let empty = if has_header { Some(Kind::Ftrace) } else { has_cpus.then_some(Kind::TraceCmd) };
    likely.or(empty).map(Ok)
}

/// trace-cmd fills up the names of events, and ftrace does not; of a long name both make the same.
fn by_padding(line: &[u8], name: &[u8], payload: &[u8]) -> Option<Kind> {
    const PADDED: usize = 20;
    if name.is_empty() || payload.is_empty() {
        return None;
    }
    let before = &line[..line.len() - payload.len()];
    if before.ends_with(b"  ") {
        return Some(Kind::TraceCmd);
    }
    (name.len() < PADDED).then_some(Kind::Ftrace)
}

/// Why a log with this line is of no use.
fn refused(line: &[u8], has_header: bool) -> Option<&'static str> {
    if let Some(option) = option_without_text(line, has_header) {
        return Some(option);
    }
    if trace_cmd::is_of_several_files(line) {
        return Some(
            "a report of several files, maybe of several machines: use `trace-cmd report` with each \
             alone, or analyze the trace.dat files themselves",
        );
    }
    if is_perf_trace(line) {
        return Some(
            "`perf trace` drops fields that are zero, and counts its times from its own start: use \
             `perf record` and analyze perf.data, or `perf script` of it",
        );
    }
    is_without_context(line, has_header).then_some(
        "ftrace with its option `context-info` off tells neither thread nor time: \
         `echo 1 > options/context-info` in tracefs, and take the log again",
    )
}

/// The options `raw`, `hex` and `bin` of ftrace leave of a tracepoint its number alone.
fn option_without_text(line: &[u8], has_header: bool) -> Option<&'static str> {
    let (before, number) = last_word(line);
    whole_decimal::<u32>(number)?;
    let before = trim_end(before).strip_suffix(b"type:")?;
    let words = || trim_end(before).split(|byte| *byte == b' ');
    if words().count() == 3 {
        if words().all(|word| whole_decimal::<u64>(word).is_some()) {
            return Some(
                "ftrace with its option `raw` does not tell the fields of events: \
                 `echo 0 > options/raw` in tracefs, and take the log again",
            );
        }
        if words().all(|word| word.len() % 8 == 0 && whole_hex(word).is_some()) {
            return Some(
                "ftrace with its option `hex` does not tell the fields of events: \
                 `echo 0 > options/hex` in tracefs, and take the log again",
            );
        }
    }
    (has_header && before.contains(&0)).then_some(
        "ftrace with its option `bin` does not tell the fields of events: \
         `echo 0 > options/bin` in tracefs, and take the log again",
    )
}

/// `kvm_fpu: load`. Without the header of ftrace it must be an event that is known, for messages of the
/// kernel can look so as well.
fn is_without_context(line: &[u8], has_header: bool) -> bool {
    let (name, payload) = task::named(Cursor(line));
    line.starts_with(name)
        && line[name.len()..].starts_with(b": ")
        && if has_header { is_name(name) } else { payload::is_known(name, payload) }
}

/// `     0.000 kt/21653 kvmmmu:kvm_mmu_get_page(role: 6018, created: 1)`, with or without how long it
/// took behind the time, and without the thread if there is but one.
fn is_perf_trace(line: &[u8]) -> bool {
    let is_call = |word: &[u8]| {
        let Some(open) = memchr::memchr(b'(', word) else { return false };
        let mut parts = word[..open].split(|byte| *byte == b':');
        parts.clone().count() == 2 && parts.all(is_name)
    };
    let mut rest = Cursor(line);
    rest.spaces();
    rest.time().is_some()
        && rest.literal(b" ").is_some()
        && rest.0.split(|byte| *byte == b' ').any(is_call)
}

fn is_name(name: &[u8]) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    !name.is_empty() && !name[0].is_ascii_digit() && name.iter().all(is_letter)
}
