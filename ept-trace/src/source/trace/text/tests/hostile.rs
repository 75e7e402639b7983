//! Any bytes at all.

use super::*;
use crate::source::Skipped;

/// A generator of numbers that are always the same (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }
}

const KINDS: [Kind; 3] = [Kind::Ftrace, Kind::TraceCmd, Kind::PerfScript];

const LINES: [&str; 14] = [
    "              kt-106     [000] d..1.    11.793833: kvm_entry: vcpu 0, rip 0x1000",
    "     CPU 0/KVM-1234    (   1200) [003] d..1.    11.793833: kvm_page_fault: vcpu 0 rip 0x1000 address 0x0000000000001000 error_code 0x100000014",
    "              kt-106     [000] ...1.    11.793780: kvm_mmu_get_page: sp gen 0 gfn 0 l5 8-byte q0 direct wux nxe ad root 0 sync new",
    "              kt-106     [000] ...1.    11.794021: kvm_tdp_mmu_spte_changed: as id 0 gfn 0 level 5 old_spte 0 new_spte 3fd45827",
    "              kt-106     [000] ...1.    11.794066: kvm_mmu_set_spte: gfn 1 spte 2985e67 (rwxu) level 1 at 3fb0f008",
    "      kt-106       0d..1. 11793833us!: kvm_nested_vmenter: rip: 0x1 vmcs: 0x2 nested_ept=y nested_eptp: 0x10605e",
    "              kt     106   0 1 00000001 0000000c [00b3f5a9] 11793.833ms (+0.003ms): kvm_cpuid: func 80000008 idx 0 rax 303030 rbx 0",
    "              kt-106     [000] ...1.    11.7: kvm_mmu_get_page: mmu_valid_gen=(0) gfn=0x40000 (262144) role=0x1782 (6018) created=(1)",
    "instance one:               kt-95    [000]    11.793833: (+5) kvm_tdp_mmu_spte_changed:  gfn=0 old_spte=0 new_spte=3febd827 level=5 as_id=0",
    "              kt   103/103   [000]     6.756778:            kvmmmu:kvm_mmu_get_page: [FAILED TO PARSE] mmu_valid_gen=0 gfn=0 role=14213 created=1",
    "            perf   101 [000]     6.721856: PERF_RECORD_LOST lost 12",
    "CPU:0 [LOST 12 EVENTS]",
    "# entries-in-buffer/entries-written: 843/1200   #P:2",
    "              kt-106     [000] d..1.    11.789496: kvm_write_tsc_offset: vcpu=0 prev=0 next=18446744041730434628",
];

#[test]
fn random_bytes_are_skipped() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for round in 0..200 {
        let length = numbers.below(4096);
        let bytes: Vec<u8> = if round % 2 == 0 {
            (0..length).map(|_| numbers.byte()).collect()
        } else {
            // Those that lines are made of.
            let all = b" \n\n[]()-:/.=0123456789abcdefxkvmusLOST#>";
            (0..length).map(|_| all[numbers.below(all.len())]).collect()
        };
        let _ = recognise(&bytes);
        for kind in KINDS {
            let all = read(kind, &bytes);
            let lines = bytes.split(|byte| *byte == b'\n').count() as u64;
            assert!(all.skipped.count + all.others + all.records.len() as u64 <= lines);
            assert!(all.skipped.first.len() <= Skipped::MOST_NAMED);
        }
    }
}

#[test]
fn mutated_lines_do_no_harm() {
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    let mut log = Vec::new();
    for _ in 0..20_000 {
        let mut line = LINES[numbers.below(LINES.len())].as_bytes().to_vec();
        for _ in 0..=numbers.below(3) {
            if line.is_empty() {
                break;
            }
            let at = numbers.below(line.len());
            match numbers.below(4) {
                0 => line[at] = numbers.byte(),
                1 => drop(line.remove(at)),
                2 => line.insert(at, b" []()-:/.=09afx"[numbers.below(15)]),
                _ => line.truncate(at),
            }
        }
        line.push(b'\n');
        log.extend(line);
    }
    for kind in KINDS {
        let all = read(kind, &log);
        assert!(!all.records.is_empty() && all.skipped.count > 0);
    }
    let _ = recognise(&log);
}

/// A digit that becomes something else cannot become a part of what is told.
#[test]
fn a_digit_of_a_number_is_a_digit() {
    for line in LINES.iter().filter(|line| line.contains("spte") || line.contains("kvm_page_fault"))
    {
        let kind = recognise(line.as_bytes()).unwrap().unwrap();
        let healthy = record(kind, line);
        let payload = line.find("kvm_").unwrap();
        for (at, byte) in line.bytes().enumerate().skip(payload) {
            if !byte.is_ascii_digit() {
                continue;
            }
            for wrong in ["g", "G", "-", "\0", "\u{fe}", "A"] {
                let mut log = line.to_string();
                log.replace_range(at..=at, wrong);
                let all = read(kind, format!("{log}\n").as_bytes());
                // Fields that are not asked for may be anything.
                assert!(
                    all.records.is_empty() || all.records == [healthy],
                    "{log}: {:?}",
                    all.records
                );
            }
        }
    }
}

/// Neither is slow, however long its lines are.
#[test]
fn lines_that_look_like_many_lines() {
    let pieces = [
        "[000] ",
        " -1 1 1 ",
        ") [1] ",
        "[0] 1.0ms (+",
        "a=1 ",
        "(",
        "-",
        "[",
        "CPU:0 [",
        " kt-1 [000] 1.0: ",
    ];
    for piece in pieces {
        let line = piece.repeat((60 << 10) / piece.len());
        let log = format!("{line}\n").repeat(8);
        let begin = std::time::Instant::now();
        for kind in KINDS {
            read(kind, log.as_bytes());
        }
        let _ = recognise(log.as_bytes());
        assert!(begin.elapsed().as_secs() < 5, "{piece}: {:?}", begin.elapsed());
    }
}
