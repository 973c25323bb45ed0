//! The built-in tables, and tables with errors.

use pollux_energy::{Capacity, Component, EnergyTable, MemoryLaw, Node};
use pollux_isa::GemminiConfig;

fn default16() -> GemminiConfig {
    GemminiConfig::default16()
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * b.abs()
}

#[test]
fn built_in_tables_are_named_and_each_figure_has_a_source_and_a_node() {
    for name in EnergyTable::NAMES {
        let table = EnergyTable::by_name(name).expect(name);
        assert_eq!(table.name, name);
        let memories =
            [(table.scratchpad.node, &table.scratchpad.source), (table.accumulator.node, &table.accumulator.source)];
        let figures = table.figures.values().map(|figure| (figure.node, &figure.source)).chain(memories);
        let origins: Vec<_> = figures.collect();
        for (node, source) in &origins {
            assert!(table.mixed_nodes.is_some() || *node == Node::OffChip || *node == table.node, "{name}: {source}");
            assert!(table.sources.contains_key(*source), "{name}: {source}");
        }
        for source in table.sources.keys() {
            let derived = table.sources.values().any(|text| text.contains(source.as_str()));
            assert!(derived || origins.iter().any(|(_, used)| *used == source), "{name}: {source} is not used");
        }
    }
}

#[test]
fn every_named_configuration_has_a_price_in_every_table() {
    for config in GemminiConfig::NAMES.iter().copied().chain(["dim8", "dim32", "dim64"]) {
        let config = GemminiConfig::by_name(config).expect(config);
        for table in EnergyTable::NAMES {
            let prices = EnergyTable::by_name(table).and_then(|table| table.prices(&config)).expect(table);
            for (component, action) in [(Component::Scratchpad, "read"), (Component::Accumulator, "write")] {
                assert!(prices.of(component, action).is_some_and(|pj| pj > 0.0), "{table} on {}", config.name);
            }
        }
    }
}

/// CACTI 7 as run for the study of energy sources (banks of 64 KiB x 128 bit and 32 KiB x 512 bit).
#[test]
fn memories_of_default16_are_the_measured_banks() {
    let at = |table: &str| EnergyTable::by_name(table).and_then(|table| table.prices(&default16())).expect("prices");
    let rows = |table: &str| {
        let prices = at(table);
        let of = |component, action| prices.of(component, action).map(|pj| (pj * 10.0).round() / 10.0);
        let (sp, acc) = (Component::Scratchpad, Component::Accumulator);
        [of(sp, "read"), of(sp, "write"), of(acc, "read"), of(acc, "write")]
    };
    assert_eq!(rows("horowitz45-lpddr4"), [Some(39.3), Some(36.0), Some(39.9), Some(100.3)]);
    assert_eq!(rows("cacti22-lpddr4"), [Some(9.0), Some(7.6), Some(10.3), Some(23.7)]);
    let pj = |table: &str, component, action| at(table).of(component, action).expect("a price");
    assert!(close(pj("horowitz45-lpddr4", Component::Dram, "read"), 64.0));
    assert!(close(pj("aladdin45-ddr3", Component::Dram, "write"), 560.0));
    assert!(close(pj("aladdin45-ddr3", Component::Array, "mac"), 1.0025));
    // A and, twice, the partial sums between the tiles, the register of 32 bits that propagates in each element: 80 bits.
    assert!(close(pj("aladdin45-ddr3", Component::Array, "register"), 256.0 * 80.0 * 0.009));
}

/// The figures of DOSA's fit at 16 x 16, 256 KiB and 64 KiB: 6.923 pJ a byte, 2.342 pJ a word of 32 bits.
#[test]
fn dosas_fit_is_an_access_of_each_word_of_a_row() {
    let prices = EnergyTable::by_name("dosa40").and_then(|table| table.prices(&default16())).expect("prices");
    let of = |component, action| prices.of(component, action).expect("a price");
    assert!(close(of(Component::Scratchpad, "read"), 16.0 * (0.49 + 0.02513 * 256.0)));
    assert!(close(of(Component::Accumulator, "write"), 16.0 * (1.94 + 0.1005 * 64.0 / 16.0)));
    assert!(close(of(Component::Dram, "read"), 100.0));
    assert!(close(of(Component::Array, "weight_read"), 0.48746172));
    assert_eq!(prices.of(Component::Readout, "none"), None);
}

#[test]
fn between_points_figures_are_interpolated_and_beyond_them_refused() {
    let table = EnergyTable::by_name("horowitz45-lpddr4").expect("a table");
    let law = &table.scratchpad.law;
    let (a, b) = (law.bank(128, 64.0).expect("a point"), law.bank(128, 128.0).expect("a point"));
    let between = law.bank(128, 96.0).expect("between");
    assert!(a.read < between.read && between.read < b.read && a.area < between.area && between.area < b.area);
    let wide = law.bank(192, 64.0).expect("between");
    let ends = [law.bank(128, 64.0).expect("a point").write, law.bank(256, 64.0).expect("a point").write];
    assert!(ends[0].min(ends[1]) < wide.write && wide.write < ends[0].max(ends[1]));
    assert_eq!(law.bank(128, 1024.0), Err("its points of 128 bits have 1 to 512 KiB".to_owned()));
    assert_eq!(law.bank(16, 64.0), Err("its points have 32 to 2048 bits".to_owned()));

    let large = GemminiConfig {
        name: "large".into(),
        sp_capacity: pollux_isa::config::Capacity::Kilobytes(4096),
        ..default16()
    };
    let error = table.prices(&large).expect_err("banks of 1 MiB").to_string();
    assert!(error.contains("`large` (banks of 1024 KiB, 128 bits an access)"), "{error}");
    assert!(error.contains("`scratchpad.access`"), "{error}");
}

/// A table of which each test changes a line.
const SMALL: &str = r#"name = "small"
title = "a table of one's own"
node = "28nm"

[sources]
own = "measured"

[dram.read]
value = 2.5
unit = "pJ/bit"
node = "off-chip"
source = "own"

[dram.write]
value = 20
unit = "pJ/byte"
node = "off-chip"
source = "own"

[array.mac]
value = 150
unit = "fJ"
node = "28nm"
source = "own"

[scratchpad.access]
width = 64
read = 4.0
write = 5.0
unit = "pJ"
node = "28nm"
source = "own"

[accumulator.law]
word = 32
base = 1.0
per_kib = 0.5
capacity = "column"
unit = "pJ"
node = "28nm"
source = "own"
"#;

#[test]
fn a_table_of_ones_own_is_read_with_its_units() {
    let table = EnergyTable::parse("small.toml", SMALL).expect("a table");
    assert_eq!(
        table.accumulator.law,
        MemoryLaw::Word { word: 32, base: 1.0, per_kib: 0.5, capacity: Capacity::Column }
    );
    let prices = table.prices(&default16()).expect("prices");
    let of = |component, action| prices.of(component, action);
    assert_eq!(of(Component::Dram, "read"), Some(20.0));
    assert_eq!(of(Component::Dram, "write"), Some(20.0));
    assert!(of(Component::Array, "mac").is_some_and(|pj| close(pj, 0.15)));
    assert_eq!(of(Component::Scratchpad, "write"), Some(10.0));
    assert_eq!(of(Component::Accumulator, "read"), Some(48.0));
    assert_eq!(of(Component::Readout, "none"), None);
    assert_eq!(prices.leakage(), 0.0);
}

/// What the table says with `from` in the place of `to`.
fn error(from: &str, to: &str) -> String {
    assert_eq!(SMALL.matches(from).count(), 1, "{from}");
    EnergyTable::parse("my.toml", &SMALL.replace(from, to)).expect_err(to).to_string()
}

#[test]
fn errors_name_file_line_and_key() {
    let mac = "value = 150\nunit = \"fJ\"\nnode = \"28nm\"";
    let with = |value: &str| error("value = 150", value);
    assert_eq!(with("value = -150"), "my.toml:21: `array.mac.value` is negative: -150");
    assert_eq!(with("value = nan"), "my.toml:21: `array.mac.value` is not a number (nan)");
    assert_eq!(with("value = inf"), "my.toml:21: `array.mac.value` is infinite");
    assert_eq!(with("value = 1e999"), "my.toml:21: `array.mac.value` is infinite");
    assert_eq!(with("value = \"150\""), "my.toml:21: `array.mac.value` is a string; it must be a number");
    assert_eq!(with("energy = 150"), "my.toml:20: `array.mac.value` is missing: the figure itself");
    assert_eq!(
        error(mac, "value = 150\nnode = \"28nm\""),
        "my.toml:20: `array.mac.unit` is missing: one of pJ, fJ, nJ"
    );
    assert_eq!(error("\"fJ\"", "\"J\""), "my.toml:22: `array.mac.unit` is `J`; it must be pJ, fJ, nJ");
    assert_eq!(
        error(mac, "value = 150\nunit = \"fJ\"\nnode = \"45nm\""),
        "my.toml:23: `array.mac.node` is 45nm, but the table's node is 28nm: give figures of one node, or say in `mixed_nodes` \
         why they are mixed"
    );
    assert_eq!(
        error(mac, "value = 150\nunit = \"fJ\"\nnode = 28"),
        "my.toml:23: `array.mac.node` is a integer; it must be a text"
    );
    assert_eq!(
        error("title = \"a table of one's own\"\nnode = \"28nm\"", "title = \"t\"\nnode = \"28 um\""),
        "my.toml:3: `node` is `28 um`; it must be nanometres, such as \"45nm\", or \"off-chip\""
    );
    assert_eq!(
        error("[array.mac]", "[array.mak]"),
        "my.toml:20: unknown key `array.mak`; known here: mac, zero_mac, register, register_row, weight_read, weight_write"
    );
    assert!(
        error("[sources]", "colour = \"red\"\n[sources]")
            .starts_with("my.toml:5: unknown key `colour`; known here: name, title")
    );
    assert_eq!(
        error("own = \"measured\"", "other = \"measured\""),
        "my.toml:32: `scratchpad.access.source` is `own`, which `sources` does not have; it has other"
    );
    assert!(error("base = 1.0\n", "").starts_with("my.toml:34: `accumulator.law.base` is missing: "));
    assert_eq!(
        error("capacity = \"column\"", "capacity = \"bank\""),
        "my.toml:38: `accumulator.law.capacity` is `bank`; it must be memory or column"
    );
    assert_eq!(
        error("width = 64", "width = 6.4"),
        "my.toml:27: `scratchpad.access.width` must be a whole number of bits, 1 to 65536"
    );
    assert!(
        error("[dram.write]", "[dram.read]").starts_with("my.toml:14: duplicate key"),
        "{}",
        error("[dram.write]", "[dram.read]")
    );
    assert!(error("name = \"small\"", "name = ").starts_with("my.toml:1: "));
}

#[test]
fn a_table_that_lacks_what_every_energy_needs_says_so() {
    let without = |section: &str| {
        let begin = SMALL.find(section).expect("a section");
        let end = SMALL[begin..].find("\n\n").map_or(SMALL.len(), |length| begin + length + 1);
        let text = format!("{}{}", &SMALL[..begin], &SMALL[end..]);
        EnergyTable::parse("my.toml", &text).expect_err(section).to_string()
    };
    assert_eq!(without("[dram.read]"), "my.toml:1: `dram.read` is missing: no energy means anything without it");
    assert_eq!(
        without("[scratchpad.access]"),
        "my.toml:1: `scratchpad` is missing: give `sram` for both memories, `scratchpad.law` or `scratchpad.access`"
    );
}

#[test]
fn points_are_checked_one_by_one() {
    let points = |points: &str| {
        let sram = format!(
            "[sram]\nnode = \"28nm\"\nsource = \"own\"\nenergy_unit = \"pJ\"\narea_unit = \"um2\"\nleakage_unit = \"mW\"\npoints = [\n{points}]\n"
        );
        let end = SMALL.find("[scratchpad.access]").expect("the memories");
        EnergyTable::parse("my.toml", &format!("{}{sram}", &SMALL[..end])).map_err(|error| error.to_string())
    };
    let point = "{ width = 128, kib = 64, read = 1, write = 2, area = 3, leakage = 0.1 },\n";
    assert!(points(point).is_ok());
    let negative = point.replace("write = 2", "write = -2");
    assert_eq!(
        points(&format!("{point}{}", negative.replace("64", "32"))).expect_err("negative"),
        "my.toml:34: `sram.points[1].write` is negative: -2"
    );
    assert_eq!(
        points(&point.repeat(2)).expect_err("twice"),
        "my.toml:34: `sram.points[1]` has the width and the size of a point before it"
    );
    assert_eq!(
        points(&point.replace("kib = 64", "kib = 0")).expect_err("zero"),
        "my.toml:33: `sram.points[0].kib` is 0; it must be above 0"
    );
    assert_eq!(points("").expect_err("none"), "my.toml:32: `sram.points` must be a list of points, one at least");
    let unused = SMALL.replace("[scratchpad.access]", &format!(
        "[sram]\nnode = \"28nm\"\nsource = \"own\"\nenergy_unit = \"pJ\"\narea_unit = \"um2\"\nleakage_unit = \"mW\"\npoints = [{point}]\n\n[scratchpad.access]"
    ).replace(",\n]", "]"));
    let error = EnergyTable::parse("my.toml", &unused).expect_err("both memories have their own").to_string();
    assert_eq!(error, "my.toml:26: `sram` has no effect: both memories have figures of their own");
}

#[test]
fn mixed_nodes_are_taken_if_the_table_says_why() {
    let mixed = SMALL.replace("title =", "mixed_nodes = \"the MAC is of another study\"\ntitle =");
    let mixed = mixed.replace("unit = \"fJ\"\nnode = \"28nm\"", "unit = \"fJ\"\nnode = \"45nm\"");
    let table = EnergyTable::parse("my.toml", &mixed).expect("a mixed table");
    assert_eq!(table.figures["array.mac"].node, Node::Nanometres(45));
    assert_eq!(table.mixed_nodes.as_deref(), Some("the MAC is of another study"));
}
