//! Sets of address ranges.

use std::collections::BTreeMap;
use std::ops::Range;

/// Whether two ranges share an address; empty ones share none.
pub(crate) fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start.max(b.start) < a.end.min(b.end)
}

/// Addresses, as ranges that do not overlap: start to end (exclusive).
#[derive(Debug, Clone, Default)]
pub(crate) struct RangeSet(BTreeMap<u64, u64>);

impl RangeSet {
    /// Whether any address of the range is in the set.
    pub fn overlaps(&self, range: &Range<u64>) -> bool {
        // The ranges do not overlap, so that the last one to begin before the end is the last one to end.
        self.0.range(..range.end).next_back().is_some_and(|(&start, &end)| overlap(&(start..end), range))
    }

    /// Adds the range.
    pub fn add(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let Range { mut start, mut end } = range;
        while let Some((&other_start, &other_end)) = self.0.range(..=end).next_back() {
            if other_end < start {
                break;
            }
            start = start.min(other_start);
            end = end.max(other_end);
            self.0.remove(&other_start);
        }
        self.0.insert(start, end);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_set_of_ranges_holds_their_addresses(
            ranges in prop::collection::vec((0u64..100, 0u64..20), 0..12), start in 0u64..120, len in 0u64..20,
        ) {
            let mut set = RangeSet::default();
            let ranges: Vec<Range<u64>> = ranges.into_iter().map(|(start, len)| start..start + len).collect();
            ranges.iter().for_each(|range| set.add(range.clone()));
            let asked = start..start + len;
            let expected = asked.clone().any(|address| ranges.iter().any(|range| range.contains(&address)));
            prop_assert_eq!(set.overlaps(&asked), expected);
        }
    }
}
