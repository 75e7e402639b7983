//! Times at which events are missing.

/// Such times, each after the first of two and before the second.
#[derive(Debug, Default)]
pub struct Gaps {
    gaps: Vec<(u64, u64)>,
}

impl Gaps {
    /// Adds one.
    pub fn add(&mut self, gap: (u64, u64)) {
        self.gaps.push(gap);
    }

    /// Makes one of those that have times in common. Then it can be asked what they have.
    pub fn merge(&mut self) {
        self.gaps.sort_unstable();
        self.gaps.dedup_by(|next, gap| {
            let has_common = next.0 <= gap.1;
            if has_common {
                gap.1 = gap.1.max(next.1);
            }
            has_common
        });
    }

    /// Whether any has this time.
    pub fn have(&self, time: u64) -> bool {
        let number = self.gaps.partition_point(|gap| gap.1 <= time);
        self.gaps.get(number).is_some_and(|gap| gap.0 < time)
    }

    /// Forgets those up to this time.
    pub fn forget(&mut self, time: u64) {
        self.gaps.retain(|gap| gap.1 > time);
    }

    pub fn is_empty(&self) -> bool {
        self.gaps.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_in_any_of_them() {
        let mut gaps = Gaps::default();
        for gap in [(30, 40), (10, 20), (15, 18), (38, 45), (50, 50)] {
            gaps.add(gap);
        }
        gaps.merge();
        let times: Vec<_> = (0..60).filter(|time| gaps.have(*time)).collect();
        assert_eq!(times, (11..20).chain(31..45).collect::<Vec<_>>());
        gaps.forget(20);
        assert!(!gaps.have(15) && gaps.have(31));
        gaps.forget(50);
        assert!(gaps.is_empty());
    }
}
