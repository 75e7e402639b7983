mod blob;

use std::hint::black_box;

use super::*;
use blob::Blob;

fn at(offset: u32, size: u8) -> Result<Field, BtfError> {
    bits(offset, size, 0, 0)
}

#[expect(clippy::unnecessary_wraps, reason = "held against what `field` answers")]
fn bits(offset: u32, size: u8, shift: u8, width: u8) -> Result<Field, BtfError> {
    Ok(Field { offset, size, shift, width, reserved: 0 })
}

fn not_found(member: &str) -> Result<Field, BtfError> {
    Err(BtfError::NotFound(format!("member {member}")))
}

#[test]
fn a_member_is_found_through_named_and_anonymous_structures() {
    let mut blob = Blob::vmlinux();
    let int = blob.int("int", 4, 32);
    let deepest = blob.structure("", &[("level", int, 32)]);
    let anonymous_union = blob.composite("", KIND_UNION, &[("word", int, 0), ("", deepest, 0)]);
    let mmu = blob.structure("kvm_mmu", &[("other", int, 0), ("role", anonymous_union, 64)]);
    let arch = blob.structure("", &[("root_mmu", mmu, 128)]);
    blob.structure("kvm_vcpu", &[("id", int, 0), ("arch", arch, 256), ("", anonymous_union, 32)]);
    let btf = blob.parse();
    assert_eq!(btf.field("kvm_vcpu", "id"), at(0, 4));
    assert_eq!(btf.field("kvm_vcpu", "arch.root_mmu.role.word"), at(32 + 16 + 8, 4));
    assert_eq!(btf.field("kvm_vcpu", "arch.root_mmu.role.level"), at(32 + 16 + 8 + 4, 4));
    assert_eq!(btf.field("kvm_vcpu", "level"), at(4 + 4, 4), "two unnamed ones deep");
    assert_eq!(btf.field("kvm_vcpu", "arch.guest_mmu"), not_found("kvm_vcpu.arch.guest_mmu"));
    assert_eq!(btf.field("kvm_vcpu", "id.level"), not_found("kvm_vcpu.id.level"));
    assert_eq!(btf.field("kvm", "id"), not_found("kvm.id"));
    assert_eq!(btf.field("vcpu", "id"), not_found("vcpu.id"), "the tail of a name is no name");
    assert!(btf.has_struct("kvm_mmu") && !btf.has_struct("int") && !btf.has_struct("kvm"));
}

#[test]
fn every_size_and_no_other_is_read() {
    let mut blob = Blob::vmlinux();
    let ints = [1, 2, 4, 8, 16].map(|bytes| blob.int(&format!("int{bytes}"), bytes, bytes * 8));
    let small = blob.add("small", KIND_ENUM << 24 | 1, 1, &[0, 0]);
    let large = blob.add("large", KIND_ENUM64 << 24 | 1, 8, &[0, 0, 0]);
    let members = [
        ("a", ints[0], 0),
        ("b", ints[1], 16),
        ("c", ints[2], 32),
        ("d", ints[3], 64),
        ("e", ints[4], 128),
        ("f", small, 256),
        ("g", large, 320),
    ];
    blob.structure("sizes", &members);
    let btf = blob.parse();
    for (name, offset, size) in
        [("a", 0, 1), ("b", 2, 2), ("c", 4, 4), ("d", 8, 8), ("f", 32, 1), ("g", 40, 8)]
    {
        assert_eq!(btf.field("sizes", name), at(offset, size), "{name}");
    }
    assert_eq!(btf.field("sizes", "e"), not_found("sizes.e"), "128 bits are more than is read");
}

#[test]
fn bit_fields_of_the_kind_flag_encoding() {
    let mut blob = Blob::vmlinux();
    let int = blob.int("int", 4, 32);
    let members = [
        ("level", int, 0, 4),
        ("direct", int, 12, 1),
        ("byte", int, 16, 8),
        ("straddles", int, 30, 5),
        ("whole", int, 64, 0),
        ("too_wide", int, 97, 64),
    ];
    blob.with_bit_fields("role", &members);
    let btf = blob.parse();
    assert_eq!(btf.field("role", "level"), bits(0, 1, 0, 4));
    assert_eq!(btf.field("role", "direct"), bits(1, 1, 4, 1));
    assert_eq!(btf.field("role", "byte"), bits(2, 1, 0, 8));
    assert_eq!(btf.field("role", "straddles"), bits(3, 2, 6, 5));
    assert_eq!(btf.field("role", "whole"), at(8, 4));
    assert_eq!(btf.field("role", "too_wide"), not_found("role.too_wide"), "65 bits from the byte");
}

#[test]
fn bit_fields_of_the_old_int_encoding() {
    let mut blob = Blob::vmlinux();
    let int = blob.int("int", 4, 32);
    let four = blob.int("int", 4, 4);
    let one = blob.int("int", 4, 1);
    let members = [("level", four, 0), ("direct", one, 12), ("whole", int, 32)];
    let word = blob.structure("", &members);
    blob.structure("mmu", &[("role", word, 64)]);
    let btf = blob.parse();
    assert_eq!(btf.field("mmu", "role.level"), bits(8, 1, 0, 4));
    assert_eq!(btf.field("mmu", "role.direct"), bits(9, 1, 4, 1));
    assert_eq!(btf.field("mmu", "role.whole"), at(12, 4));
}

#[test]
fn modifiers_are_looked_through() {
    let mut blob = Blob::vmlinux();
    let byte = blob.int("unsigned char", 1, 8);
    let role = blob.structure("role", &[("level", byte, 8)]);
    let wrapped = |blob: &mut Blob, mut id| {
        for (name, kind) in [
            ("", KIND_CONST),
            ("u8_t", KIND_TYPEDEF),
            ("", KIND_VOLATILE),
            ("", KIND_RESTRICT),
            ("user", KIND_TYPE_TAG),
        ] {
            id = blob.modifier(name, kind, id);
        }
        id
    };
    let wrapped_byte = wrapped(&mut blob, byte);
    let wrapped_role = wrapped(&mut blob, role);
    let members = [("level", wrapped_byte, 0), ("role", wrapped_role, 64)];
    blob.structure("mmu", &members);
    blob.structure("vcpu", &[("", wrapped_role, 32)]);
    let btf = blob.parse();
    assert_eq!(btf.field("mmu", "level"), at(0, 1));
    assert_eq!(btf.field("mmu", "role.level"), at(9, 1));
    assert_eq!(btf.field("vcpu", "level"), at(5, 1), "anonymous, behind modifiers");
}

#[test]
fn a_pointer_is_told_from_what_is_embedded() {
    let mut blob = Blob::vmlinux();
    let int = blob.int("int", 4, 32);
    let entry = blob.structure("kvm_cpuid_entry2", &[("function", int, 0)]);
    let array = blob.array(entry, 80);
    let pointer = blob.pointer(entry);
    let const_pointer = blob.modifier("", KIND_CONST, pointer);
    let void = blob.pointer(0);
    let arch = [("array", array, 0), ("pointer", const_pointer, 64), ("one", entry, 128)];
    let arch = blob.structure("arch", &arch);
    let members = [("private_data", void, 0), ("arch", arch, 64), ("nothing", 0, 0)];
    blob.structure("kvm_vcpu", &members);
    let btf = blob.parse();
    assert!(btf.is_pointer("kvm_vcpu", "private_data"));
    assert!(btf.is_pointer("kvm_vcpu", "arch.pointer"));
    for embedded in ["arch.array", "arch", "arch.one", "arch.one.function", "arch.none", "none"] {
        assert!(!btf.is_pointer("kvm_vcpu", embedded), "{embedded}");
    }
    assert_eq!(btf.field("kvm_vcpu", "private_data"), at(0, 8));
    assert_eq!(btf.field("kvm_vcpu", "arch.array"), at(8, 8), "its address is what counts");
    assert_eq!(btf.field("kvm_vcpu", "arch.one"), at(24, 8));
    assert_eq!(
        btf.field("kvm_vcpu", "arch.pointer.function"),
        not_found("kvm_vcpu.arch.pointer.function"),
        "pointers are not followed"
    );
    assert_eq!(btf.field("kvm_vcpu", "nothing"), not_found("kvm_vcpu.nothing"), "void");
}

#[test]
fn parameters_are_named_in_their_order() {
    let mut blob = Blob::vmlinux();
    let int = blob.int("int", 4, 32);
    let parameters =
        [("enable_tdp", int), ("tdp_forced_root_level", int), ("tdp_max_root_level", int)];
    blob.function("kvm_configure_mmu", &parameters);
    blob.function("nothing", &[]);
    blob.structure("not_a_function", &[("enable_tdp", int, 0)]);
    blob.modifier("no_prototype", KIND_FUNC, int);
    let btf = blob.parse();
    let names = btf.parameters("kvm_configure_mmu").unwrap();
    assert_eq!(names, ["enable_tdp", "tdp_forced_root_level", "tdp_max_root_level"]);
    assert_eq!(btf.parameters("nothing"), Some(vec![]));
    for none in ["not_a_function", "no_prototype", "missing"] {
        assert_eq!(btf.parameters(none), None, "{none}");
    }
}

/// vmlinux with `kvm_vcpu` and `kvm`, and an int to build on.
fn vmlinux_with_kvm() -> (Blob, u32) {
    let mut vmlinux = Blob::vmlinux();
    let int = vmlinux.int("int", 4, 32);
    let pointer = vmlinux.pointer(0);
    vmlinux.structure("kvm_vcpu", &[("vcpu_id", int, 32), ("entries", pointer, 64)]);
    vmlinux.structure("kvm", &[("userspace_pid", int, 96)]);
    (vmlinux, int)
}

#[test]
fn a_modules_description_wins_over_that_of_vmlinux() {
    let (vmlinux, int) = vmlinux_with_kvm();
    let mut module = Blob::module_on(&vmlinux);
    let array = module.array(int, 80);
    let own = module.structure("own", &[("level", int, 64)]);
    let members = [("vcpu_id", int, 320), ("role", own, 640), ("entries", array, 704)];
    module.structure("kvm_vcpu", &members);
    module.function("kvm_configure_mmu", &[("enable_tdp", int)]);
    let mut btf = vmlinux.parse();
    assert_eq!(btf.field("kvm_vcpu", "vcpu_id"), at(4, 4));
    assert!(btf.is_pointer("kvm_vcpu", "entries"));
    btf.add_module(&module.bytes()).unwrap();
    assert_eq!(btf.field("kvm_vcpu", "vcpu_id"), at(40, 4));
    assert_eq!(btf.field("kvm_vcpu", "role.level"), at(88, 4), "types of its own");
    assert!(!btf.is_pointer("kvm_vcpu", "entries"), "embedded in the module's");
    assert_eq!(btf.field("kvm", "userspace_pid"), at(12, 4), "what it does not describe anew");
    assert_eq!(btf.parameters("kvm_configure_mmu").unwrap(), ["enable_tdp"]);
}

#[test]
fn a_modules_first_string_is_found() {
    let (vmlinux, int) = vmlinux_with_kvm();
    let mut module = Blob::module_on(&vmlinux);
    let first = module.string("kvm_mmu");
    assert_eq!(first as usize, vmlinux.strings.len(), "no NUL before it");
    module.structure("kvm_mmu", &[("vcpu_id", int, 0)]);
    let mut btf = vmlinux.parse();
    btf.add_module(&module.bytes()).unwrap();
    assert!(btf.has_struct("kvm_mmu"));
    assert_eq!(btf.field("kvm_mmu", "vcpu_id"), at(0, 4));
}

#[test]
fn a_module_takes_the_place_of_the_one_before() {
    let (vmlinux, int) = vmlinux_with_kvm();
    let module = |level, offset| {
        let mut module = Blob::module_on(&vmlinux);
        let role = module.structure("role", &[(level, int, offset)]);
        module.structure("mmu", &[("role", role, 64)]);
        module.bytes()
    };
    let mut btf = vmlinux.parse();
    btf.add_module(&module("shadow_root_level", 0)).unwrap();
    btf.add_module(&module("level", 32)).unwrap();
    assert_eq!(btf.field("mmu", "role.level"), at(12, 4));
    assert!(btf.field("mmu", "role.shadow_root_level").is_err());
}

#[test]
fn a_broken_module_leaves_vmlinux_usable() {
    let (vmlinux, int) = vmlinux_with_kvm();
    let mut module = Blob::module_on(&vmlinux);
    module.structure("kvm_vcpu", &[("vcpu_id", int, 320)]);
    module.add("of a kind to come", 31 << 24, 0, &[]);
    let mut btf = vmlinux.parse();
    assert_eq!(btf.add_module(&module.bytes()), Err(BtfError::Malformed("unknown kind")));
    assert_eq!(btf.field("kvm_vcpu", "vcpu_id"), at(4, 4));
}

#[test]
fn differing_structures_of_one_name_are_ambiguous() {
    let (mut vmlinux, int) = vmlinux_with_kvm();
    let anew = [("vcpu_id", int, 64), ("entries", int, 64), ("only_here", int, 0)];
    vmlinux.structure("kvm_vcpu", &anew);
    let btf = vmlinux.parse();
    let ambiguous = btf.field("kvm_vcpu", "vcpu_id").unwrap_err();
    assert_eq!(
        ambiguous.to_string(),
        "BTF has several structures kvm_vcpu with vcpu_id, which differ"
    );
    assert!(btf.field("kvm_vcpu", "only_here").is_err(), "in one of them alone");
    let mut same = Blob::vmlinux();
    let int = same.int("int", 4, 32);
    same.structure("twice", &[("a", int, 0), ("b", int, 32)]);
    same.structure("twice", &[("b", int, 32)]);
    let btf = same.parse();
    assert_eq!(btf.field("twice", "b"), at(4, 4), "several that agree are one");
    assert!(matches!(btf.field("twice", "a"), Err(BtfError::Ambiguous(_))));
}

#[test]
fn bit_offsets_do_not_overflow() {
    let mut blob = Blob::vmlinux();
    let int = blob.int("int", 4, 32);
    let far = blob.structure("", &[("level", int, u32::MAX - 7)]);
    blob.structure("named", &[("near", far, 0), ("far", far, 64)]);
    blob.structure("unnamed", &[("", far, 64)]);
    let btf = blob.parse();
    assert_eq!(btf.field("named", "near.level"), at(u32::MAX / 8, 4));
    assert_eq!(btf.field("named", "far.level"), not_found("named.far.level"));
    assert_eq!(btf.field("unnamed", "level"), not_found("unnamed.level"));
}

#[test]
fn types_that_contain_themselves_end() {
    let mut blob = Blob::vmlinux();
    let endless = blob.next_type;
    blob.modifier("endless", KIND_TYPEDEF, endless);
    let there = blob.next_type;
    blob.modifier("", KIND_CONST, there + 1);
    blob.modifier("", KIND_VOLATILE, there);
    // Many ways to go round: looking down each of them again and again would take for ever.
    let inner = blob.next_type;
    let round: Vec<_> = (0..40).map(|number| ("", inner + number % 2, 0)).collect();
    blob.structure("", &round);
    blob.composite("", KIND_UNION, &round);
    blob.structure("ends", &[("a", endless, 0), ("b", there, 0), ("", inner, 0)]);
    let btf = blob.parse();
    for path in ["a", "a.x", "b", "b.x", "missing", "missing.x"] {
        assert_eq!(btf.field("ends", path), not_found(&format!("ends.{path}")));
        assert!(!btf.is_pointer("ends", path));
    }
}

#[test]
fn what_is_not_btf_is_refused() {
    let whole = vmlinux_with_kvm().0.bytes();
    let with = |at: usize, value: u8| {
        let mut bytes = whole.clone();
        bytes[at] = value;
        Btf::parse(&bytes).err()
    };
    assert_eq!(with(0, 0), Some(BtfError::Malformed("wrong magic")));
    assert_eq!(with(4, 23), Some(BtfError::Malformed("short header")));
    assert_eq!(with(15, 0xff), Some(BtfError::Malformed("truncated")));
    assert_eq!(with(24 + 7, 20), Some(BtfError::Malformed("unknown kind")));
    for length in 0..whole.len() {
        let refused = matches!(Btf::parse(&whole[..length]), Err(BtfError::Malformed(_)));
        assert!(refused, "cut to {length} bytes");
    }
}

/// Asks for everything that a blob of [`everything`] can be asked for.
fn exercise(btf: &Btf) {
    for structure in ["kvm_vcpu", "kvm", "none"] {
        black_box(btf.has_struct(structure));
        for path in ["id", "arch.level", "arch.role.direct", "deep", "arch.none"] {
            black_box((btf.field(structure, path).ok(), btf.is_pointer(structure, path)));
        }
    }
    black_box(btf.parameters("configure"));
}

/// Every kind of type, in as few bytes as can be.
fn everything(mut blob: Blob) -> Blob {
    let int = blob.int("int", 4, 32);
    let one = blob.int("int", 4, 1);
    let constant = blob.modifier("t", KIND_CONST, int);
    let pointer = blob.pointer(constant);
    let array = blob.array(pointer, 2);
    let role = blob.structure("", &[("direct", one, 3), ("", constant, 8)]);
    let deep = blob.composite("", KIND_UNION, &[("deep", array, 8), ("", role, 16)]);
    let arch = blob.with_bit_fields("arch", &[("level", int, 4, 4), ("role", role, 32, 0)]);
    blob.structure("kvm_vcpu", &[("id", constant, 0), ("arch", arch, 64), ("", deep, 128)]);
    blob.structure("kvm", &[("id", int, 0)]);
    blob.function("configure", &[("id", int), ("level", pointer)]);
    blob
}

/// Every byte changed, in each of its bits and in all.
fn changed(whole: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..whole.len()).flat_map(move |at| {
        [1, 2, 4, 8, 16, 32, 64, 128, 255].into_iter().map(move |change: u8| {
            let mut bytes = whole.to_vec();
            bytes[at] ^= change;
            bytes
        })
    })
}

#[test]
fn no_changed_byte_of_vmlinux_panics_or_hangs() {
    for bytes in changed(&everything(Blob::vmlinux()).bytes()) {
        if let Ok(btf) = Btf::parse(&bytes) {
            exercise(&btf);
        }
    }
}

#[test]
fn no_changed_or_missing_byte_of_a_module_panics_or_hangs() {
    let (vmlinux, _) = vmlinux_with_kvm();
    let module = everything(Blob::module_on(&vmlinux)).bytes();
    let cut = (0..module.len()).map(|length| module[..length].to_vec());
    let mut btf = vmlinux.parse();
    for bytes in changed(&module).chain(cut) {
        if btf.add_module(&bytes).is_ok() {
            exercise(&btf);
        }
    }
}

#[test]
fn well_known_members_of_the_running_kernel_resolve() {
    let Ok(vmlinux) = std::fs::read("/sys/kernel/btf/vmlinux") else { return };
    let btf = Btf::parse(&vmlinux).unwrap();
    for (structure, path) in [
        ("task_struct", "files"),
        ("file", "private_data"),
        ("file", "f_path.dentry"),
        ("dentry", "d_name.name"),
    ] {
        let field = btf.field(structure, path).unwrap();
        assert_eq!((field.size, field.width), (8, 0), "{structure}.{path}");
        assert!(btf.is_pointer(structure, path), "{structure}.{path}");
    }
    let pid = btf.field("task_struct", "pid").unwrap();
    assert_eq!((pid.size, pid.width), (4, 0));
    let bit = btf.field("task_struct", "in_execve").unwrap();
    assert_eq!((bit.size, bit.width), (1, 1));
    assert!(!btf.is_pointer("task_struct", "thread"));
    assert_eq!(btf.parameters("vfs_read").unwrap()[0], "file");
    if btf.has_struct("kvm_vcpu") {
        assert_eq!(btf.field("kvm_vcpu", "vcpu_id").unwrap().size, 4);
        assert!(btf.field("kvm_vcpu", "arch.maxphyaddr").unwrap().offset > 0);
    }
}
