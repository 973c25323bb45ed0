//! Instructions out of packets (`IBuf.scala`): one half word may be left over from the packet before.

use super::btb::BtbResp;
use super::frontend::Packet;

/// The buffer.
#[derive(Clone, Copy, Debug, Default)]
pub struct IBuf {
    /// A half word that is left over, its address and its prediction.
    left: Option<(u16, u64, Packet)>,
}

/// An instruction for decode.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fetched {
    /// Its bits; it is complete.
    pub word: Option<u32>,
    /// What decode sees of an instruction whose second half is not there: it holds the first half up by its hazards, too.
    pub partial: Option<u32>,
    /// Its address, or that of what will come next.
    pub pc: u64,
    /// An instruction or a packet is there.
    pub some: bool,
    /// Prediction.
    pub btb: BtbResp,
    /// It has to be fetched again.
    pub replay: bool,
    /// The packet in front is used up if the instruction is taken.
    consumes: bool,
    /// Half words of the packet that the instruction uses.
    used: u8,
}

impl IBuf {
    /// The instruction that is offered.
    pub fn fetched(&self, front: Option<&Packet>) -> Fetched {
        let from = front.map_or(0, |packet| (packet.pc >> 1 & 1) as u8);
        let available = front.map_or(0, |packet| if packet.btb.taken { packet.btb.bridx + 1 } else { 2 } - from);
        let buffered = u8::from(self.left.is_some());
        let half = |n: u8| front.map_or(0, |packet| (packet.data >> (16 * (from + n))) as u16);
        let first = self.left.map_or_else(|| half(0), |(half, _, _)| half);
        let count = available + buffered;
        let some = count > 0;
        let rvc = first & 3 != 3;
        let complete = some && (rvc || count > 1 || self.left.is_some_and(|(_, _, packet)| packet.replay));
        let needs = if !complete {
            0
        } else if rvc {
            1
        } else {
            2
        };
        let second = if needs == 2 { u32::from(half(1 - buffered)) << 16 } else { 0 };
        let used = u8::saturating_sub(needs, buffered);
        let pc = self.left.map_or_else(|| front.map_or(0, |packet| packet.pc), |(_, pc, _)| pc);
        let front_btb = front.map_or(BtbResp::default(), |packet| packet.btb);
        let btb = match self.left {
            Some((_, _, packet)) if rvc => packet.btb,
            _ => front_btb,
        };
        let replay = match self.left {
            Some((_, _, packet)) => packet.replay || needs == 2 && front.is_some_and(|packet| packet.replay),
            None => front.is_some_and(|packet| packet.replay),
        };
        let consumes = front.is_some() && needs >= buffered && available - used.min(available) <= 1;
        // The wires behind the missing half carry the packet's upper half.
        let upper = front.filter(|_| some && !complete && buffered == 0).map(|packet| packet.data & 0xffff_0000);
        let partial = upper.map(|upper| u32::from(first) | upper);
        Fetched {
            word: complete.then_some(u32::from(first) | second),
            partial,
            pc,
            some: complete || front.is_some(),
            btb,
            replay,
            consumes,
            used,
        }
    }

    /// The packet in front is taken.
    pub fn takes(&self, fetched: &Fetched, ready: bool) -> bool {
        ready && fetched.consumes
    }

    /// Clock edge: decode takes the instruction, or everything is dropped.
    pub fn tick(&mut self, fetched: &Fetched, front: Option<&Packet>, ready: bool, kill: bool) {
        if kill {
            self.left = None;
            return;
        }
        if !ready {
            return;
        }
        if fetched.word.is_some() || self.left.is_none() {
            self.left = None;
            if let Some(packet) = front.filter(|_| fetched.consumes) {
                let from = (packet.pc >> 1 & 1) as u8;
                let available = if packet.btb.taken { packet.btb.bridx + 1 } else { 2 } - from;
                if available > fetched.used {
                    let at = from + fetched.used;
                    let pc = packet.pc & !3 | packet.pc.wrapping_add(2 * u64::from(fetched.used)) & 3;
                    self.left = Some(((packet.data >> (16 * at)) as u16, pc, *packet));
                }
            }
        }
    }
}
