//! The rules once more, in another shape: all entries are gathered first, then judged by lists of
//! bit numbers. Written from the SDM's tables and not from the walk. Slow.

use super::super::*;
use crate::model::{Gpa, Hpa};

fn bit(value: u64, number: u64) -> bool {
    value >> number & 1 == 1
}

fn field(value: u64, high: u64, low: u64) -> u64 {
    (low..=high).fold(0, |bits, number| bits | u64::from(bit(value, number)) << (number - low))
}

/// 29.2.1.1.
pub(super) fn refused(eptp: u64, cpu: &Cpu) -> InvalidPointer {
    let cap = |number| bit(cpu.capability.0, number);
    let width = u64::from(cpu.maxphyaddr.min(52) - cpu.tme_keyid_bits);
    let mut wrong = InvalidPointer::empty();
    match field(eptp, 2, 0) {
        0 if cap(8) => {}
        6 if cap(14) => {}
        _ => wrong |= InvalidPointer::MEMTYPE,
    }
    match field(eptp, 5, 3) {
        3 if cap(6) => {}
        4 if cap(7) => {}
        _ => wrong |= InvalidPointer::WALK_LENGTH,
    }
    if bit(eptp, 6) && !cap(21) {
        wrong |= InvalidPointer::AD_UNSUPPORTED;
    }
    if bit(eptp, 7) && !cap(23) {
        wrong |= InvalidPointer::SSS_UNSUPPORTED;
    }
    if (8..=11).any(|number| bit(eptp, number)) {
        wrong |= InvalidPointer::RESERVED_LOW;
    }
    if (width..=63).any(|number| bit(eptp, number)) {
        wrong |= InvalidPointer::ADDRESS_WIDTH;
    }
    wrong
}

struct Judge<'a> {
    eptp: u64,
    cpu: &'a Cpu,
    access: &'a Access,
    /// Level and entry, from the root down to the last that is needed.
    used: Vec<(u8, u64)>,
}

pub(super) fn walk(
    eptp: u64,
    cpu: &Cpu,
    memory: &impl PhysRead,
    gpa: Gpa,
    access: &Access,
) -> Outcome {
    let mut judge = Judge { eptp, cpu, access, used: Vec::new() };
    if (u64::from(cpu.maxphyaddr.min(52))..64).any(|number| bit(gpa.0, number)) {
        return Outcome::GpaNotRepresentable;
    }
    let levels = if field(eptp, 5, 3) == 4 { 5 } else { 4 };
    if levels == 4 && field(gpa.0, 51, 48) != 0 {
        return judge.violation(None, false);
    }
    let mut table = field(eptp, 51, 12) << 12;
    for level in (1..=levels).rev() {
        let low = 12 + 9 * (u64::from(level) - 1);
        let at = Hpa(table + 8 * field(gpa.0, low + 8, low));
        let Some(entry) = memory.read_u64(at) else {
            return Outcome::NotInDump { at, level };
        };
        judge.used.push((level, entry));
        if !judge.is_present(entry) {
            return judge.violation(None, false);
        }
        let reasons = judge.reasons(level, entry);
        if !reasons.is_empty() {
            return Outcome::Misconfiguration { level, reasons };
        }
        if level == 1 || level <= 3 && bit(entry, 7) {
            return judge.leaf(gpa.0, level, entry);
        }
        table = field(entry, 51, 12) << 12;
    }
    unreachable!("level 1 is a leaf")
}

impl Judge<'_> {
    fn is_present(&self, entry: u64) -> bool {
        bit(entry, 0) || bit(entry, 1) || bit(entry, 2) || self.cpu.controls.mbe && bit(entry, 10)
    }

    /// 31.3.3.1.
    fn reasons(&self, level: u8, entry: u64) -> Misconfiguration {
        let cap = |number| bit(self.cpu.capability.0, number);
        let width = u64::from(self.cpu.maxphyaddr.min(52) - self.cpu.tme_keyid_bits);
        let is_page = match level {
            1 => true,
            2 => bit(entry, 7) && cap(16),
            3 => bit(entry, 7) && cap(17),
            _ => false,
        };
        let mut reserved: Vec<u64> = (width..52).collect();
        match (is_page, level) {
            (true, 2) => reserved.extend(12..=20),
            (true, 3) => reserved.extend(12..=29),
            (true, _) => {}
            (false, _) => reserved.extend(3..=7),
        }
        let mut reasons = Misconfiguration::empty();
        if reserved.into_iter().any(|number| bit(entry, number)) {
            reasons |= Misconfiguration::RESERVED_BITS;
        }
        if is_page && [2, 3, 7].contains(&field(entry, 5, 3)) {
            reasons |= Misconfiguration::BAD_MEMTYPE;
        }
        if !bit(entry, 0) {
            if bit(entry, 1) {
                reasons |= Misconfiguration::WRITE_WITHOUT_READ;
            }
            if !cap(0) && (bit(entry, 2) || self.cpu.controls.mbe && bit(entry, 10)) {
                reasons |= Misconfiguration::EXECUTE_WITHOUT_READ_UNSUPPORTED;
            }
            if is_page && self.cpu.controls.paging_write && bit(entry, 58) {
                reasons |= Misconfiguration::PAGING_WRITE_WITHOUT_READ;
            }
        }
        reasons
    }

    /// Whether all entries have this bit.
    fn all(&self, number: u64) -> bool {
        self.used.iter().all(|&(_, entry)| bit(entry, number))
    }

    fn is_guest_table(&self) -> bool {
        matches!(self.access.stage, Stage::GuestTableRead | Stage::GuestTableUpdate)
    }

    fn is_access_itself(&self) -> bool {
        matches!(self.access.stage, Stage::Final | Stage::Asynchronous)
    }

    /// Whether it reads, writes, fetches.
    fn does(&self) -> (bool, bool, bool) {
        let flags = bit(self.eptp, 6);
        match (self.access.stage, self.access.kind) {
            (Stage::GuestTableRead, _) => (true, flags, false),
            (Stage::GuestTableUpdate, _) => (flags, true, false),
            (Stage::PdpteLoad, _) | (_, Kind::Read) => (true, false, false),
            (_, Kind::Write) => (false, true, false),
            (_, Kind::ReadModifyWrite) => (true, true, false),
            (_, Kind::Fetch) => (false, false, true),
        }
    }

    /// 31.3.3.2, 31.3.4, 31.3.5, 31.3.6.
    fn leaf(&self, gpa: u64, level: u8, entry: u64) -> Outcome {
        let controls = &self.cpu.controls;
        let (reads, writes, fetches) = self.does();
        let is_user = self.access.user || !self.access.paging;
        let fetch_bit = if controls.mbe && is_user { 10 } else { 2 };
        let read = !reads || self.all(0);
        let write = !writes || self.all(1);
        let fetch = !fetches || self.all(fetch_bit);
        let upper = self.used.iter().all(|&(at, entry)| at == level || bit(entry, 1));
        let shadow = self.access.shadow_stack == Some(ShadowStack::Supervisor);
        let mut via = None;
        if bit(self.eptp, 7) && shadow && self.is_access_itself() {
            if !(self.all(0) && upper && bit(entry, 60)) {
                return self.violation(Some(entry), false);
            }
            if !(read && write && fetch) {
                via = Some(Via::ShadowStack);
            }
        } else if !(read && write && fetch) {
            let may_help = read && fetch && self.all(0);
            let data = self.is_access_itself() && !self.access.spp_exempt;
            if may_help && self.is_guest_table() && upper && controls.paging_write && bit(entry, 58)
            {
                via = Some(Via::PagingWrite);
            } else if may_help && data && level == 1 && controls.spp && bit(entry, 61) {
                match self.access.spp_vector {
                    None => return self.sub_page_event(true),
                    Some(vector) if (0..32).any(|page| bit(vector, 2 * page + 1)) => {
                        return self.sub_page_event(false);
                    }
                    Some(vector) if bit(vector, 2 * field(gpa, 11, 7)) => via = Some(Via::SubPage),
                    Some(_) => return self.violation(Some(entry), false),
                }
            } else {
                return self.violation(Some(entry), false);
            }
        }
        let verifies = controls.paging_write && controls.guest_paging_verification;
        if verifies
            && bit(entry, 57)
            && self.access.stage == Stage::Final
            && !self.access.guest_tables_all_paging_write
        {
            return self.violation(Some(entry), true);
        }
        let flags = bit(self.eptp, 6);
        let accessed = self.used.iter().filter(|(_, entry)| flags && !bit(*entry, 8));
        let accessed = accessed.fold(0, |levels, (level, _)| levels | 1 << (level - 1));
        let dirty = flags && writes && !bit(entry, 9);
        if (accessed != 0 || dirty) && controls.pml_index.is_some_and(|index| index >= 512) {
            return Outcome::LogFull;
        }
        let low = [12, 21, 30][usize::from(level) - 1];
        let memory_type = match field(entry, 5, 3) {
            0 => MemoryType::Uc,
            1 => MemoryType::Wc,
            4 => MemoryType::Wt,
            5 => MemoryType::Wp,
            _ => MemoryType::Wb,
        };
        Outcome::Translation(Translation {
            hpa: Hpa(field(entry, 51, low) << low | field(gpa, low - 1, 0)),
            level,
            rights: self.rights(),
            memory: Some(LeafMemory { memory_type, ipat: bit(entry, 6) }),
            accessed,
            dirty,
            via,
        })
    }

    fn rights(&self) -> Rights {
        let mut rights = Rights::empty();
        rights.set(Rights::READ, self.all(0));
        rights.set(Rights::WRITE, self.all(1));
        rights.set(Rights::EXECUTE, self.all(2));
        rights.set(Rights::USER, self.cpu.controls.mbe && self.all(10));
        rights
    }

    fn nmi_bit_is_defined(&self) -> bool {
        let controls = &self.cpu.controls;
        (!controls.nmi_exiting || controls.virtual_nmis) && !self.access.event_delivery
    }

    fn sub_page_event(&self, miss: bool) -> Outcome {
        let defined = self.nmi_bit_is_defined();
        let nmi = u64::from(defined && self.access.iret_nmi_unblock) << 12;
        Outcome::SubPage(SubPageEvent {
            miss,
            qualification: u64::from(miss) << 11 | nmi,
            mask: 1 << 11 | u64::from(defined) << 12,
        })
    }

    /// Table 30-7, bit by bit: its value, `None` where undefined. `leaf` if it was reached.
    fn violation(&self, leaf: Option<u64>, verification: bool) -> Outcome {
        let (reads, writes, fetches) = self.does();
        let access = self.access;
        let flags = bit(self.eptp, 6);
        let modifies = self.is_access_itself() && access.kind == Kind::ReadModifyWrite
            || access.stage == Stage::GuestTableUpdate && !flags;
        let has = |number| leaf.is_some() && self.all(number);
        let linear = access.gla_valid && access.stage != Stage::PdpteLoad;
        let last = linear && self.is_access_itself();
        let guest = match (access.paging, access.guest_leaf) {
            _ if !last || !bit(self.cpu.capability.0, 22) => None,
            (false, _) => Some((true, true, false)),
            (true, leaf) => leaf.map(|leaf| (leaf.user, leaf.writable, leaf.nx)),
        };
        let sss = leaf.filter(|_| bit(self.eptp, 7));
        let bits = [
            (!modifies).then_some(reads),
            Some(writes),
            Some(fetches),
            Some(has(0)),
            Some(has(1)),
            Some(has(2)),
            self.cpu.controls.mbe.then(|| has(10)),
            Some(linear),
            Some(last),
            guest.map(|guest| guest.0),
            guest.map(|guest| guest.1),
            guest.map(|guest| guest.2),
            self.nmi_bit_is_defined().then_some(access.iret_nmi_unblock),
            Some(self.is_access_itself() && access.shadow_stack.is_some()),
            sss.map(|leaf| bit(leaf, 60)),
            Some(verification),
            Some(access.stage == Stage::Asynchronous),
        ];
        let bits = || bits.into_iter().enumerate();
        let deciding = self.used.last();
        Outcome::Violation(Violation {
            level: deciding.map(|(level, _)| *level),
            qualification: bits()
                .fold(0, |all, (at, value)| all | u64::from(value == Some(true)) << at),
            mask: bits().fold(0, |all, (at, value)| all | u64::from(value.is_some()) << at),
            convertible: match deciding {
                _ if !self.cpu.controls.ve => Convertible::No,
                None => Convertible::Unspecified,
                Some((_, entry)) if bit(*entry, 63) => Convertible::No,
                Some(_) => Convertible::Yes,
            },
        })
    }
}
