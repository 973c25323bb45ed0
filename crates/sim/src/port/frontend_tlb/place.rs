//! The translation's state apart from where the operands lie, and how it is brought to another place (`crate::replay`).

use super::{CLIENTS, Client, FrontendTlb, PageRegister};
use crate::parts::canonical::{Canon, Canonical};
use crate::port::operand_space::{self, CountedAnswers};
use crate::port::pages::{PageRegisters, PageRules};

/// Without translation the TLB proper has no state, and the page registers and the arbiter are kept beside the state
/// (`port/pages.rs`). Nobody looks at the answer to a client that translates nothing, but
/// a profile.
impl Canonical for FrontendTlb {
    fn canonical(&self, canon: &mut Canon) {
        let Self { tlbs: _, clients, page_registers: _, last_grant: _, interrupt, faults: _, lookups: _, operands } =
            self;
        for (i, client) in clients.iter().enumerate() {
            let Client { request, needs_tlb, last: _, hit, paddr: _ } = client;
            request.valid.then_some(*request).canonical(canon);
            if operands.counted() > CountedAnswers::None {
                needs_tlb.canonical(canon);
            }
            if operands.counted() == CountedAnswers::All {
                hit.canonical(canon);
                // And the address that is compared, valid or not.
                canon.address(request.vaddr);
            }
            // Only a beat of the writer that waits for its turn is held up by an answer that it has not asked for.
            if canon.looks(i) && !request.valid {
                hit.canonical(canon);
            }
        }
        let both = self.shared() && clients.iter().all(|client| client.needs_tlb);
        both.then(|| self.arbitrate()).canonical(canon);
        interrupt.canonical(canon);
    }
}

/// Bringing a state to another place.
impl FrontendTlb {
    /// The page registers and the arbiter.
    pub(crate) fn set_pages(&mut self, pages: &PageRegisters) {
        for (i, client) in self.clients.iter_mut().enumerate() {
            let last = pages.register(i, client.request.valid);
            let tag = operand_space::PAGE_REGISTERS[i];
            let vaddr = operand_space::place(tag, 0, operand_space::PAGE);
            client.last = PageRegister { valid: last.is_some() && self.page_registers, vaddr, paddr: 0 };
            self.operands.set(tag, last.unwrap_or(0) * operand_space::PAGE);
            if client.request.valid || self.operands.counted() == CountedAnswers::All {
                client.hit = pages.hit[i];
            }
            client.needs_tlb = client.request.valid && !client.hit;
        }
        // A grant between two that both asked in the last cycle is yet to be made here.
        let both = self.clients.iter().all(|client| client.needs_tlb);
        self.last_grant = if both { pages.grant_before } else { pages.last_grant };
    }

    /// Whether the page registers and the arbiter are in this state.
    pub(crate) fn holds_pages(&self, pages: &PageRegisters) -> bool {
        let all = self.operands.counted() == CountedAnswers::All;
        let holds = |(i, client): (usize, &Client)| {
            let last = pages.register(i, client.request.valid);
            let held = client.last.valid.then(|| self.operands.page(client.last.vaddr));
            held == last && (!(client.request.valid || all) || client.hit == pages.hit[i])
        };
        // While both ask, the grant is yet to come here.
        let settled = self.clients.iter().any(|client| !client.needs_tlb);
        self.clients.iter().enumerate().all(holds) && (!settled || !self.shared() || self.grants(pages))
    }

    /// The last grant, or the one that comes now.
    fn grants(&self, pages: &PageRegisters) -> bool {
        let coming = (0..CLIENTS).find(|&i| self.clients[i].needs_tlb);
        coming.unwrap_or(self.last_grant) == pages.last_grant
    }

    /// How the page registers work.
    pub(crate) fn page_rules(&self) -> PageRules {
        PageRules { registers: self.page_registers, shared: self.shared(), counted: false }
    }
}
