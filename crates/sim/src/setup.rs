//! Which configurations the cycle emulator models.

use pollux_isa::config::Dataflow;
use pollux_isa::{ConfigError, GemminiConfig};
use thiserror::Error;

use crate::dma::dma_parameters::{DmaParameters, UnsupportedDma};
use crate::parts::wires::MAX_BANKS;

/// Why a configuration cannot be simulated.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum SetupError {
    /// Gemmini cannot be built so.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Gemmini could, but the DMA's sizes are not modelled.
    #[error(transparent)]
    Dma(#[from] UnsupportedDma),
    /// Gemmini could, but the emulator does not model it.
    #[error("{field} is {value}: {reason}; choose {supported}")]
    Unsupported {
        /// Field of the configuration.
        field: &'static str,
        /// Its value.
        value: String,
        /// Why not.
        reason: &'static str,
        /// What is modelled.
        supported: &'static str,
    },
}

/// Whether the cycle emulator models a configuration.
///
/// # Errors
/// The first reason against it.
pub fn check(config: &GemminiConfig) -> Result<(), SetupError> {
    config.validate()?;
    DmaParameters::check(config)?;
    const BANKS: &str = "the emulator keeps one bit a bank in a 32-bit word";
    const ELEMENTS: &str = "the emulator computes on 8-bit inputs and a 32-bit accumulator only";
    const CLOCK: &str = "CLKGATE_EN would stop the clock of everything behind the command port, which the emulator does \
                         not model";
    const ROWS: &str = "a weight-stationary pass has at least 4 rows, more than Gemmini's row counter for this DIM holds, so \
                        that it never ends";
    let countable = config.dim() >= 4 || config.dataflow == Dataflow::Os;
    let limits = [
        ("mesh_rows * tile_rows", config.dim().to_string(), countable, ROWS, "4 to 64, or dataflow = \"os\""),
        ("clock_gate", config.clock_gate.to_string(), !config.clock_gate, CLOCK, "false"),
        ("input_type", config.input_type.to_string(), config.input_type.bits == 8, ELEMENTS, "SInt<8>"),
        ("acc_type", config.acc_type.to_string(), config.acc_type.bits == 32, ELEMENTS, "SInt<32>"),
        ("sp_banks", config.sp_banks.to_string(), config.sp_banks as usize <= MAX_BANKS, BANKS, "up to 32"),
        ("acc_banks", config.acc_banks.to_string(), config.acc_banks as usize <= MAX_BANKS, BANKS, "up to 32"),
    ];
    match limits.into_iter().find(|(_, _, modelled, ..)| !modelled) {
        Some((field, value, _, reason, supported)) => Err(SetupError::Unsupported { field, value, reason, supported }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pollux_isa::config::SInt;

    fn refusal(config: GemminiConfig) -> String {
        check(&config).expect_err("refused").to_string()
    }

    #[test]
    fn all_named_configurations_that_do_not_gate_the_clock_are_modelled() {
        for name in GemminiConfig::NAMES {
            let config = GemminiConfig { clock_gate: false, ..GemminiConfig::by_name(name).expect("a known name") };
            assert_eq!(check(&config), Ok(()), "{name}");
        }
    }

    #[test]
    fn a_gated_clock_is_refused_with_the_reason() {
        let text = refusal(GemminiConfig { clock_gate: true, ..GemminiConfig::default16() });
        assert_eq!(
            text,
            "clock_gate is true: CLKGATE_EN would stop the clock of everything behind the command port, which the \
             emulator does not model; choose false"
        );
    }

    #[test]
    fn other_element_widths_and_more_banks_are_refused() {
        let wide = SInt::new(16);
        let config = GemminiConfig {
            input_type: wide,
            weight_type: wide,
            spatial_array_input_type: wide,
            spatial_array_weight_type: wide,
            ..GemminiConfig::default16()
        };
        assert!(refusal(config).starts_with("input_type is SInt<16>: the emulator computes on 8-bit inputs"));
        let config = GemminiConfig { sp_banks: 64, ..GemminiConfig::default16() };
        assert!(refusal(config).starts_with("sp_banks is 64: the emulator keeps one bit a bank"));
    }

    #[test]
    fn an_array_of_two_rows_is_refused_unless_it_is_output_stationary() {
        let config = GemminiConfig::with_dim(2).expect("Gemmini can be built so");
        assert!(
            refusal(config.clone()).starts_with("mesh_rows * tile_rows is 2: a weight-stationary pass has at least 4")
        );
        assert_eq!(check(&GemminiConfig { dataflow: Dataflow::Os, ..config }), Ok(()));
    }

    #[test]
    fn sizes_of_the_dma_and_invalid_configurations_are_refused() {
        let config = GemminiConfig { max_in_flight_mem_reqs: 128, ..GemminiConfig::default16() };
        assert!(matches!(check(&config), Err(SetupError::Dma(_))));
        let config = GemminiConfig { sp_banks: 3, ..GemminiConfig::default16() };
        assert!(matches!(check(&config), Err(SetupError::Config(_))));
    }
}
