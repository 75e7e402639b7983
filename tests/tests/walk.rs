//! `walk` as a user runs it: on dumps of a live 5-level NPT in each format, on entries, and over
//! the conformance vectors.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tests::{product, text};

/// The same memory, in each format.
const DUMPS: [&str; 5] = [
    "npt5-mini.elf",
    "npt5-mini.kdump",
    "npt5-mini.mixed.kdump",
    "npt5-mini.kdump.flat",
    "npt5-mini.lime",
];

fn dump(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/dumps").join(name)
}

fn walk(arguments: &[&str]) -> Output {
    let run = Command::new(product()).arg("walk").args(arguments).output();
    run.expect("the product starts")
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("killed: {}", text(output)))
}

fn object(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|err| panic!("{err}: {}", text(output)))
}

/// A file of this test alone.
fn file(name: &str, content: &[u8]) -> String {
    let path = std::env::temp_dir().join(format!("ept-trace-walk-{}-{name}", std::process::id()));
    fs::write(&path, content).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn every_format_walks_to_the_page_that_kvm_mapped() {
    let mut ranges = Vec::new();
    for name in DUMPS {
        let dump = dump(name);
        let dump = dump.to_str().unwrap();
        let run = walk(&["--ncr3", "0x32d1000", "--gpa", "0x1008", "--memory", dump, "-j"]);
        assert_eq!(code(&run), 0, "{name}: {}", text(&run));
        let walk_object = object(&run);
        assert_eq!(walk_object["type"], "walk");
        assert_eq!(walk_object["root_level"], 5);
        assert_eq!(walk_object["gpa"], "0x1008");
        // As kvm_tdp_mmu_spte_changed and kvm_mmu_set_spte printed them.
        let entries: Vec<&Value> = walk_object["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| &entry["entry"])
            .collect();
        let printed = ["0x32d0827", "0x32cf827", "0x32ce827", "0x32cd827", "0xbc32e67"];
        assert_eq!(entries, printed);
        assert_eq!(walk_object["entries"][4]["table"], "0x32cd000");
        assert_eq!(walk_object["entries"][4]["index"], 1);
        assert_eq!(walk_object["outcome"]["kind"], "translation");
        assert_eq!(walk_object["outcome"]["hpa"], "0xbc32008");

        let run = walk(&["--ncr3", "32d1000", "--levels", "5", "--dump", "--memory", dump]);
        assert_eq!(code(&run), 0, "{name}: {}", text(&run));
        ranges.push(String::from_utf8(run.stdout).unwrap());
    }
    let lines: Vec<&str> = ranges[0].lines().collect();
    assert_eq!(
        lines[1..],
        [
            "0x0-0xfff not present",
            "0x1000-0x1fff -> 0xbc32000-0xbc32fff 4K rwxu",
            "0x2000-0xfffffffffffff not present",
        ]
    );
    assert!(ranges.iter().all(|text| *text == ranges[0]), "{ranges:#?}");
}

#[test]
fn what_is_not_in_the_dump_is_told_from_what_is_not_present() {
    let dump = dump("npt5-mini.kdump");
    let dump = dump.to_str().unwrap();
    let run =
        walk(&["--ncr3", "32d1000", "--levels", "5", "--gpa", "2000", "--memory", dump, "-j"]);
    assert_eq!(code(&run), 0, "{}", text(&run));
    assert_eq!(object(&run)["outcome"]["kind"], "npf");
    assert_eq!(object(&run)["outcome"]["exitinfo1"], "0x100000004");
    // As if the page that the guest uses were its table.
    let run = walk(&["--eptp", "0x42d101e", "--gpa", "0x1008", "--memory", dump, "-j"]);
    assert_eq!(code(&run), 3, "{}", text(&run));
    assert_eq!(object(&run)["outcome"]["kind"], "not_in_dump");
    assert_eq!(object(&run)["outcome"]["at"], "0x42d1000");
    let run = walk(&["--eptp", "0x42d101e", "--dump", "--memory", dump]);
    assert_eq!(code(&run), 3, "{}", text(&run));
    assert!(text(&run).contains("unknown: the table at 0x42d1000 is not in this dump"));
}

#[test]
fn a_damaged_dump_and_one_of_another_kind_are_bad_input() {
    let dump = dump("npt5-mini.kdump");
    let mut damaged = fs::read(&dump).unwrap();
    damaged[0x6094] ^= 0xff;
    let damaged = file("damaged", &damaged);
    let run = walk(&["--ncr3", "32d1000", "--levels", "5", "--gpa", "1008", "--memory", &damaged]);
    assert_eq!(code(&run), 5, "{}", text(&run));
    assert!(text(&run).contains("offset 0x6090"), "{}", text(&run));
    fs::remove_file(damaged).unwrap();
    let saved = file("saved", b"LibvirtQemudSave\x02\0\0\0");
    let run = walk(&["--eptp", "101e", "--gpa", "1008", "--memory", &saved]);
    assert_eq!(code(&run), 5, "{}", text(&run));
    assert!(text(&run).contains("virsh dump --memory-only"), "{}", text(&run));
    fs::remove_file(saved).unwrap();
}

/// A 4-level EPT at 0x1000.
const ENTRIES: &str = "0x1000 0 0x2007\n0x2000 0 0x3007\n0x3000 0 0x4007\n\
    0x4000 1 0x70037 # rwx, WB\n0x4000 2 0x71031\n0x4000 3 0x80000000fee00006 # MMIO\n0x4000 4 0\n";

#[test]
fn entries_are_walked_as_the_sdm_says() {
    let entries = file("entries", ENTRIES.as_bytes());
    let outcome = |gpa: &str, access: &str| {
        let run = walk(&[
            "--eptp",
            "0x101e",
            "--gpa",
            gpa,
            "--access",
            access,
            "--entries",
            &entries,
            "-j",
        ]);
        (code(&run), object(&run)["outcome"].clone())
    };
    let (exit, translation) = outcome("0x1234", "w");
    assert_eq!(exit, 0);
    assert_eq!(
        translation,
        json!({"kind": "translation", "hpa": "0x70234", "level": 1, "page_size": 4096,
            "rights": "rwx", "memory_type": "WB", "ipat": false})
    );
    // A write to a page that is readable alone: bits 1, 3, 7 and 8 (SDM table 30-7).
    let (exit, violation) = outcome("0x2000", "w");
    assert_eq!((exit, &violation["kind"]), (0, &json!("ept_violation")));
    assert_eq!(violation["qualification"], "0x18a");
    let (exit, misconfig) = outcome("0x3000", "r");
    assert_eq!((exit, &misconfig["kind"]), (0, &json!("ept_misconfig")));
    assert_eq!(misconfig["kvm_mmio"], true);
    let (exit, violation) = outcome("0x4000", "x");
    assert_eq!((exit, &violation["qualification"]), (0, &json!("0x184")));
    let (exit, missing) = outcome("0x5000", "r");
    assert_eq!((exit, &missing["kind"]), (3, &json!("not_in_dump")));
    assert_eq!(missing["at"], "0x4028");

    let run = walk(&["--eptp", "0x101e", "--gpa", "0x1234", "--entries", &entries]);
    let shown = String::from_utf8(run.stdout).unwrap();
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines.contains(&"PTE   0x4000[1] = 0x70037: 0x70000 R W X WB; rights rwx"), "{shown}");
    assert_eq!(lines.last(), Some(&"HPA 0x70234, page of 4K, rights rwx, memory type WB"));
    assert!(shown.contains("assumed: MAXPHYADDR 52") && shown.contains("--ept-cap"), "{shown}");
    fs::remove_file(entries).unwrap();
}

#[test]
fn an_invalid_eptp_is_an_answer_and_a_bad_line_is_not() {
    let entries = file("invalid", ENTRIES.as_bytes());
    let run = walk(&["--eptp", "0x101a", "--gpa", "0", "--entries", &entries]);
    assert_eq!(code(&run), 0);
    assert!(text(&run).contains("memory type 2 is not offered"), "{}", text(&run));
    // Without the capability for 4 levels, bit 6.
    let run =
        walk(&["--eptp", "101e", "--ept-cap", "4080", "--gpa", "0", "--entries", &entries, "-j"]);
    assert_eq!(object(&run)["outcome"]["kind"], "vmentry_fail");
    fs::remove_file(entries).unwrap();
    let bad = file("bad", b"0x1000 0 0x2007\n0x1000 512 0\n");
    let run = walk(&["--eptp", "0x101e", "--gpa", "0", "--entries", &bad]);
    assert_eq!(code(&run), 5);
    assert!(text(&run).contains("line 2"), "{}", text(&run));
    fs::remove_file(bad).unwrap();
    for usage in [&["--gpa", "0"][..], &["--eptp", "101e"], &["--eptp", "101e", "--gpa", "0"]] {
        assert_eq!(code(&walk(usage)), 2, "{usage:?}");
    }
}

#[test]
fn a_raw_dump_is_read_by_its_map() {
    // The five tables and the page, in the ELF core from offset 0x1000 on.
    let core = fs::read(dump("npt5-mini.elf")).unwrap();
    let raw = file("raw", &core[0x1000..]);
    let map = file("map", b"# tables\n32cd000-32d1fff @ 0\nbc32000-bc32fff @ 5000\n");
    let run = walk(&["--ncr3", "32d1000", "--gpa", "1008", "--memory", &raw, "--map", &map, "-j"]);
    assert_eq!(object(&run)["outcome"]["hpa"], "0xbc32008", "{}", text(&run));
    fs::remove_file(raw).unwrap();
    fs::remove_file(map).unwrap();
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let entries = file("pipe", ENTRIES.as_bytes());
    let run = Command::new(product())
        .args(["walk", "--eptp", "0x101e", "--dump", "--entries", &entries])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut run = run.expect("started");
    drop(run.stdout.take());
    let ended = run.wait_with_output().unwrap();
    assert!(matches!(code(&ended), 0 | 3), "{}", text(&ended));
    fs::remove_file(entries).unwrap();
}

#[test]
fn the_conformance_vectors_pass_and_a_wrong_one_fails() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let mut files = 0;
    for file in fs::read_dir(&vectors).unwrap() {
        let path = file.unwrap().path();
        let run = walk(&["--vectors", path.to_str().unwrap()]);
        assert_eq!(code(&run), 0, "{}", text(&run));
        let shown = text(&run);
        let cases: Vec<Value> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(shown.lines().last(), Some(&*format!("{} passed, 0 failed", cases.len())));
        files += 1;
    }
    assert!(files > 0);
    let given = fs::read_to_string(vectors.join("ept-walk.json")).unwrap();
    let mut cases: Vec<Value> = serde_json::from_str(&given).unwrap();
    cases.truncate(3);
    cases[1]["expect"]["qualification"] = json!("0x1");
    let wrong = file("vectors", serde_json::to_string(&cases).unwrap().as_bytes());
    let run = walk(&["--vectors", &wrong]);
    assert_eq!(code(&run), 1);
    let shown = text(&run);
    assert_eq!(shown.lines().last(), Some("2 passed, 1 failed"), "{shown}");
    assert!(shown.contains(cases[1]["name"].as_str().unwrap()), "{shown}");
    fs::remove_file(wrong).unwrap();
    let nonsense = file("nonsense", b"{}");
    assert_eq!(code(&walk(&["--vectors", &nonsense])), 5);
    fs::remove_file(nonsense).unwrap();
}

#[cfg(feature = "lab")]
mod live {
    use serde_json::Value;
    use tests::Cell;
    use tests::lab::{json_lines, lab};

    /// A table whose entries are known without KVM: the kernel's own, by way of which its code is
    /// where /proc/iomem says. It has the format of an NPT, but no user pages.
    const SCRIPT: &str = r#"
        code=$(grep 'Kernel code' /proc/iomem | sed 's/-.*//; s/ //g')
        address() { grep -E " ($1)\$" /proc/kallsyms | head -1 | cut -d' ' -f1; }
        text=$(address _text)
        table=$(address 'init_top_pgt|swapper_pg_dir')
        root=$(printf %x $((0x$code + 0x$table - 0x$text)))
        gpa=$(printf %x $((0x$text & 0xffffffffffff)))
        ept-trace walk --ncr3 $root --gpa $gpa --live --maxphyaddr 52 -j > /out/walk.jsonl || exit 10
        echo "{\"code\": \"0x$(printf %x 0x$code)\"}" >> /out/walk.jsonl
        ept-trace walk --ncr3 7fffffff000 --gpa 0 --live
        [ $? = 3 ] || exit 11
    "#;

    #[test]
    fn this_machines_memory_is_read_by_physical_address() {
        let run = lab("walk-live", Cell { cpu: "svm-la48", kernel: "6.12" }, SCRIPT);
        assert_eq!(run.code, Some(0), "{}", run.output);
        let lines = json_lines(&run.out.join("walk.jsonl"));
        let entries = lines[0]["entries"].as_array().expect("entries");
        assert_eq!(lines[0]["root_level"], 4, "the host's own number of levels");
        assert_eq!(entries.last().expect("a leaf")["address"], lines[1]["code"], "{}", lines[0]);
    }

    /// A guest that waits, its table in the meantime, and what was captured of its walks.
    const RUNNING: &str = r#"
        mkfifo /fifo
        ept-trace check -j --maxphyaddr 52 --touch 0x40003000 --again < /fifo > /out/check.jsonl &
        exec 3> /fifo
        while ! grep -q '"gpa":"0x40003000"' /out/check.jsonl; do sleep 0.2; done
        sleep 1
        root=$(grep '"type":"walk"' /out/check.jsonl | tail -1 | sed 's/.*"root_hpa":"0x//; s/".*//')
        ept-trace walk --ncr3 $root --levels 5 --live --dump -j > /out/ranges.jsonl || exit 10
        ept-trace walk --ncr3 $root --levels 5 --live --gpa 40003008 -j > /out/one.jsonl || exit 11
        exec 3>&-
        wait
    "#;

    #[test]
    fn the_table_of_a_running_guest_is_as_its_walks_were_captured() {
        let run = lab("walk-running", Cell { cpu: "svm", kernel: "6.12" }, RUNNING);
        assert_eq!(run.code, Some(0), "{}", run.output);
        let number = |value: &Value| {
            let digits = value.as_str().and_then(|text| text.strip_prefix("0x"));
            u64::from_str_radix(digits.expect("hexadecimal"), 16).expect("a number")
        };
        let ranges = json_lines(&run.out.join("ranges.jsonl"));
        let mapped: Vec<_> = ranges.iter().filter(|range| range["state"] == "mapped").collect();
        // Where the whole table says that an address leads to, and at which level.
        let told = |gpa: u64| {
            let is_in =
                |range: &&&Value| (number(&range["gpa"])..=number(&range["end"])).contains(&gpa);
            let range = mapped.iter().find(is_in)?;
            let hpa = number(&range["hpa"]) + (gpa - number(&range["gpa"]));
            Some((hpa, range["level"].clone()))
        };
        let lines = json_lines(&run.out.join("check.jsonl"));
        let walks = lines.iter().filter(|line| line["outcome"] == "mapped");
        let mut compared = 0;
        for walk in walks {
            let captured = (number(&walk["hpa"]), walk["level"].clone());
            assert_eq!(told(number(&walk["gpa"])), Some(captured), "{walk}");
            compared += 1;
        }
        assert!(compared >= 2, "{compared}");
        let one = &json_lines(&run.out.join("one.jsonl"))[0]["outcome"];
        assert_eq!(one["kind"], "translation", "{one}");
        assert_eq!(told(0x4000_3008).map(|(hpa, _)| hpa), Some(number(&one["hpa"])), "{one}");
    }
}
