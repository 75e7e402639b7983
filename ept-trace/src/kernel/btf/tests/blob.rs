//! BTF put together by hand.

use crate::kernel::btf::*;

/// BTF being put together: vmlinux, or a module on top of one.
#[derive(Clone)]
pub(super) struct Blob {
    types: Vec<u8>,
    pub(super) strings: Vec<u8>,
    /// Strings of the piece underneath.
    base_strings: Vec<u8>,
    /// The number that the next type gets.
    pub(super) next_type: u32,
}

impl Blob {
    pub(super) fn vmlinux() -> Self {
        Self { types: vec![], strings: vec![0], base_strings: vec![], next_type: 1 }
    }

    /// As libbpf begins a split one: without a string of its own, not even the empty one.
    pub(super) fn module_on(vmlinux: &Self) -> Self {
        Self {
            types: vec![],
            strings: vec![],
            base_strings: vmlinux.strings.clone(),
            next_type: vmlinux.next_type,
        }
    }

    pub(super) fn string(&mut self, text: &str) -> u32 {
        let mut wanted = text.as_bytes().to_vec();
        wanted.push(0);
        let find = |strings: &[u8]| {
            let is_there = |at: &usize| {
                (*at == 0 || strings[at - 1] == 0) && strings[*at..].starts_with(&wanted)
            };
            (0..strings.len()).find(is_there)
        };
        let below = self.base_strings.len();
        let at = find(&self.base_strings).or_else(|| Some(below + find(&self.strings)?));
        let at = at.unwrap_or_else(|| {
            self.strings.extend(&wanted);
            below + self.strings.len() - wanted.len()
        });
        at.try_into().unwrap()
    }

    pub(super) fn add(&mut self, name: &str, info: u32, extra: u32, trailer: &[u32]) -> u32 {
        let head = [self.string(name), info, extra];
        let words = head.iter().chain(trailer);
        self.types.extend(words.flat_map(|word| word.to_le_bytes()));
        self.next_type += 1;
        self.next_type - 1
    }

    /// An int; `bits` differs from 8 times `bytes` for a bit-field of old pahole.
    pub(super) fn int(&mut self, name: &str, bytes: u32, bits: u32) -> u32 {
        self.add(name, KIND_INT << 24, bytes, &[bits])
    }

    pub(super) fn modifier(&mut self, name: &str, kind: u32, to: u32) -> u32 {
        self.add(name, kind << 24, to, &[])
    }

    pub(super) fn pointer(&mut self, to: u32) -> u32 {
        self.modifier("", KIND_PTR, to)
    }

    pub(super) fn array(&mut self, of: u32, length: u32) -> u32 {
        self.add("", KIND_ARRAY << 24, 0, &[of, of, length])
    }

    /// A structure or union; members are name, type and offset in bits.
    pub(super) fn composite(&mut self, name: &str, kind: u32, members: &[(&str, u32, u32)]) -> u32 {
        let vlen = u32::try_from(members.len()).unwrap();
        let mut trailer = Vec::new();
        for (member, type_id, offset) in members {
            trailer.extend([self.string(member), *type_id, *offset]);
        }
        self.add(name, kind << 24 | vlen, 64, &trailer)
    }

    pub(super) fn structure(&mut self, name: &str, members: &[(&str, u32, u32)]) -> u32 {
        self.composite(name, KIND_STRUCT, members)
    }

    /// A structure in the encoding with `kind_flag`: name, type, offset and width in bits.
    pub(super) fn with_bit_fields(&mut self, name: &str, members: &[(&str, u32, u32, u32)]) -> u32 {
        let members: Vec<_> = members
            .iter()
            .map(|(name, type_id, offset, width)| (*name, *type_id, width << 24 | offset))
            .collect();
        self.composite(name, 0x80 | KIND_STRUCT, &members)
    }

    pub(super) fn function(&mut self, name: &str, parameters: &[(&str, u32)]) -> u32 {
        let vlen = u32::try_from(parameters.len()).unwrap();
        let mut trailer = Vec::new();
        for (parameter, type_id) in parameters {
            trailer.extend([self.string(parameter), *type_id]);
        }
        let prototype = self.add("", KIND_FUNC_PROTO << 24 | vlen, 0, &trailer);
        self.add(name, KIND_FUNC << 24, prototype, &[])
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let length = |section: &[u8]| u32::try_from(section.len()).unwrap();
        let (types, strings) = (length(&self.types), length(&self.strings));
        let header = [u32::from(MAGIC) | 1 << 16, 24, 0, types, types, strings];
        let header = header.iter().flat_map(|word| word.to_le_bytes());
        header.chain(self.types.iter().copied()).chain(self.strings.iter().copied()).collect()
    }

    pub(super) fn parse(&self) -> Btf {
        Btf::parse(&self.bytes()).unwrap()
    }
}
