//! What to add, so that what is undetermined can be judged.

/// Something to add to the next run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Advice {
    /// A flag of `analyze`, or what to do when recording.
    pub add: &'static str,
    /// What that tells.
    pub tells: &'static str,
    /// The words of rules that call for it.
    words: &'static [&'static str],
}

const ALL: &[Advice] = &[
    Advice {
        add: "--maxphyaddr N",
        tells: "MAXPHYADDR of the guests, in bits, as their CPUID has it",
        words: &["arch.maxphyaddr is not known"],
    },
    Advice {
        add: "--ept-cap HEX",
        tells: "MSR 0x48c of the machine, from which the levels of its EPT follow",
        words: &["the EPT capability:", "the hardware's levels:"],
    },
    Advice {
        add: "--kernel-facts FILE",
        tells: "what `ept-trace doctor -j` says on the machine",
        words: &[
            "tdp_enabled is not known",
            "tdp_enabled:",
            "tdp_root_level is not known",
            "tdp_root_level:",
            "max_tdp_level is not known",
            "max_tdp_level:",
            "MAXPHYADDR of the host:",
        ],
    },
    Advice {
        add: "modprobe msr",
        tells: "before it is observed: the capability MSRs are read from /dev/cpu",
        words: &["MSR 0x48c:", "(MSR 0x482, 0x48b):"],
    },
];

/// What to add, by what rules say is missing.
pub(super) fn advice<'a>(messages: impl Iterator<Item = &'a str>) -> Vec<&'static Advice> {
    let mut found = [false; ALL.len()];
    for message in messages {
        for (advice, found) in ALL.iter().zip(&mut found) {
            *found |= advice.words.iter().any(|words| message.contains(words));
        }
    }
    ALL.iter().zip(found).filter(|(_, found)| *found).map(|(advice, _)| advice).collect()
}
