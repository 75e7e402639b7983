//! Lines that are no event's, and are no loss.

/// Whether a line is empty, or of a stack that was taken at the event before, or begins as what
/// libtraceevent says of formats that it cannot parse, or as one of those that a tool says.
pub fn is(line: &[u8], of_tool: &[&[u8]]) -> bool {
    const BEGINNINGS: [&[u8]; 3] = [b"=> ", b"libtraceevent: ", b"Error: expected "];
    let text = line.trim_ascii();
    let begins = |beginning: &&[u8]| text.starts_with(beginning);
    text.is_empty()
        || BEGINNINGS.iter().any(begins)
        || of_tool.iter().any(begins)
        || is_of_format(text)
}

/// `[kvmmmu:kvm_mmu_get_page] bad op token {`.
fn is_of_format(text: &[u8]) -> bool {
    let event =
        text.strip_prefix(b"[").and_then(|rest| memchr::memchr(b']', rest).map(|end| &rest[..end]));
    event.is_some_and(|event| event.contains(&b':') && !event.contains(&b' '))
}
