//! Faults in the entries that KVM makes, and in those that somebody else has made of them.

use super::super::fault::{Change, Entry, Fault, change, entries, out, pokes, variable};
use super::{ALL, ANY, ANY_SVM, ANY_VMX, FORCING, RENAMED};

/// A bit that KVM adds to its writable leaves, in this byte of `shadow_dirty_mask`. So the tables
/// themselves are as they should be, and KVM finds its way in them.
const fn leaves(within: u32, old: &'static str, new: &'static str) -> Change {
    change("shadow_dirty_mask", within, old, new)
}

/// Faults in entries.
pub static FAULTS: &[Fault] = &[
    Fault {
        rule: "EPT301",
        what: "leaves are misconfigured: EPT's of memory type 7, tables of NPT with the reserved bit 8",
        values: ["an entry is misconfigured", "0x*"],
        // What hangs is seen to hang.
        also: &["EPT121"],
        seeds: &[
            pokes(ANY_VMX, ALL, &[leaves(1, "00", "08")]),
            pokes(ANY_SVM, ALL, &[change("shadow_present_mask", 2, "..00", "..01")]),
        ],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT302",
        what: "KVM's entries lack the bit to execute, or have the bit not to",
        values: ["RET_PF_*", "the rights deny the access"],
        // What hangs is seen to hang.
        also: &["EPT121"],
        seeds: &[
            pokes(ANY_VMX, &["5.10", "6.1", "6.12"], &[variable("shadow_x_mask", "04", "00")]),
            pokes(
                ANY_VMX,
                &["7.2"],
                &[
                    variable("shadow_xs_mask", "04", "00"),
                    change("shadow_xu_mask", 2, "0004", "0000"),
                ],
            ),
            pokes(ANY_SVM, &["5.10", "6.1", "6.12"], &[not_executable("shadow_x_mask")]),
            pokes(
                ANY_SVM,
                &["7.2"],
                &[not_executable("shadow_xs_mask"), not_executable("shadow_xu_mask")],
            ),
        ],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT303",
        what: "leaves have bit 30, and lead to where there is no memory",
        values: ["HPA 0x*", "0x*"],
        seeds: &[pokes(ANY, ALL, &[leaves(4, "......00", "......40")])],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT303",
        what: "a leaf gets bit 30 and loses W, which KVM gives back",
        values: ["HPA 0x*", "0x*"],
        check: AGAIN,
        seeds: &[entries(
            ANY,
            FORCING,
            &[Entry { table: 1, index: 1, new: "leaf & ~2 | 1 << 30", back: "leaf" }],
        )],
        left_out: &[out(
            ANY,
            &["5.10"],
            "whatever the VMM's process unmaps may have been the guest's there: what KVM has asked \
             for is soon forgotten",
        )],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT304",
        what: "the entry for a table becomes a leaf of 2 MiB without W, which KVM gives back",
        values: ["HPA 0x*", "1"],
        // Bit 30 is beyond the lab's memory, so that the guest can do no harm.
        also: &["EPT303"],
        check: AGAIN,
        seeds: &[entries(
            ANY,
            FORCING,
            &[Entry {
                table: 2,
                index: 2,
                new: "leaf & ~address & ~2 | 1 << 7 | 1 << 30",
                back: "entry",
            }],
        )],
        left_out: &[out(
            ANY,
            &["5.10"],
            "it gives back W of 4 KiB alone, and dies of a larger leaf that it has not made",
        )],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT305",
        what: "an entry of level 2 leads to its own table",
        // The entry, and the role of the table.
        values: ["0x*", "0x*"],
        // 6.1 maps the page as the table's own level asks for, and PS of that is PAT in NPT.
        also: &["EPT307"],
        check: AGAIN,
        seeds: &[entries(ANY, &["5.10", "6.1"], TO_ITSELF), entries(ANY, RENAMED, TO_ITSELF_VE)],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT306",
        what: "leaves have bit 46 of an address, and the host has 40",
        values: ["0x*", "40"],
        // The CPU refuses them.
        also: &["EPT301"],
        seeds: &[pokes(ANY, ALL, &[leaves(6, "..........00", "..........40")])],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT307",
        what: "leaves of EPT are write-through, those of NPT have PWT",
        values: ["0x*", "0"],
        seeds: &[
            pokes(ANY_SVM, ALL, &[leaves(1, "40", "48")]),
            // 0x70 is write-back, with the type of the guest's PAT ignored.
            pokes(ANY_VMX, &["5.10", "6.1"], &[memory_type(78, "b870000000", "b860000000")]),
            // To 0x40, or none of it, it adds 0x30.
            pokes(ANY_VMX, RENAMED, &[memory_type(76, "83c030", "83c020")]),
        ],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT401",
        what: "a leaf gets bit 30 from somebody else than KVM, and goes with it",
        values: ["0x*", "0x*"],
        also: &["EPT303"],
        check: AGAIN_HISTORY,
        seeds: &[entries(
            ANY,
            FORCING,
            // W goes as well, so that the guest faults there once more.
            &[Entry { table: 1, index: 1, new: "leaf & ~2 | 1 << 30", back: "leaf | 1 << 30" }],
        )],
        left_out: &[out(ANY, &["5.10"], UNTOLD)],
        ..Fault::USUAL
    },
];

const UNTOLD: &str = "changes of entries are not told with what they replace";

/// A guest that touches a GPA, and again.
const AGAIN: &str = "--maxphyaddr 36 --touch 0x40001000 --again";

/// The same, with the history of its entries.
const AGAIN_HISTORY: &str = "--history --maxphyaddr 36 --touch 0x40001000 --again";

const TO_ITSELF_2: Entry =
    Entry { table: 2, index: 2, new: "entry & ~address | table", back: "entry" };
/// KVM then takes another entry of that table for one of level 1, and maps the page there. It must
/// be empty again when KVM takes its tables apart.
const TO_ITSELF: &[Entry] = &[TO_ITSELF_2, Entry { table: 2, index: 1, new: "0", back: "0" }];
/// The same where empty entries suppress #VE.
const TO_ITSELF_VE: &[Entry] =
    &[TO_ITSELF_2, Entry { table: 2, index: 1, new: "1 << 63", back: "1 << 63" }];

/// Bit 63 of a mask, which is NX in NPT.
const fn not_executable(mask: &'static str) -> Change {
    change(mask, 8, "..............00", "..............80")
}

/// A change where KVM chooses the memory type.
const fn memory_type(within: u32, old: &'static str, new: &'static str) -> Change {
    change("vmx_get_mt_mask", within, old, new)
}
