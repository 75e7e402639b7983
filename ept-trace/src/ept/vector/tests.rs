use super::super::Outcome;
use super::*;

const GIVEN: &str = include_str!("../../../../tests/vectors/ept-walk.json");

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

/// A mask that leaves out a bit which the hardware defines would let a wrong bit pass.
#[test]
fn the_given_masks_are_those_of_the_walk() {
    let mut compared = 0;
    for case in cases(GIVEN).unwrap() {
        let expect::Expect::EptViolation(expected) = &case.case.expect else { continue };
        let Ok(Came::Walk(Walk { outcome: Outcome::Violation(got), .. })) = case.came() else {
            panic!("{}", case.name())
        };
        assert_eq!(expected.qual_mask.map(|mask| mask.0), Some(got.mask), "{}", case.name());
        compared += 1;
    }
    assert_eq!(compared, 40);
}
