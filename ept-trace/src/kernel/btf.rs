//! BTF: the kernel's own description of its types, of vmlinux and of modules.
//!
//! Just what is needed to find a member by its path, and the parameters of a function. Layout
//! of the format: Documentation/bpf/btf.rst.

use std::collections::HashSet;

use ept_trace_common::abi::Field;
use memchr::memmem;

const MAGIC: u16 = 0xeb9f;
const HEADER_SIZE: usize = 24;

const KIND_INT: u32 = 1;
const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// Longer chains of modifiers are refused: no kernel has them, a broken file may.
const MAX_MODIFIERS: usize = 16;

/// Structures with more anonymous ones inside are refused: likewise.
const MAX_ANONYMOUS: usize = 1000;

/// Why BTF did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// The data is not BTF, or is damaged.
    #[error("BTF is malformed: {0}")]
    Malformed(&'static str),
    /// There is no such structure, member or function.
    #[error("BTF has no {0}")]
    NotFound(String),
    /// There are several, and they differ.
    #[error("BTF has several {0}, which differ")]
    Ambiguous(String),
}

/// One loaded piece: vmlinux, or a module on top of it.
struct Piece {
    types: Vec<u8>,
    strings: Vec<u8>,
    /// String offsets below this belong to the piece underneath.
    first_string: u32,
}

impl Piece {
    /// The offset by which types name this string, if it is one of this piece's.
    fn offset_of(&self, name: &str) -> Option<u32> {
        // Between the NUL that ends the string before and its own.
        let mut pattern = vec![0];
        pattern.extend(name.as_bytes());
        pattern.push(0);
        // The first string of a module has nothing before it; vmlinux begins with an empty one.
        let at = if self.strings.starts_with(&pattern[1..]) {
            0
        } else {
            memmem::find(&self.strings, &pattern)? + 1
        };
        u32::try_from(at).ok()?.checked_add(self.first_string)
    }
}

/// The types of a kernel: vmlinux, and a module on top.
pub struct Btf {
    pieces: Vec<Piece>,
    /// By type id: piece and offset in it. Id 0 is `void`.
    index: Vec<(u32, u32)>,
    /// Ids below this belong to vmlinux; those of the module start here.
    base_types: usize,
    base_strings: u32,
}

/// A type's head: name, kind and so on.
#[derive(Clone, Copy)]
struct Type {
    piece: usize,
    at: usize,
    name: u32,
    kind: u32,
    vlen: usize,
    kind_flag: bool,
    /// Its size, or the type that it refers to.
    extra: u32,
}

/// A member found: its place in bits, and its type.
struct Found {
    bit: u32,
    width: u32,
    type_id: u32,
}

impl Btf {
    /// Reads the BTF of vmlinux.
    ///
    /// # Errors
    ///
    /// [`BtfError::Malformed`].
    pub fn parse(vmlinux: &[u8]) -> Result<Self, BtfError> {
        let mut btf =
            Self { pieces: Vec::new(), index: vec![(u32::MAX, 0)], base_types: 0, base_strings: 0 };
        btf.add(vmlinux)?;
        btf.base_types = btf.index.len();
        btf.base_strings = u32::try_from(btf.pieces[0].strings.len())
            .map_err(|_| BtfError::Malformed("string section too large"))?;
        Ok(btf)
    }

    /// Puts a module's split BTF on top, in the place of one that was there: the types of every
    /// module are numbered from the same number on.
    ///
    /// # Errors
    ///
    /// [`BtfError::Malformed`]; the types of vmlinux stay usable.
    pub fn add_module(&mut self, module: &[u8]) -> Result<(), BtfError> {
        self.remove_module();
        self.add(module).inspect_err(|_| self.remove_module())
    }

    fn remove_module(&mut self) {
        self.pieces.truncate(1);
        self.index.truncate(self.base_types);
    }

    fn add(&mut self, data: &[u8]) -> Result<(), BtfError> {
        let word = |at: usize| -> Result<u32, BtfError> {
            let bytes = data.get(at..at + 4).ok_or(BtfError::Malformed("truncated"))?;
            Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        };
        if word(0)? & 0xffff != u32::from(MAGIC) {
            return Err(BtfError::Malformed("wrong magic"));
        }
        let header = word(4)? as usize;
        if header < HEADER_SIZE {
            return Err(BtfError::Malformed("short header"));
        }
        let section = |offset: usize, length: usize| {
            let start = header.checked_add(offset)?;
            data.get(start..start.checked_add(length)?).map(<[u8]>::to_vec)
        };
        let truncated = BtfError::Malformed("truncated");
        let types = section(word(8)? as usize, word(12)? as usize).ok_or(truncated.clone())?;
        let strings = section(word(16)? as usize, word(20)? as usize).ok_or(truncated)?;
        self.pieces.push(Piece { types, strings, first_string: self.base_strings });
        let piece = self.pieces.len() - 1;
        let mut at = 0;
        while at < self.pieces[piece].types.len() {
            let head = self.head(piece, at).ok_or(BtfError::Malformed("truncated type"))?;
            let place = (u32::try_from(piece), u32::try_from(at));
            let (Ok(piece_number), Ok(offset)) = place else {
                return Err(BtfError::Malformed("type section too large"));
            };
            self.index.push((piece_number, offset));
            at += 12 + trailer(&head).ok_or(BtfError::Malformed("unknown kind"))?;
        }
        Ok(())
    }

    fn word(&self, piece: usize, at: usize) -> Option<u32> {
        let bytes = self.pieces[piece].types.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    fn head(&self, piece: usize, at: usize) -> Option<Type> {
        let info = self.word(piece, at + 4)?;
        Some(Type {
            piece,
            at,
            name: self.word(piece, at)?,
            kind: info >> 24 & 0x1f,
            vlen: (info & 0xffff) as usize,
            kind_flag: info >> 31 != 0,
            extra: self.word(piece, at + 8)?,
        })
    }

    fn type_of(&self, id: u32) -> Option<Type> {
        let (piece, at) = *self.index.get(id as usize)?;
        (piece != u32::MAX).then(|| self.head(piece as usize, at as usize))?
    }

    fn string(&self, piece: usize, offset: u32) -> Option<&[u8]> {
        let piece = &self.pieces[piece];
        let (strings, offset) = match offset.checked_sub(piece.first_string) {
            Some(own) => (&piece.strings, own),
            None => (&self.pieces[0].strings, offset),
        };
        let tail = strings.get(offset as usize..)?;
        Some(&tail[..tail.iter().position(|byte| *byte == 0)?])
    }

    /// The types of these kinds and this name.
    ///
    /// The name is looked up among the strings first, and the types are then held against its
    /// offset: there are a hundred thousand types, and a section holds a string once.
    fn named(&self, kinds: &[u32], name: &str) -> impl Iterator<Item = Type> {
        let offsets: Vec<u32> =
            self.pieces.iter().filter_map(|piece| piece.offset_of(name)).collect();
        self.index
            .iter()
            .skip(1)
            .filter_map(|(piece, at)| self.head(*piece as usize, *at as usize))
            .filter(move |ty| kinds.contains(&ty.kind) && offsets.contains(&ty.name))
    }

    /// The structures of this name; the module's alone, if it has any.
    fn newest(&self, structure: &str) -> impl Iterator<Item = Type> {
        let types: Vec<_> = self.named(&[KIND_STRUCT, KIND_UNION], structure).collect();
        let newest = types.iter().map(|ty| ty.piece).max();
        types.into_iter().filter(move |ty| Some(ty.piece) == newest)
    }

    /// Whether there is a structure of this name.
    pub fn has_struct(&self, name: &str) -> bool {
        self.named(&[KIND_STRUCT, KIND_UNION], name).next().is_some()
    }

    /// The place of a member, such as `arch.root_mmu.root_role.level` in `kvm_vcpu`.
    ///
    /// Anonymous structures and unions on the way need not be named; pointers are not followed.
    /// A module that describes the structure anew knows its own better than vmlinux does.
    ///
    /// # Errors
    ///
    /// [`BtfError::NotFound`], or [`BtfError::Ambiguous`] where two structures of that name have
    /// the member at different places.
    pub fn field(&self, structure: &str, path: &str) -> Result<Field, BtfError> {
        let mut places = self.newest(structure).map(|ty| self.resolve(ty, path));
        let Some(Some(first)) = places.next() else {
            return Err(BtfError::NotFound(format!("member {structure}.{path}")));
        };
        if places.any(|other| other != Some(first)) {
            return Err(BtfError::Ambiguous(format!("structures {structure} with {path}")));
        }
        Ok(first)
    }

    fn resolve(&self, mut ty: Type, path: &str) -> Option<Field> {
        let mut bit = 0;
        let mut found = None;
        for name in path.split('.') {
            if let Some(Found { type_id, .. }) = found {
                ty = self.skip_modifiers(type_id)?;
            }
            let member = self.member(ty, name, &mut HashSet::new())?;
            bit = member.bit.checked_add(bit)?;
            found = Some(member);
        }
        let Found { width, type_id, .. } = found?;
        self.place(bit, width, type_id)
    }

    /// Finds a member by name, looking into anonymous members too: once into each type, so that
    /// a broken file cannot keep us.
    fn member(&self, ty: Type, name: &str, seen: &mut HashSet<(usize, usize)>) -> Option<Found> {
        let is_composite = matches!(ty.kind, KIND_STRUCT | KIND_UNION);
        if !is_composite || seen.len() > MAX_ANONYMOUS || !seen.insert((ty.piece, ty.at)) {
            return None;
        }
        for number in 0..ty.vlen {
            let at = ty.at + 12 + number * 12;
            let member_name = self.word(ty.piece, at)?;
            let type_id = self.word(ty.piece, at + 4)?;
            let offset = self.word(ty.piece, at + 8)?;
            let (bit, width) =
                if ty.kind_flag { (offset & 0x00ff_ffff, offset >> 24) } else { (offset, 0) };
            let member_name = self.string(ty.piece, member_name)?;
            if member_name == name.as_bytes() {
                return Some(Found { bit, width, type_id });
            }
            if member_name.is_empty()
                && let Some(inner) = self.skip_modifiers(type_id)
                && let Some(found) = self.member(inner, name, seen)
            {
                return Some(Found { bit: found.bit.checked_add(bit)?, ..found });
            }
        }
        None
    }

    fn skip_modifiers(&self, mut id: u32) -> Option<Type> {
        for _ in 0..MAX_MODIFIERS {
            let ty = self.type_of(id)?;
            match ty.kind {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = ty.extra;
                }
                _ => return Some(ty),
            }
        }
        None
    }

    fn place(&self, bit: u32, width: u32, type_id: u32) -> Option<Field> {
        let ty = self.skip_modifiers(type_id)?;
        // An int can be a bit-field by its own encoding, in BTF of old pahole.
        let width = if width == 0 && ty.kind == KIND_INT {
            let bits = self.word(ty.piece, ty.at + 12)? & 0xff;
            if Some(bits) == ty.extra.checked_mul(8) { 0 } else { bits }
        } else {
            width
        };
        let (size, shift) = if width == 0 {
            let size = match ty.kind {
                KIND_INT | KIND_ENUM | KIND_ENUM64 => u8::try_from(ty.extra).ok()?,
                // For what is embedded only the address matters.
                _ => 8,
            };
            (size, 0)
        } else {
            let shift = bit % 8;
            let bytes = (shift + width).div_ceil(8).next_power_of_two();
            (u8::try_from(bytes).ok()?, u8::try_from(shift).ok()?)
        };
        matches!(size, 1 | 2 | 4 | 8).then_some(())?;
        let width = u8::try_from(width).ok()?;
        Some(Field { offset: bit / 8, size, shift, width, reserved: 0 })
    }

    /// The size of a structure, in bytes.
    ///
    /// # Errors
    ///
    /// As [`Self::field`].
    pub fn size(&self, structure: &str) -> Result<u32, BtfError> {
        let mut sizes = self.newest(structure).map(|ty| ty.extra);
        let first = sizes.next();
        let first = first.ok_or_else(|| BtfError::NotFound(format!("structure {structure}")))?;
        if sizes.any(|other| other != first) {
            return Err(BtfError::Ambiguous(format!("structures {structure}")));
        }
        Ok(first)
    }

    /// The value of an enumerator of any 32-bit enumeration, if all that have it agree.
    pub fn enumerator(&self, name: &str) -> Option<u32> {
        let offsets: Vec<u32> =
            self.pieces.iter().filter_map(|piece| piece.offset_of(name)).collect();
        if offsets.is_empty() {
            return None;
        }
        let mut values = self
            .index
            .iter()
            .skip(1)
            .filter_map(|(piece, at)| self.head(*piece as usize, *at as usize))
            .filter(|ty| ty.kind == KIND_ENUM)
            .flat_map(|ty| (0..ty.vlen).map(move |number| (ty.piece, ty.at + 12 + number * 8)))
            .filter(|(piece, at)| self.word(*piece, *at).is_some_and(|at| offsets.contains(&at)))
            .filter_map(|(piece, at)| self.word(piece, at + 4));
        let first = values.next()?;
        values.all(|other| other == first).then_some(first)
    }

    /// Whether a member is a pointer.
    pub fn is_pointer(&self, structure: &str, member: &str) -> bool {
        self.newest(structure).any(|ty| {
            let mut found = None;
            let mut ty = Some(ty);
            for name in member.split('.') {
                found = ty.and_then(|ty| self.member(ty, name, &mut HashSet::new()));
                ty = found.as_ref().and_then(|found| self.skip_modifiers(found.type_id));
            }
            found.is_some() && ty.is_some_and(|ty| ty.kind == KIND_PTR)
        })
    }

    /// The names of a function's parameters.
    pub fn parameters(&self, function: &str) -> Option<Vec<String>> {
        let ty = self.named(&[KIND_FUNC], function).next()?;
        let prototype = self.type_of(ty.extra)?;
        (prototype.kind == KIND_FUNC_PROTO).then_some(())?;
        (0..prototype.vlen)
            .map(|number| {
                let name = self.word(prototype.piece, prototype.at + 12 + number * 8)?;
                let name = self.string(prototype.piece, name)?;
                Some(String::from_utf8_lossy(name).into_owned())
            })
            .collect()
    }
}

/// Bytes that follow a type's head; `None` for a kind that is not known.
fn trailer(ty: &Type) -> Option<usize> {
    Some(match ty.kind {
        KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
        KIND_ARRAY => 12,
        KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => ty.vlen * 12,
        KIND_ENUM | KIND_FUNC_PROTO => ty.vlen * 8,
        0 | 2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
