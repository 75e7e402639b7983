//! Lines that are no event's, and are no loss.

/// Whether a line is empty, or of a stack that was taken at the event before, or begins as what
/// libtraceevent says of formats that it cannot parse, or as one of those that a tool says.
pub fn is(line: &[u8], of_tool: &[&[u8]]) -> bool {
    const BEGINNINGS: [&[u8]; 4] = [
        b"=> ",
        // Such as `[kvmmmu:kvm_mmu_get_page] bad op token {`.
        b"[",
        b"libtraceevent: ",
        b"Error: expected ",
    ];
    let text = line.trim_ascii();
    let begins = |beginning: &&[u8]| text.starts_with(beginning);
    text.is_empty() || BEGINNINGS.iter().any(begins) || of_tool.iter().any(begins)
}
