//! Types of records, as `include/uapi/linux/perf_event.h` and perf itself number them.

/// `PERF_RECORD_LOST`: there was no room in a buffer.
pub const LOST: u32 = 2;
/// `PERF_RECORD_THROTTLE`: an event is not told for a while.
pub const THROTTLE: u32 = 5;
/// `PERF_RECORD_UNTHROTTLE`: it is told again.
pub const UNTHROTTLE: u32 = 6;
/// `PERF_RECORD_SAMPLE`.
pub const SAMPLE: u32 = 9;
/// `PERF_RECORD_LOST_SAMPLES`: how many there were for which there was no room.
pub const LOST_SAMPLES: u32 = 13;
/// `PERF_RECORD_HEADER_ATTR`: an attribute, in a pipe.
pub const HEADER_ATTR: u32 = 64;
/// `PERF_RECORD_HEADER_TRACING_DATA`: formats, in a pipe. They follow the record.
pub const HEADER_TRACING_DATA: u32 = 66;
/// `PERF_RECORD_FINISHED_ROUND`: all buffers were looked at.
pub const FINISHED_ROUND: u32 = 68;
/// `PERF_RECORD_AUXTRACE`: a trace of the hardware. It follows the record.
pub const AUXTRACE: u32 = 71;
/// `PERF_RECORD_COMPRESSED`.
pub const COMPRESSED: u32 = 81;
/// `PERF_RECORD_COMPRESSED2`, with the size of its content.
pub const COMPRESSED2: u32 = 83;
