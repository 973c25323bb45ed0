//! The manual's chapter on the instruction set is the generated one.

use std::path::Path;

use pollux_isa::{GemminiConfig, manual, table};

#[test]
fn the_manuals_chapter_is_generated_from_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/isa.md");
    let expected = manual::chapter(&GemminiConfig::default16());
    if std::env::var_os("POLLUX_UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &expected).unwrap();
    }
    let actual = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        actual == expected,
        "docs/src/isa.md is out of date: run `POLLUX_UPDATE_DOCS=1 cargo test -p pollux-isa --test manual`"
    );
}

#[test]
fn the_chapter_has_every_instruction_and_operand() {
    let chapter = manual::chapter(&GemminiConfig::small4());
    for spec in table::INSTRUCTIONS {
        let heading = format!("\n### `{}`\n", spec.mnemonic);
        let section = chapter.split(&heading).nth(1).unwrap_or_else(|| panic!("no section for {}", spec.mnemonic));
        for field in spec.fields {
            assert!(section.contains(&format!("| `{}` |", field.name)), "{}: {}", spec.mnemonic, field.name);
        }
    }
}

#[test]
fn limits_in_the_table_follow_the_configuration() {
    let row = |name: &str| {
        let text = table::markdown(&GemminiConfig::by_name(name).unwrap());
        let section = text.split("### `mvin`\n").nth(1).unwrap().to_owned();
        section.lines().find(|line| line.starts_with("| `rows`")).unwrap().to_owned()
    };
    let meaning = "Rows; not used by pooled and 1-D stores.";
    assert_eq!(row("default16"), format!("| `rows` | rs2\\[63:48\\] | 5 | 0 to 16 | required | {meaning} |"));
    assert_eq!(row("small4"), format!("| `rows` | rs2\\[63:48\\] | 3 | 0 to 4 | required | {meaning} |"));
}
