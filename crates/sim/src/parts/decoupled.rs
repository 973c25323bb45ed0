//! Ready/valid ports (`DecoupledIO`).

/// A ready/valid port in one cycle: what the producer offers, and whether the consumer takes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoupled<T> {
    /// `bits` while `valid`; none if nothing is offered.
    pub bits: Option<T>,
    /// `ready`, given that something is offered.
    pub ready: bool,
}

impl<T> Decoupled<T> {
    /// The port, given how the consumer looks at what is offered.
    #[inline]
    pub fn new(bits: Option<T>, ready: impl FnOnce(&T) -> bool) -> Self {
        let ready = bits.as_ref().is_some_and(ready);
        Self { bits, ready }
    }

    /// Something is offered.
    #[inline]
    pub fn valid(&self) -> bool {
        self.bits.is_some()
    }

    /// What changes hands at the clock edge.
    #[inline]
    pub fn fire(&self) -> Option<&T> {
        if self.ready { self.bits.as_ref() } else { None }
    }

    /// Something changes hands at the clock edge.
    #[inline]
    pub fn fires(&self) -> bool {
        self.ready && self.bits.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_and_taken_changes_hands() {
        let offered = Decoupled::new(Some(7), |bits| *bits > 5);
        assert!(offered.fire() == Some(&7) && offered.fires());
        let refused = Decoupled::new(Some(3), |bits| *bits > 5);
        assert!(refused.valid() && refused.fire().is_none() && !refused.fires());
        let nothing = Decoupled::new(None::<i32>, |_| true);
        assert!(!nothing.valid() && !nothing.fires());
    }
}
