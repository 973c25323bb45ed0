//! What translation holds, as data.

use super::{FrontendTlb, SECTORS, Tlb, WalkState};
use crate::observation::view::TlbView;

impl FrontendTlb {
    /// Page registers, pages and walks.
    pub(crate) fn view(&self) -> TlbView {
        let mut pages: Vec<u64> = self.tlbs.iter().flat_map(Tlb::pages).collect();
        pages.sort_unstable();
        pages.dedup();
        TlbView {
            page_registers: self.clients.map(|client| client.last.valid.then_some(client.last.vaddr)),
            pages,
            walks: self.tlbs.iter().filter_map(Tlb::walk_left).collect(),
            interrupt: self.interrupt,
        }
    }
}

impl Tlb {
    /// Page numbers that are translated; of a superpage the first.
    fn pages(&self) -> impl Iterator<Item = u64> {
        let sectored = self.sectored.iter().flat_map(|entry| {
            let base = entry.tag / SECTORS as u64 * SECTORS as u64;
            (0..SECTORS).filter(|&sector| entry.valid[sector]).map(move |sector| base + sector as u64)
        });
        let superpages = self.superpages.iter().filter(|entry| entry.valid);
        sectored.chain(superpages.map(|entry| entry.tag >> entry.free_bits() << entry.free_bits()))
    }

    /// Page of the walk under way, and cycles until its answer, as far as they are known.
    fn walk_left(&self) -> Option<(u64, u32)> {
        match self.state {
            WalkState::Ready => None,
            WalkState::Request => Some((self.refill_tag, 0)),
            WalkState::Wait { cycles, .. } => Some((self.refill_tag, cycles)),
        }
    }
}
