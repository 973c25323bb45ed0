//! The banks that hold the lines, and who may use them in a cycle (`BankedStore.scala`).
//!
//! A bank is one word wide and has one port. What is read is there two cycles later. Words of a line lie side by side, so two
//! accesses are in each other's way if they touch the same words of their lines.

/// Banks that each port asks for, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BankRequests {
    /// A line that a client gives up.
    pub sink_c: u32,
    /// A line on its way to memory.
    pub source_c: u32,
    /// A line that comes from memory.
    pub sink_d: u32,
    /// Changes by a request.
    pub source_d_write: u32,
    /// What a request reads.
    pub source_d_read: u32,
}

/// Ports that get their banks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BankGrants {
    /// As in [`BankRequests`].
    pub source_c: bool,
    /// As in [`BankRequests`].
    pub sink_d: bool,
    /// As in [`BankRequests`].
    pub source_d_write: bool,
    /// As in [`BankRequests`].
    pub source_d_read: bool,
}

impl BankRequests {
    /// The order of line 155; who is refused still stands in the way of those behind. Channel C is never refused.
    pub fn arbitrate(&self) -> BankGrants {
        let before_sink_d = self.sink_c | self.source_c;
        let before_write = before_sink_d | self.sink_d;
        let before_read = before_write | self.source_d_write;
        BankGrants {
            source_c: self.source_c & self.sink_c == 0,
            sink_d: self.sink_d & before_sink_d == 0,
            source_d_write: self.source_d_write & before_write == 0,
            source_d_read: self.source_d_read & before_read == 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_port_blocks_those_behind_it() {
        let requests =
            BankRequests { source_c: 0b0001, sink_d: 0b0011, source_d_write: 0b0010, ..BankRequests::default() };
        let grants = requests.arbitrate();
        assert!(grants.source_c && !grants.sink_d && !grants.source_d_write);
    }
}
