//! Sets of banks: bit i of a mask is bank i.

/// The numbers of the set bits, lowest first.
#[inline]
pub fn banks_of(mask: u32) -> Banks {
    Banks(mask)
}

/// See [`banks_of`].
pub struct Banks(u32);

impl Iterator for Banks {
    type Item = u8;

    #[inline]
    fn next(&mut self) -> Option<u8> {
        if self.0 == 0 {
            return None;
        }
        let bank = self.0.trailing_zeros() as u8;
        self.0 &= self.0 - 1;
        Some(bank)
    }
}

/// Puts a bank into a set, or takes it out.
#[inline]
pub fn set_bit(mask: &mut u32, bank: u8, value: bool) {
    *mask = *mask & !(1 << bank) | u32::from(value) << bank;
}
