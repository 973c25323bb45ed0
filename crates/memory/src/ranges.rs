//! Sets of address ranges.

use std::collections::BTreeMap;
use std::ops::Range;

/// Addresses, kept as ranges that neither overlap nor touch. The last address of the 64-bit space cannot be one.
///
/// ```
/// use pollux_memory::RangeSet;
///
/// let mut set = RangeSet::default();
/// set.add(0x100..0x200);
/// set.add(0x200..0x280);
/// assert!(set.overlaps(&(0x27f..0x1000)));
/// assert_eq!(set.first_missing(0x1c0, 0x100), Some(0x280));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangeSet(BTreeMap<u64, u64>);

impl RangeSet {
    /// Adds the addresses of a range.
    pub fn add(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let Range { mut start, mut end } = range;
        // Ranges that overlap or touch the new one start at or before its end; the last of those is met first.
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

    /// Whether the set has no address.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any address of a range is in the set.
    pub fn overlaps(&self, range: &Range<u64>) -> bool {
        // The ranges do not overlap, so that of those which begin before the end the last one ends last.
        let last = self.0.range(..range.end).next_back();
        !range.is_empty() && last.is_some_and(|(_, &end)| end > range.start)
    }

    /// The lowest of the `len` addresses from `start` on that is not in the set.
    pub fn first_missing(&self, start: u64, len: u64) -> Option<u64> {
        if len == 0 {
            return None;
        }
        let covered_to = self.0.range(..=start).next_back().map_or(start, |(_, &end)| end.max(start));
        // The last address cannot be in the set, so a wrapping range is never covered.
        let covered = start.checked_add(len).is_some_and(|end| end <= covered_to);
        if covered { None } else { Some(covered_to) }
    }

    /// The ranges in address order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.0.iter().map(|(&start, &end)| start..end)
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
            let mut addresses = [false; 160];
            for (start, len) in ranges {
                set.add(start..start + len);
                addresses[start as usize..(start + len) as usize].fill(true);
            }
            let mut asked = start..start + len;
            prop_assert_eq!(set.overlaps(&asked), asked.clone().any(|address| addresses[address as usize]));
            prop_assert_eq!(set.first_missing(start, len), asked.find(|address| !addresses[*address as usize]));
            prop_assert_eq!(set.is_empty(), !addresses.contains(&true));
        }
    }
}
