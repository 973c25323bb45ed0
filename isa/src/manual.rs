//! The manual's chapter on the instruction set, made from the table and from `manual.md`.

use std::fmt::Write as _;

use crate::config::GemminiConfig;
use crate::table;

/// The chapter, with the numbers of one configuration.
pub fn chapter(cfg: &GemminiConfig) -> String {
    let mut out = include_str!("manual.md").to_owned();
    let _ = write!(out, "\n## Instructions\n\nWidths and limits are those of `{}`.\n\n", cfg.name);
    out.push_str(&table::markdown(cfg));
    out.push_str(&widths());
    out
}

/// How the widths depend on the configuration, for the named ones.
fn widths() -> String {
    let configs = GemminiConfig::NAMES.map(GemminiConfig::by_name).into_iter().filter_map(Result::ok);
    let mut out = String::from("\n## What depends on the configuration\n\n");
    out.push_str("| configuration | DIM | scratchpad rows | accumulator rows | W | row count bits | column count bits | block stride bits |\n");
    out.push_str("|---|---|---|---|---|---|---|---|\n");
    for cfg in configs {
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} | {} | {} | {} | {} |",
            cfg.name,
            cfg.dim(),
            cfg.sp_rows(),
            cfg.acc_rows(),
            cfg.layout().max_addr_bits,
            cfg.mvin_rows_bits(),
            cfg.mvin_cols_bits(),
            cfg.block_stride_bits()
        );
    }
    out
}
