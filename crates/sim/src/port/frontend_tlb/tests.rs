use super::*;

const NO_MEMORY: fn(u64) -> u64 = |_| 0;

fn ask(vaddr: u64) -> TlbRequest {
    TlbRequest { valid: true, vaddr, ..TlbRequest::default() }
}

fn tick(tlb: &mut FrontendTlb, requests: [TlbRequest; 2]) -> [TlbResponse; 2] {
    let wires = tlb.wires();
    tlb.tick(&wires, &requests, false, NO_MEMORY);
    wires.responses
}

/// Asks until answered; returns the cycles from the first request to the answer.
fn cycles_until_hit(tlb: &mut FrontendTlb, vaddr: u64) -> (u32, u64) {
    for cycle in 0..1000 {
        let answer = tick(tlb, [TlbRequest::default(), ask(vaddr)])[TLB_READER];
        if cycle > 0 && !answer.miss {
            return (cycle, answer.paddr);
        }
    }
    panic!("no answer");
}

#[test]
fn an_untranslated_address_is_answered_in_the_next_cycle() {
    let mut tlb = FrontendTlb::new(&GemminiConfig::default16(), Translation::Bare);
    tick(&mut tlb, [TlbRequest::default(), ask(0x8000_0010)]);
    let answer = tick(&mut tlb, [TlbRequest::default(), ask(0x8000_0fff)])[TLB_READER];
    assert_eq!(answer, TlbResponse { miss: false, paddr: 0x8000_0010 });
    let answer = tick(&mut tlb, Default::default())[TLB_READER];
    assert_eq!(answer, TlbResponse { miss: false, paddr: 0x8000_0fff });
}

#[test]
fn the_loser_of_the_arbiter_sees_a_miss_and_the_reader_wins_the_first_tie() {
    let mut tlb = FrontendTlb::new(&GemminiConfig::default16(), Translation::Bare);
    tick(&mut tlb, [ask(0x1000), ask(0x2000)]);
    let first = tick(&mut tlb, [ask(0x1000), TlbRequest::default()]);
    assert_eq!((first[TLB_WRITER].miss, first[TLB_READER].miss), (true, false));
    assert!(!tick(&mut tlb, Default::default())[TLB_WRITER].miss);
}

#[test]
fn a_walk_takes_its_latency_and_its_page_then_hits() {
    for walk_latency in [1, 10, 57] {
        let paged = Translation::Paged { tables: PageTables::Identity, walk_latency };
        let mut tlb = FrontendTlb::new(&GemminiConfig::default16(), paged);
        // Miss in cycle 1, walker asked in 2, refill in 2 + latency, hit in the cycle after.
        assert_eq!(cycles_until_hit(&mut tlb, 0x5008), (3 + walk_latency, 0x5008));
        tick(&mut tlb, Default::default());
        assert_eq!(cycles_until_hit(&mut tlb, 0x5010), (1, 0x5010));
    }
}

#[test]
fn four_neighbouring_pages_share_an_entry_and_a_distant_one_evicts_it() {
    let paged = Translation::Paged { tables: PageTables::Identity, walk_latency: 5 };
    let mut tlb = FrontendTlb::new(&GemminiConfig::default16(), paged);
    for page in [4u64, 5, 6, 7] {
        assert_eq!(cycles_until_hit(&mut tlb, page << 12).0, 8);
    }
    for page in [4u64, 5, 6, 7] {
        assert_eq!(cycles_until_hit(&mut tlb, page << 12).0, 1);
    }
    assert_eq!(cycles_until_hit(&mut tlb, 64 << 12).0, 8);
    assert_eq!(cycles_until_hit(&mut tlb, 4 << 12).0, 8);
}

#[test]
fn a_flush_empties_page_registers_and_tlb() {
    let paged = Translation::Paged { tables: PageTables::Identity, walk_latency: 5 };
    let mut tlb = FrontendTlb::new(&GemminiConfig::default16(), paged);
    cycles_until_hit(&mut tlb, 0x4000);
    let wires = tlb.wires();
    tlb.tick(&wires, &Default::default(), true, NO_MEMORY);
    assert_eq!(cycles_until_hit(&mut tlb, 0x4000).0, 8);
}

#[test]
fn sv39_superpages_translate_and_forbidden_stores_raise_the_interrupt() {
    // Root at 0x1000: entry 2 is a user gigapage, read only, at physical 0x4000_0000.
    let read = |address: u64| if address == 0x1010 { 0x4000_0000 >> 12 << 10 | 0b101_0011 } else { 0 };
    let paged = Translation::Paged { tables: PageTables::Sv39 { root: 0x1000 }, walk_latency: 3 };
    let mut tlb = FrontendTlb::new(&GemminiConfig::default16(), paged);
    let store = TlbRequest { write: true, ..ask(0x8123_4567) };
    let mut answers = Vec::new();
    for _ in 0..8 {
        let wires = tlb.wires();
        answers.push(wires.responses[TLB_WRITER]);
        tlb.tick(&wires, &[store, TlbRequest::default()], false, read);
    }
    assert_eq!(answers[7], TlbResponse { miss: false, paddr: 0x4123_4567 });
    assert!(tlb.interrupt());
}

#[test]
fn pseudo_lru_replaces_the_way_touched_longest_ago_of_an_ordered_sweep() {
    let mut lru = PseudoLru::default();
    for way in [0, 1, 2, 3] {
        lru.access(way, 4);
    }
    assert_eq!(lru.oldest(4), 0);
    lru.access(0, 4);
    assert_eq!(lru.oldest(4), 2);
}
