//! What becomes of tables: `arch/x86/kvm/mmu/mmutrace.h`.

use super::super::cursor::Cursor;
use super::Flaw::{self, Malformed};
use super::fields::{self, Bare, Radix};
use super::must;
use crate::model::ToldRole;
use crate::source::trace::{PageRole, Tracepoint};

/// `as id 0 gfn 0 level 5 old_spte 0 new_spte 3fd45827`.
pub fn spte_changed(payload: &[u8], bare: Bare) -> Result<Tracepoint, Flaw> {
    let text = |mut text: Cursor<'_>| {
        let as_id = u8::try_from(text.decimal_word()?).ok()?;
        text.literal(b" gfn ")?;
        let gfn = text.hex_word()?;
        text.literal(b" level ")?;
        let level = level_word(&mut text)?;
        text.literal(b" old_spte ")?;
        let old = text.hex_word()?;
        text.literal(b" new_spte ")?;
        Some(Tracepoint::SpteChanged { as_id, gfn, level, old, new: text.hex_word()? })
    };
    if let Some(rest) = payload.strip_prefix(b"as id ") {
        return text(Cursor(rest)).ok_or(Malformed);
    }
    let wanted: [fields::Wanted<'_>; 5] = [
        (b"as_id", Radix::Decimal),
        (b"gfn", Radix::Hex),
        (b"level", Radix::Decimal),
        (b"old_spte", Radix::Hex),
        (b"new_spte", Radix::Hex),
    ];
    let [as_id, gfn, level, old, new] = fields::read(payload, bare, wanted)?;
    Ok(Tracepoint::SpteChanged {
        as_id: must(as_id)?,
        gfn: must(gfn)?,
        level: table_level(must(level)?)?,
        old: must(old)?,
        new: must(new)?,
    })
}

/// `gfn 1 spte 2985e67 (rwxu) level 1 at 3fb0f008`.
pub fn set_spte(payload: &[u8], bare: Bare) -> Result<Tracepoint, Flaw> {
    let text = |mut text: Cursor<'_>| {
        let gfn = text.hex_word()?;
        text.literal(b" spte ")?;
        let spte = text.hex_word()?;
        text.literal(b" (")?;
        text.word().strip_suffix(b")")?;
        text.literal(b" level ")?;
        let level = level_word(&mut text)?;
        text.literal(b" at ")?;
        Some(Tracepoint::SetSpte { gfn, level, spte, place: text.hex_word()? })
    };
    if let Some(rest) = payload.strip_prefix(b"gfn ") {
        return text(Cursor(rest)).ok_or(Malformed);
    }
    let wanted: [fields::Wanted<'_>; 4] = [
        (b"gfn", Radix::Hex),
        (b"spte", Radix::Hex),
        (b"level", Radix::Decimal),
        (b"sptep", Radix::Hex),
    ];
    let [gfn, spte, level, place] = fields::read(payload, bare, wanted)?;
    Ok(Tracepoint::SetSpte {
        gfn: must(gfn)?,
        level: table_level(must(level)?)?,
        spte: must(spte)?,
        place: must(place)?,
    })
}

/// `gfn 1 pfn 2985 level 1`.
pub fn spte_requested(payload: &[u8], bare: Bare) -> Result<Tracepoint, Flaw> {
    let text = |mut text: Cursor<'_>| {
        let gfn = text.hex_word()?;
        text.literal(b" pfn ")?;
        let pfn = text.hex_word()?;
        text.literal(b" level ")?;
        Some(Tracepoint::SpteRequested { gfn, pfn, level: level_word(&mut text)? })
    };
    if let Some(rest) = payload.strip_prefix(b"gfn ") {
        return text(Cursor(rest)).ok_or(Malformed);
    }
    let wanted: [fields::Wanted<'_>; 3] =
        [(b"gfn", Radix::Hex), (b"pfn", Radix::Hex), (b"level", Radix::Decimal)];
    let [gfn, pfn, level] = fields::read(payload, bare, wanted)?;
    let level = table_level(must(level)?)?;
    Ok(Tracepoint::SpteRequested { gfn: must(gfn)?, pfn: must(pfn)?, level })
}

/// `sptep:000000005c3b4a2d gfn fee00 access 6 gen 4`. The pointer is a virtual address of the kernel,
/// in its text a hash of it.
pub fn mark_mmio(payload: &[u8], bare: Bare) -> Result<Tracepoint, Flaw> {
    let text = |mut text: Cursor<'_>| {
        let place = text.hex_word()?;
        text.literal(b" gfn ")?;
        Some(Tracepoint::MarkMmio { gfn: text.hex_word()?, place })
    };
    if let Some(rest) = payload.strip_prefix(b"sptep:") {
        return text(Cursor(rest)).ok_or(Malformed);
    }
    let wanted: [fields::Wanted<'_>; 2] = [(b"sptep", Radix::Hex), (b"gfn", Radix::Hex)];
    let [place, gfn] = fields::read(payload, bare, wanted)?;
    Ok(Tracepoint::MarkMmio { gfn: must(gfn)?, place: must(place)? })
}

/// `sp gen 0 gfn 0 l5 8-byte q0 direct wux nxe ad root 0 sync new`.
pub fn get_page(payload: &[u8]) -> Result<Tracepoint, Flaw> {
    if payload.starts_with(b"sp ") {
        let page = page_text(payload).ok_or(Malformed)?;
        let created = match page.behind {
            b"new" => true,
            b"existing" => false,
            _ => return Err(Malformed),
        };
        let (gfn, role) = (page.gfn, PageRole::Told(page.role));
        return Ok(Tracepoint::GetPage { gfn, role, created: Some(created) });
    }
    if payload.starts_with(b"new sp ") || payload.starts_with(b"existing sp ") {
        return Err(Flaw::Plugin);
    }
    let (gfn, role, created) = page_fields(payload)?;
    let created = match created {
        None => None,
        Some(created @ (0 | 1)) => Some(created == 1),
        Some(_) => return Err(Malformed),
    };
    Ok(Tracepoint::GetPage { gfn, role, created })
}

/// `sp gen 0 gfn 0 l2 8-byte q0 direct wux nxe ad root 0 sync`.
pub fn prepare_zap(payload: &[u8]) -> Result<Tracepoint, Flaw> {
    if payload.starts_with(b"sp ") {
        let page = page_text(payload).ok_or(Malformed)?;
        return Ok(Tracepoint::PrepareZap { gfn: page.gfn, role: PageRole::Told(page.role) });
    }
    // The plugin has the level first, and no gfn.
    if matches!(payload, [b'0'..=b'9', b' ' | b'0'..=b'9', ..]) {
        return Err(Flaw::Plugin);
    }
    let (gfn, role, _) = page_fields(payload)?;
    Ok(Tracepoint::PrepareZap { gfn, role })
}

/// What the kernel's text tells of a page.
struct Page<'a> {
    gfn: u64,
    role: ToldRole,
    /// The word behind all that.
    behind: &'a [u8],
}

/// Before 5.4 the generation is hexadecimal, and `l5 pae q0` has no bytes. The words between level and
/// `sync` come and go with the role.
fn page_text(payload: &[u8]) -> Option<Page<'_>> {
    let mut text = Cursor(payload);
    text.literal(b"sp gen ")?;
    text.hex_word()?;
    text.literal(b" gfn ")?;
    let gfn = text.hex_word()?;
    text.literal(b" l")?;
    let level = level_word(&mut text)?;
    let mut direct = false;
    loop {
        text.spaces();
        match text.word() {
            b"" => return None,
            b"direct" => direct = true,
            b"sync" | b"unsync" => break,
            _ => {}
        }
    }
    text.spaces();
    Some(Page { gfn, role: ToldRole { level, direct }, behind: text.word() })
}

/// Frame, role, and whether the page is new. None is in the print format in a way that libtraceevent
/// could parse, so without 0x they are decimal.
fn page_fields(payload: &[u8]) -> Result<(u64, PageRole, Option<u64>), Flaw> {
    let wanted: [fields::Wanted<'_>; 3] =
        [(b"gfn", Radix::Decimal), (b"role", Radix::Decimal), (b"created", Radix::Decimal)];
    let [gfn, role, created] = fields::read(payload, Bare::Decimal, wanted)?;
    let role = PageRole::Word(must(role)?);
    table_level(role.level())?;
    Ok((must(gfn)?, role, created))
}

/// A level that is a word of its own.
fn level_word(text: &mut Cursor<'_>) -> Option<u8> {
    table_level(u8::try_from(text.decimal_word()?).ok()?).ok()
}

/// A level that x86 has.
fn table_level(level: u8) -> Result<u8, Flaw> {
    if matches!(level, 1..=5) { Ok(level) } else { Err(Malformed) }
}
