//! Energies from counts: the whole is the sum of its parts, by component and by operation.

use pollux_energy::{Component, Counted, EnergyReport, EnergyTable, Prices};
use pollux_isa::GemminiConfig;
use pollux_sim::counts::EventCounts;
use proptest::prelude::*;

fn prices(table: &str) -> Prices {
    let config = GemminiConfig::by_name("default16").expect("a configuration");
    EnergyTable::by_name(table).and_then(|table| table.prices(&config)).expect("prices")
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

/// Counts of a projection of 512 rows with 768 x 768 weights, rounded: a worked example with known energies.
fn projection() -> EventCounts {
    let mut counts = EventCounts::default();
    counts.mesh.macs = 302_000_000;
    (counts.scratchpad.ex_reads, counts.scratchpad.dma_writes) = (1_438_000, 504_000);
    (counts.accumulator.ex_accumulates, counts.accumulator.dma_reads) = (1_180_000, 25_000);
    (counts.memory.read_bytes, counts.memory.written_bytes) = (8_480_000, 400_000);
    counts.readout.none = 25_000;
    counts.mesh.rows = 1_250_000;
    counts.commands.host = 100;
    counts
}

#[test]
fn the_worked_example_has_its_energies() {
    let counted = Counted { name: "projection".into(), cycles: 1_300_000, counts: projection() };
    let report = EnergyReport::new(&prices("horowitz45-lpddr4"), 1e9, &[counted]);
    let uj = |component| report.total.of(component) / 1e6;
    // 57 + 18 of the scratchpad, 165 + 1 of the accumulator's banks and 1.9 of its adders, 91 of the array, 568 of LPDDR4.
    assert!((uj(Component::Scratchpad) - 74.7).abs() < 0.1, "{}", uj(Component::Scratchpad));
    assert!((uj(Component::Accumulator) - 168.3).abs() < 0.2, "{}", uj(Component::Accumulator));
    assert!((uj(Component::Array) - 90.6).abs() < 0.1);
    assert!((uj(Component::Dram) - 568.3).abs() < 0.1);
    let per_mac = report.total.energy_per_mac_pj.expect("it multiplies");
    assert!((per_mac - 2.99).abs() < 0.01, "{per_mac}");
    // 1.3 M cycles at 1 GHz.
    assert!(close(report.total.edp_js, report.total.energy_pj * 1e-12 * 1.3e-3));
    assert!(close(report.total.edp_mj_cycles, report.total.edp_js * 1e9 * 1e3));
}

#[test]
fn a_slower_clock_leaks_more_and_has_a_larger_product() {
    let counted = [Counted { name: String::new(), cycles: 1000, counts: EventCounts::default() }];
    let at = |hz| EnergyReport::new(&prices("aladdin45-ddr3"), hz, &counted).total;
    assert!(close(at(0.5e9).energy_pj, 2.0 * at(1e9).energy_pj));
    assert!(close(at(0.5e9).edp_js, 4.0 * at(1e9).edp_js));
    assert_eq!(at(1e9).energy_per_mac_pj, None);
}

#[test]
fn the_report_is_readable_and_names_table_node_and_what_is_missing() {
    let mut second = projection();
    second.readout.softmax = 1000;
    second.normalizer.max = 3000;
    second.tlb.walks = 2;
    let first = Counted { name: "first".into(), cycles: 1_300_000, counts: projection() };
    let second = Counted { name: "second".into(), cycles: 1_400_000, counts: second };
    insta::assert_snapshot!(
        EnergyReport::new(&prices("horowitz45-lpddr4"), 1e9, &[first.clone(), second.clone()]).text()
    );
    insta::assert_snapshot!(EnergyReport::new(&prices("aladdin45-ddr3"), 5e8, &[first, second]).text());
}

#[test]
fn prices_are_readable() {
    insta::assert_snapshot!(prices("cacti22-lpddr4").text());
    insta::assert_snapshot!(prices("dosa40").text());
}

fn counts() -> impl Strategy<Value = EventCounts> {
    prop::array::uniform12(0u64..1 << 32).prop_map(|n| {
        let mut counts = EventCounts::default();
        (counts.memory.read_bytes, counts.memory.written_bytes) = (n[0], n[1]);
        (counts.scratchpad.ex_reads, counts.scratchpad.dma_writes) = (n[2], n[3]);
        (counts.accumulator.ex_accumulates, counts.accumulator.dma_reads) = (n[4], n[5]);
        (counts.mesh.rows, counts.mesh.macs, counts.mesh.preloaded) = (n[6], n[6] * 200, n[7]);
        (counts.normalizer.sum_exp, counts.normalizer.variance) = (n[8], n[9]);
        (counts.readout.igelu, counts.readout.layernorm) = (n[10], n[11]);
        counts
    })
}

proptest! {
    #[test]
    fn operations_and_components_add_up_to_the_whole(
        parts in prop::collection::vec((counts(), 0u64..1 << 32), 1..6),
        table in prop::sample::select(&EnergyTable::NAMES),
    ) {
        let prices = prices(table);
        let parts: Vec<Counted> =
            parts.into_iter().map(|(counts, cycles)| Counted { name: "part".into(), cycles, counts }).collect();
        let report = EnergyReport::new(&prices, 1e9, &parts);
        let total = &report.total;
        let sum: f64 = report.operations.iter().map(|operation| operation.energy_pj).sum();
        prop_assert!(close(sum, total.energy_pj));
        prop_assert_eq!(report.operations.iter().map(|operation| operation.cycles).sum::<u64>(), total.cycles);
        for component in Component::ALL {
            let sum: f64 = report.operations.iter().map(|operation| operation.of(component)).sum();
            prop_assert!(close(sum, total.of(component)));
        }
        let actions: f64 = total.components.iter().flat_map(|c| &c.actions).map(|action| action.energy_pj).sum();
        prop_assert!(close(actions, total.energy_pj));
        prop_assert!(close(prices.energy_pj(&total.counts, total.cycles, 1e9), total.energy_pj));
        let shares: f64 = total.components.iter().map(|component| component.share).sum();
        prop_assert!(total.energy_pj == 0.0 || close(shares, 1.0));
    }
}
