//! How lines begin, in each format with each of its options.

use super::*;

const ENTRY: Tracepoint = Tracepoint::Entry { vcpu: Some(0) };

fn entry(time_ns: u64, thread: u32, process: u32) -> Record {
    Record { time_ns, tid: thread, tgid: process, event: ENTRY }
}

#[test]
fn ftrace_with_each_of_its_options() {
    let lines = [
        // Since 5.17, before, and with CONFIG_PREEMPT_LAZY.
        "              kt-106     [000] d..1.    11.793833: kvm_entry: vcpu 0, rip 0x1000",
        "              kt-106   [000] d..1    11.793833: kvm_entry: vcpu 0, rip 0x1000",
        "              kt-106     [000] d..1..    11.793833: kvm_entry: vcpu 0, rip 0x1000",
        // irq-info off
        "              kt-106     [000]    11.793833: kvm_entry: vcpu 0, rip 0x1000",
        // record-tgid
        "              kt-106     (-------) [000] d..1.    11.793833: kvm_entry: vcpu 0, rip 0x1000",
        "              kt-106   (-----) [000] d..1    11.793833: kvm_entry: vcpu 0, rip 0x1000",
        // latency-format
        "      kt-106       0d..1. 11793833us : kvm_entry: vcpu 0, rip 0x1000",
        "      kt-106       0d..1. 11793833us!: kvm_entry: vcpu 0, rip 0x1000",
        "      kt-106     130d..1 11793833us+: kvm_entry: vcpu 0, rip 0x1000",
        // latency-format and verbose
        "              kt     106   0 1 00000001 0000000c [00b3f5a9] 11793.833ms (+0.003ms): kvm_entry: vcpu 0, rip 0x1000",
        // A file from elsewhere.
        "              kt-106     [000] d..1.    11.793833: kvm_entry: vcpu 0, rip 0x1000\r",
    ];
    for line in lines {
        assert_eq!(record(Kind::Ftrace, line), entry(11_793_833_000, 106, 0), "{line}");
    }
    let with_tgid =
        "     CPU 0/KVM-1234    (   1200) [003] d..1.    11.793833: kvm_entry: vcpu 0, rip 0x1000";
    assert_eq!(record(Kind::Ftrace, with_tgid), entry(11_793_833_000, 1234, 1200));
}

#[test]
fn a_clock_that_does_not_count_nanoseconds_is_taken_as_it_is() {
    let lines = [
        "              kt-106     [000] d..1. 33512345678: kvm_entry: vcpu 0, rip 0x1000",
        "      kt-106       0d..1. 33512345678: kvm_entry: vcpu 0, rip 0x1000",
        "              kt     106   0 1 00000001 0000000c [00000007cd7dd04e] 12345678 (+3412): kvm_entry: vcpu 0",
    ];
    for line in lines {
        assert_eq!(record(Kind::Ftrace, line), entry(33_512_345_678, 106, 0), "{line}");
    }
    let raw = "              kt-95    [000]  33512345678: kvm_entry:             vcpu 0 rip 0x1000";
    assert_eq!(record(Kind::TraceCmd, raw), entry(33_512_345_678, 95, 0));
}

#[test]
fn comms_may_be_anything() {
    let comms = [
        "CPU 0/KVM",
        "<...>",
        "<idle>",
        "kvm-nx-lpage-re",
        "a-1 [000] 1.2: ",
        "a 1 [000] 1.2: ",
        "[k] (x)",
        "x) [001] -",
        "opt cgu.01",
        "1-2-3",
        "",
        "a: b: c",
        "CPU 17/KVM -9",
    ];
    for comm in comms {
        let ftrace = format!("{comm:>16}-1234    [001] d..1.    11.793833: kvm_entry: vcpu 0");
        assert_eq!(record(Kind::Ftrace, &ftrace), entry(11_793_833_000, 1234, 0), "{ftrace}");
        let report = format!("{comm:>16}-1234  [001]    11.793833: kvm_entry:             vcpu 0");
        assert_eq!(record(Kind::TraceCmd, &report), entry(11_793_833_000, 1234, 0), "{report}");
        let perf = format!("{comm:>16}    1234 [001]    11.793833:    kvm:kvm_entry: vcpu 0");
        assert_eq!(record(Kind::PerfScript, &perf), entry(11_793_833_000, 1234, 0), "{perf}");
        let short: String = comm.chars().take(8).collect();
        let latency = format!("{short:>8}-1234    1d..1. 11793833us : kvm_entry: vcpu 0");
        assert_eq!(record(Kind::Ftrace, &latency), entry(11_793_833_000, 1234, 0), "{latency}");
    }
}

#[test]
fn trace_cmd_with_each_of_its_options() {
    let lines = [
        "              kt-95    [000]    11.793833: kvm_entry:             vcpu 0 rip 0x1000",
        "              kt-95    [000] d..1.    11.793833: kvm_entry:             vcpu 0 rip 0x1000",
        "              kt-95    [000]    11.793833000: kvm_entry:             vcpu 0 rip 0x1000",
        "              kt-95    [000]    11.793833: (+304)   kvm_entry:             vcpu 0 rip 0x1000",
        "              kt-95    [000]    11.793833:          kvm_entry:             vcpu 0 rip 0x1000",
        "              kt-95    [000]    11.793833: kvm_entry:             vcpu_id=0 rip=0x1000",
        "      kt-95      0d..1.    11.793833: kvm_entry:             vcpu 0 rip 0x1000",
        "      kt-95    130d..1.    11.793833: kvm_entry:             vcpu 0 rip 0x1000",
        "      kt-95      0-0x1    11.793833: kvm_entry:             vcpu_id=0 rip=0x1000",
        "instance one:               kt-95    [000]    11.793833: kvm_entry:             vcpu 0",
        "mmu:               kt-95    [000]    11.793833: kvm_entry:             vcpu 0",
        "                            kt-95    [000]    11.793833: kvm_entry:             vcpu 0",
    ];
    for line in lines {
        assert_eq!(record(Kind::TraceCmd, line), entry(11_793_833_000, 95, 0), "{line}");
    }
}

#[test]
fn perf_script_with_thread_process_and_more() {
    let lines = [
        "              kt   103 [000]     6.756877:                      kvm:kvm_entry: vcpu 0, rip 0x1000",
        "              kt   103 [000]     6.756877:                      kvm_entry: vcpu 0, rip 0x1000",
        "              kt   103 [000]     6.756877000:                      kvm:kvm_entry: vcpu 0, rip 0x1000",
        "              kt   103 [000]     6.756877:          1           kvm:kvm_entry: vcpu 0, rip 0x1000",
        "   103 [000]     6.756877:                      kvm:kvm_entry: vcpu 0, rip 0x1000",
    ];
    for line in lines {
        assert_eq!(record(Kind::PerfScript, line), entry(6_756_877_000, 103, 0), "{line}");
    }
    let both =
        "              kt   101/103   [000]     6.756877:    kvm:kvm_entry: vcpu 0, rip 0x1000";
    assert_eq!(record(Kind::PerfScript, both), entry(6_756_877_000, 103, 101));
}

#[test]
fn losses_are_told_with_the_time_of_the_next_event() {
    let lost =
        |time_ns, events| Record { time_ns, tid: 0, tgid: 0, event: Tracepoint::Lost { events } };
    let first = "              kt-106     [000] d..1.    11.000001: kvm_entry: vcpu 0\n";
    let next = "              kt-106     [000] .....    11.000002: kvm_fpu: load\n";
    let lines = [
        ("CPU:0 [LOST 12 EVENTS]", Some(12)),
        ("CPU:130 [LOST EVENTS]", None),
        ("CPU:1 [12 EVENTS DROPPED]", Some(12)),
        ("CPU:1 [EVENTS DROPPED]", None),
    ];
    for (line, events) in lines {
        for kind in [Kind::Ftrace, Kind::TraceCmd] {
            let told = records(kind, &format!("{first}{line}\n{next}"));
            assert_eq!(
                told,
                [entry(11_000_001_000, 106, 0), lost(11_000_002_000, events)],
                "{line}"
            );
        }
    }
    // The last thing that is told.
    let told = records(Kind::Ftrace, &format!("{first}CPU:0 [LOST 12 EVENTS]\n"));
    assert_eq!(told[1], lost(11_000_001_000, Some(12)));
    let of_instance = format!("instance one: {}\n{first}", "CPU:1 [12 EVENTS DROPPED]");
    assert_eq!(records(Kind::TraceCmd, &of_instance)[0], lost(11_000_001_000, Some(12)));
    // What is left of what was written.
    let head = "# tracer: nop\n#\n# entries-in-buffer/entries-written: 843/1200   #P:2\n#\n";
    assert_eq!(
        records(Kind::Ftrace, &format!("{head}{first}"))[0],
        lost(11_000_001_000, Some(357))
    );
    let head = "# tracer: nop\n#\n# entries-in-buffer/entries-written: 843/843   #P:2\n#\n";
    assert_eq!(records(Kind::Ftrace, &format!("{head}{first}")).len(), 1);
    let head = "# latency: 0 us, #843/1200, CPU#0 | (M:server VP:0, KP:0, SP:0 HP:0 #P:2)\n";
    assert_eq!(
        records(Kind::Ftrace, &format!("{head}{first}"))[0],
        lost(11_000_001_000, Some(357))
    );
    let begun = "##### CPU 2 buffer started ####\n";
    assert_eq!(records(Kind::Ftrace, &format!("{begun}{first}"))[0], lost(11_000_001_000, None));

    let perf = "            perf   101 [000]     6.721856: PERF_RECORD_LOST lost 12\n";
    assert_eq!(records(Kind::PerfScript, perf), [lost(6_721_856_000, Some(12))]);
    let perf = format!(
        "{perf}Warning:\nProcessed 884 events and lost 2 chunks!\n\nCheck IO/CPU overload!\n"
    );
    let told = records(Kind::PerfScript, &perf);
    assert_eq!(told, [lost(6_721_856_000, Some(12)), lost(6_721_856_000, None)]);
    let perf = "             :-1    -1/-1    [000]     6.721856: PERF_RECORD_LOST_SAMPLES lost 3\n";
    assert_eq!(records(Kind::PerfScript, perf), [lost(6_721_856_000, Some(3))]);
}

#[test]
fn lines_of_no_event_are_passed_over_in_silence() {
    let ftrace = "# tracer: nop\n#\n\n              kt-106     [000] d..1.    11.0: <stack trace>\n => vcpu_run\n\
         \x20             kt-106     [000] d..1.    11.1: vcpu_run <-kvm_arch_vcpu_ioctl_run\n\
         \x20             kt-106     [000] d..1.    11.2: sched_switch: bash:18257 [120] S ==> kt:9 [120]\n";
    let all = read(Kind::Ftrace, ftrace.as_bytes());
    assert_eq!((all.records.len(), all.others, all.skipped.count), (0, 3, 0));
    let report = "cpus=2\nversion = 6\nCPU 1 is empty\n  [kvmmmu:kvm_mmu_get_page] bad op token {\n\
         => vcpu_run (ffffffffc0a1)\ntrace-cmd: No such file or directory\n";
    let all = read(Kind::TraceCmd, report.as_bytes());
    assert_eq!((all.records.len(), all.others, all.skipped.count), (0, 0, 0));
    let perf = "# captured on : Thu\nlibtraceevent: No such file or directory\n\
         \x20 [kvmmmu:kvm_mmu_get_page] bad op token {\n\
         \x20       kthreadd     0 [000]     0.000000: PERF_RECORD_FORK(15:15):(2:2)\n\
         kt   103 [000]     6.7:     250000 cpu-clock:pppH: \n\tffffffffc0a1 vcpu_run+0x1 ([kvm])\n\n";
    let all = read(Kind::PerfScript, perf.as_bytes());
    assert_eq!((all.records.len(), all.others, all.skipped.count), (0, 2, 0));
}

#[test]
fn a_bad_line_is_named_and_its_neighbours_are_read() {
    let good = "              kt-106     [000] d..1.    11.793833: kvm_entry: vcpu 0, rip 0x1000\n";
    // Longer than many blocks, and than a line may be.
    let [of_blocks, of_one] = [3 << 20, 100 << 10].map(|length| "x".repeat(length));
    let log = format!("{good}nonsense\n{good}{of_blocks}\n{good}{of_one}\n{good}{good}");
    let all = read(Kind::Ftrace, log.as_bytes());
    assert_eq!(all.records.len(), 5);
    assert_eq!(all.skipped.count, 3);
    assert!(all.skipped.first[0].starts_with("line 2: it is no event"), "{:?}", all.skipped);
    assert!(all.skipped.first[1].starts_with("line 4: it is longer"), "{:?}", all.skipped);
    assert!(all.skipped.first[2].starts_with("line 6: it is longer"), "{:?}", all.skipped);
}

#[test]
fn a_line_that_is_cut_off_is_not_read() {
    let line = "              kt-106     [000] ...1.    11.794055: kvm_tdp_mmu_spte_changed: as id 0 gfn 1 \
        level 1 old_spte 0 new_spte 2985e67";
    assert_eq!(records(Kind::Ftrace, &format!("{line}\n")).len(), 1);
    assert!(why(Kind::Ftrace, line).contains("line 1: it does not end"));
}

#[test]
fn what_was_read_before_an_error_is_not_lost() {
    struct Failing(&'static [u8]);
    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.0.is_empty() {
                return Err(std::io::Error::other("the disk is gone"));
            }
            let count = self.0.read(buffer)?;
            Ok(count)
        }
    }
    let log = b"  kt-106 [000] d..1. 11.7: kvm_entry: vcpu 0\n  kt-106 [000] d..1. 11.8: kvm_ent";
    let mut reader = open(Kind::Ftrace, Box::new(Failing(log)));
    let mut batch = Batch::default();
    reader.read(&mut batch).unwrap();
    assert_eq!((batch.records.len(), batch.skipped.count), (1, 1));
    let error = reader.read(&mut Batch::default()).unwrap_err();
    assert_eq!(error.to_string(), "the disk is gone");
    let mut end = Batch::default();
    reader.read(&mut end).unwrap();
    assert!(end.records.is_empty());
}

#[test]
fn order_and_line_numbers_hold_over_many_blocks() {
    let mut log = String::new();
    for number in 0..50_000_u64 {
        let line = if number % 10_000 == 7 {
            "nonsense\n".to_owned()
        } else {
            format!("  kt-106 [000] d..1. {}.000001: kvm_entry: vcpu {number}\n", number + 1)
        };
        log.push_str(&line);
    }
    let all = read(Kind::Ftrace, log.as_bytes());
    let vcpus = all.records.iter().map(|record| match record.event {
        Tracepoint::Entry { vcpu } => u64::from(vcpu.unwrap()),
        other => panic!("{other:?}"),
    });
    assert!(vcpus.eq((0..50_000).filter(|number| number % 10_000 != 7)));
    let named: Vec<_> =
        all.skipped.first.iter().map(|why| why.split(':').next().unwrap()).collect();
    assert_eq!(named, ["line 8", "line 10008", "line 20008", "line 30008", "line 40008"]);
}

/// What a line tells does not depend on the line before it, however alike they begin.
#[test]
fn lines_that_begin_as_the_one_before() {
    let heads = [
        ("kt-106     [000]", 106),
        ("kt-106     [0001]", 106),
        ("kt-107     [000]", 107),
        ("a [000] kt-106     [000]", 106),
        ("a-1 [000] kt-106     [000]", 106),
        ("a-1 [000]", 1),
        ("a-1 (  5) [000]", 1),
        ("kt-106     [000] kt", 0),
    ];
    let perf = [
        ("kt   106 [000]", 106),
        ("kt   106/107 [000]", 107),
        ("a-1 [000] kt   106 [000]", 106),
        ("a   1 [000] kt   106 [000]", 106),
        ("a   1 [000]", 1),
        ("kt   106 [000] kt", 0),
    ];
    let line = |head: &str| format!("  {head}     1.000001: kvm_entry: vcpu 0\n");
    for (kind, heads) in
        [(Kind::Ftrace, &heads[..]), (Kind::TraceCmd, &heads), (Kind::PerfScript, &perf)]
    {
        for (before, first) in heads {
            for (head, second) in heads {
                let all = read(kind, (line(before) + &line(head)).as_bytes());
                let told: Vec<u32> = all.records.iter().map(|record| record.tid).collect();
                let expected = [*first, *second];
                assert_eq!(told, expected.into_iter().filter(|tid| *tid != 0).collect::<Vec<_>>());
            }
        }
    }
}
