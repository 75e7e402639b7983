use super::super::Outcome;
use super::*;

const GIVEN: &str = include_str!("../../../../tests/vectors/ept-walk.json");
const MORE: &str = include_str!("../../../../tests/vectors/ept-walk-more.json");

fn all_pass(json: &str) -> usize {
    let cases = cases(json).unwrap();
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|case| Some(format!("{}: {}", case.name(), case.run().err()?)))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    cases.len()
}

#[test]
fn the_given_cases_pass() {
    assert_eq!(all_pass(GIVEN), 110);
}

#[test]
fn our_own_cases_pass() {
    assert_eq!(all_pass(MORE), 126);
}

/// The first case, with something replaced.
fn first_but(replace: &str, with: &str) -> String {
    let mut list: Vec<Value> = serde_json::from_str(GIVEN).unwrap();
    list.truncate(1);
    let text = serde_json::to_string(&list).unwrap();
    assert!(text.contains(replace), "{replace}");
    text.replacen(replace, with, 1)
}

#[test]
fn what_is_not_understood_is_an_error_that_names_the_case() {
    for (replace, with, what) in [
        (r#""gpa":"#, r#""gpb":1,"gpa":"#, "gpb"),
        (r#""controls":{"#, r#""controls":{"hlat":true"#, "hlat"),
        (r#""stage":"#, r#""size":1,"stage":"#, "size"),
        (r#""stage":"final""#, r#""stage":"last""#, "last"),
        (r#""type":"read""#, r#""type":"peek""#, "peek"),
        (r#""index":1"#, r#""index":1,"global":true"#, "global"),
        (r#""kind":"ept_violation""#, r#""kind":"ept_violence""#, "ept_violence"),
        (r#""kind":"ept_violation""#, r#""kind":"ept_violation","depth":1"#, "depth"),
        (r#""kind":"ept_violation""#, r#""kind":"gpa_not_representable""#, "level"),
        (r#""format":"ept""#, r#""format":"pae""#, "pae"),
        (r#""gpa":"0x8000000000""#, r#""gpa":"8z""#, "8z"),
        (r#""gpa":"0x8000000000""#, r#""gpa":-1"#, "-1"),
    ] {
        let error = cases(&first_but(replace, with)).unwrap_err().to_string();
        assert!(error.starts_with("case 1 (not-present PTE, read): "), "{error}");
        assert!(error.contains(what), "{what}: {error}");
    }
    assert!(cases("{}").unwrap_err().to_string().starts_with("not a list of cases: "));
    let error = cases(r#"[{"name": "nameless"}]"#).unwrap_err().to_string();
    assert!(error.starts_with("case at place 0 of the list: "), "{error}");
}

#[test]
fn a_case_fails_with_what_was_expected_and_what_came() {
    for (replace, with, expected) in [
        (
            r#""level":1,"qual_mask":"0x1b1bf""#,
            r#""level":2,"qual_mask":"0x1b1bf""#,
            "level: expected Some(2), got Some(1)",
        ),
        (
            r#""qualification":"0x181""#,
            r#""qualification":"0x182""#,
            "qualification: expected 0x182 of 0x1b1bf, got 0x181",
        ),
        (
            r#""qual_mask":"0x1b1bf""#,
            r#""qual_mask":"0x1b1ff""#,
            "qualification: expected defined bits 0x1b1ff, got 0x1b1bf",
        ),
        (
            r#""kind":"ept_violation""#,
            r#""kind":"ept_violation","convertible_to_ve":true"#,
            "convertible_to_ve: expected Yes, got No",
        ),
        (r#""index":1,"#, r#""index":512,"#, "no table has an entry 512 at 0x1000"),
        (r#""eptp":"0x101e","#, "", "an EPT case without eptp"),
    ] {
        let cases = cases(&first_but(replace, with)).unwrap();
        assert_eq!(cases[0].run(), Err(expected.to_owned()));
    }
    let other = r#""value":"0x40000001""#;
    let cases = cases(&first_but(r#""value":"0x40000000""#, other)).unwrap();
    let error = cases[0].run().unwrap_err();
    assert!(error.starts_with("expected EptViolation("), "{error}");
    assert!(error.contains("got Translation("), "{error}");
}

/// A mask that leaves out a bit which the hardware defines would let a wrong bit pass.
#[test]
fn the_masks_are_those_of_the_walk() {
    let mut compared = 0;
    for case in [GIVEN, MORE].into_iter().flat_map(|json| cases(json).unwrap()) {
        let expect::Expect::EptViolation(expected) = &case.case.expect else { continue };
        let Ok(Came::Walk(Walk { outcome: Outcome::Violation(got), .. })) = case.came() else {
            panic!("{}", case.name())
        };
        assert_eq!(expected.qual_mask.map(|mask| mask.0), Some(got.mask), "{}", case.name());
        compared += 1;
    }
    assert_eq!(compared, 81);
}
