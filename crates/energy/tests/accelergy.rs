//! Accelergy's reference tables, in and out.

use std::collections::BTreeMap;

use pollux_energy::accelergy::{Import, Reference, import};
use pollux_energy::{EnergyTable, Node, Prices};
use pollux_isa::GemminiConfig;

fn options() -> Import {
    Import { name: "imported".into(), node: Node::Nanometres(45), widths: BTreeMap::new(), ignore: Vec::new() }
}

fn config() -> GemminiConfig {
    GemminiConfig::by_name("norm16").expect("a configuration").into_inner()
}

fn pj(prices: &Prices) -> Vec<(&'static str, &'static str, Option<f64>)> {
    prices.prices.iter().map(|price| (price.action.component.name(), price.action.name, price.pj)).collect()
}

#[test]
fn what_is_written_is_read_again_with_the_same_prices() {
    let config = config();
    for name in EnergyTable::NAMES {
        let table = EnergyTable::by_name(name).expect("a table");
        let (ert, art) = (table.ert(&config).expect("an ERT"), table.art(&config).expect("an ART"));
        let (ert, art) = (Reference { file: "e.yaml", text: &ert }, Reference { file: "a.yaml", text: &art });
        let text = import(ert, Some(art), &options()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (before, after) =
            (table.prices(&config), EnergyTable::parse("i.toml", &text).and_then(|t| t.prices(&config)));
        let (before, after) = (before.expect("prices"), after.expect("prices"));
        for (expected, found) in pj(&before).into_iter().zip(pj(&after)) {
            let equal = match (expected.2, found.2) {
                (Some(a), Some(b)) => (a - b).abs() <= 1e-12 * a.abs(),
                (a, b) => a == b,
            };
            assert!(equal, "{name}: {expected:?}, {found:?}");
        }
        assert!((before.leakage() - after.leakage()).abs() <= 1e-12, "{name}");
        for (area, again) in before.areas.iter().zip(&after.areas) {
            assert_eq!((area.component, area.what), (again.component, again.what), "{name}");
            let (expected, found) = (area.um2.unwrap_or(0.0), again.um2.unwrap_or(0.0));
            assert!((expected - found).abs() <= 1e-9 * expected, "{name}: {area:?}, {again:?}");
        }
    }
}

#[test]
fn the_written_tables_are_accelergys() {
    let table = EnergyTable::by_name("dosa40").expect("a table");
    insta::assert_snapshot!(table.ert(&config()).expect("an ERT"));
    let table = EnergyTable::by_name("horowitz45-lpddr4").expect("a table");
    insta::assert_snapshot!(table.art(&config()).expect("an ART"));
}

/// In the form that Accelergy 0.4 writes, for an architecture of the names that Timeloop's Gemmini has; the figures are our own.
const ERT: &str = "\
ERT:
  version: '0.4'
  tables:
  - name: system.DRAM[1..1]
    actions:
    - name: read
      arguments: {global_cycle_seconds: 1e-09}
      energy: 512.0
    - name: write
      arguments: {}
      energy: 512
    - name: update
      arguments: {}
      energy: 512.0
    - name: leak
      arguments: {}
      energy: 0.0
  - name: system.chip.Scratchpad[1..1]
    actions:
    - {name: read, arguments: {}, energy: 55.5}
    - {name: write, arguments: {}, energy: 60.5}
    - {name: update, arguments: {}, energy: 60.5}
    - {name: leak, arguments: {global_cycle_seconds: 2e-09}, energy: 0.25}
  - name: system.chip.columns.Accumulator[1..16]
    actions:
    - {name: read, arguments: {}, energy: 2.0}
    - {name: write, arguments: {}, energy: 3.0}
    - {name: leak, arguments: {}, energy: 0.5}
  - name: system.chip.PE[0..255].mac
    actions:
    - {name: mac_random, arguments: null, energy: 0.5}
    - {name: mac_gated, arguments: null, energy: 0.125}
    - {name: idle, arguments: null, energy: 0.0}
";

fn widths() -> Import {
    let widths = [("DRAM", 64), ("Scratchpad", 128), ("Accumulator", 32)].map(|(name, bits)| (name.to_owned(), bits));
    Import { widths: widths.into(), ..options() }
}

#[test]
fn a_table_of_accelergys_is_read_with_the_widths_given() {
    let text = import(Reference { file: "e.yaml", text: ERT }, None, &widths()).expect("a table");
    let prices = EnergyTable::parse("i.toml", &text).and_then(|table| table.prices(&config())).expect("prices");
    let found: Vec<_> =
        pj(&prices).into_iter().filter_map(|(component, action, pj)| Some((component, action, pj?))).collect();
    assert!(found.contains(&("dram", "read", 64.0)), "{found:?}");
    assert!(found.contains(&("scratchpad", "read", 55.5)));
    // 16 accesses of 32 bits a row.
    assert!(found.contains(&("accumulator", "write", 48.0)));
    assert!(found.contains(&("array", "mac", 0.5)) && found.contains(&("array", "zero_mac", 0.125)));
    // 0.25 pJ in 2 ns, and 16 times 0.5 pJ in 1 ns.
    assert!((prices.leakage() - 8.125).abs() < 1e-12);
}

fn error(from: &str, to: &str, options: &Import) -> String {
    assert!(ERT.contains(from), "{from}");
    let text = ERT.replacen(from, to, 1);
    import(Reference { file: "e.yaml", text: &text }, None, options).expect_err(to).to_string()
}

#[test]
fn errors_name_file_line_and_key() {
    assert_eq!(
        error("512.0", "512.0", &options()),
        "e.yaml:4: the bits of an access of `system.DRAM[1..1]` are not in the file: give them with --width DRAM=BITS"
    );
    let with = |from: &str, to: &str| error(from, to, &widths());
    assert_eq!(
        with("energy: 55.5", "energy: -1"),
        "e.yaml:20: `system.chip.Scratchpad[1..1].read.energy` is -1; it must be a number that is not negative"
    );
    assert_eq!(
        with("energy: 55.5", "energy: .nan"),
        "e.yaml:20: `system.chip.Scratchpad[1..1].read.energy` is NaN; it must be a number that is not negative"
    );
    assert_eq!(with("'0.4'", "'0.2'"), "e.yaml:2: `version` must be 0.3 or 0.4");
    assert!(with("system.chip.Scratchpad[1..1]", "system.chip.glb[1..1]").starts_with(
        "e.yaml:18: component `system.chip.glb[1..1]` is not known: rename it to one of DRAM, Scratchpad, Accumulator, MACC, "
    ));
    assert_eq!(with("PE[0..255]", "PE[255]"), "e.yaml:29: `system.chip.PE[255].mac` has no range `[first..last]`");
    assert_eq!(
        with("{name: write, arguments: {}, energy: 60.5}", "{name: read, arguments: {data_delta: 1}, energy: 60.5}"),
        "e.yaml:21: action `read` stands twice, with other arguments: keep the one that applies"
    );
    assert_eq!(
        with("{name: update, arguments: {}, energy: 60.5}", "{name: update, arguments: {}, energy: 70.5}"),
        "e.yaml:18: `system.chip.Scratchpad[1..1].update` costs 70.5 and `system.chip.Scratchpad[1..1].write` 60.5: an accumulating \
         write is a read and a write here"
    );
    assert_eq!(
        with("{name: idle, arguments: null, energy: 0.0}", "{name: idle, arguments: null, energy: 0.1}"),
        "e.yaml:33: action `idle` of `system.chip.PE[0..255].mac` is not known"
    );
    assert_eq!(
        with("    - {name: write, arguments: {}, energy: 3.0}\n", ""),
        "e.yaml:1: `Accumulator` has no action `write`"
    );
    assert!(with("energy: 55.5", "enrgy: 55.5").starts_with("e.yaml:20: "), "{}", with("energy: 55.5", "enrgy: 55.5"));
    assert!(with("  version: '0.4'\n", "  version: [\n").starts_with("e.yaml:"));
}

#[test]
fn a_component_can_be_left_out() {
    let text = format!(
        "{ERT}  - name: system.chip.noc[1..4]\n    actions:\n    - {{name: transfer, arguments: {{}}, energy: 1.0}}\n"
    );
    let reference = Reference { file: "e.yaml", text: &text };
    assert!(import(reference, None, &widths()).is_err());
    let ignore = |name: &str| Import { ignore: vec![name.into()], ..widths() };
    assert!(import(reference, None, &ignore("noc")).is_ok());
    let reference = Reference { file: "e.yaml", text: ERT };
    let error = import(reference, None, &ignore("noc")).expect_err("there is none").to_string();
    assert_eq!(error, "e.yaml: no component `noc` is there to be left out");
}
