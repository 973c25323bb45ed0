//! The system bus: a crossbar that takes the clients' messages to the L2 in turn (rocket-chip `tilelink/Xbar.scala`,
//! `Arbiter.scala`).

/// Ports of the bus.
pub const PORTS: usize = 3;

/// Round robin among ports on channel A; a burst is not interrupted.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemBus {
    /// The port that won last.
    last: usize,
    /// The port whose burst is under way.
    locked: Option<usize>,
}

impl SystemBus {
    /// The port whose beat is offered to the L2.
    pub fn grant(&self, valid: [bool; PORTS]) -> Option<usize> {
        if let Some(port) = self.locked {
            return valid[port].then_some(port);
        }
        // `roundRobin`, lines 19 to 30: those below the last winner in descending order, then the others.
        (0..self.last).rev().chain((self.last..PORTS).rev()).find(|port| valid[*port])
    }

    /// Clock edge: a beat of a port went through, the last of its message or not.
    pub fn tick(&mut self, taken: Option<(usize, bool)>) {
        if let Some((port, last)) = taken {
            self.last = port;
            self.locked = (!last).then_some(port);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_take_turns_and_bursts_stay_together() {
        let mut bus = SystemBus::default();
        let mut order = Vec::new();
        for last in [false, true, true, true, true] {
            let port = bus.grant([true, true, false]).unwrap();
            order.push(port);
            bus.tick(Some((port, last)));
        }
        assert_eq!(order, [1, 1, 0, 1, 0]);
    }
}
