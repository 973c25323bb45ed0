//! Reading the `gemmini_params.h` that the generator writes for C programs (`generateHeader`, `GemminiConfigs.scala`).

use std::collections::HashMap;

use super::{Capacity, ConfigError, ExpVariant, GemminiConfig, Opcode, SInt, ValidConfig};

/// Macros without arguments and type definitions of a header.
struct Header<'a> {
    macros: HashMap<&'a str, &'a str>,
    types: HashMap<&'a str, &'a str>,
}

impl<'a> Header<'a> {
    fn parse(text: &'a str) -> Self {
        let mut header = Header { macros: HashMap::new(), types: HashMap::new() };
        for line in text.lines().map(str::trim) {
            if let Some(definition) = line.strip_prefix("#define ") {
                let (name, value) = definition.split_once(char::is_whitespace).unwrap_or((definition, ""));
                header.macros.insert(name, value.split("//").next().unwrap_or_default().trim());
            } else if let Some(definition) = line.strip_prefix("typedef ")
                && let Some((ty, name)) = definition.trim_end_matches(';').rsplit_once(char::is_whitespace)
            {
                header.types.insert(name, ty.trim());
            }
        }
        header
    }

    fn number(&self, name: &'static str) -> Result<u32, ConfigError> {
        let value = *self.macros.get(name).ok_or(ConfigError::HeaderMissing(name))?;
        let error = || ConfigError::HeaderValue { name, value: value.to_owned(), expected: "a decimal number" };
        value.parse().map_err(|_| error())
    }

    fn element(&self, name: &'static str) -> Result<SInt, ConfigError> {
        let value = *self.types.get(name).ok_or(ConfigError::HeaderMissing(name))?;
        let bits = value.strip_prefix("int").and_then(|rest| rest.strip_suffix("_t")).and_then(|b| b.parse().ok());
        let expected = "a signed integer type such as int8_t (float builds are not supported)";
        bits.map(SInt::new).ok_or(ConfigError::HeaderValue { name, value: value.to_owned(), expected })
    }

    fn has(&self, name: &str) -> bool {
        self.macros.contains_key(name)
    }
}

impl GemminiConfig {
    /// Reads a `gemmini_params.h`: opcode, DIM, bank and row counts, element types, presence of the scalers, of the
    /// accumulator's read widths, of first-layer optimizations and of normalizations. The header says nothing about
    /// the other fields; they have the values of `default16`. The accumulator has two banks, and softmax is that of
    /// the revision 8c3f992.
    ///
    /// # Errors
    /// A macro or type is missing or has an unusable value, or the result is not consistent.
    pub fn from_params_h(text: &str) -> Result<ValidConfig, ConfigError> {
        let header = Header::parse(text);
        let base = Self::default16();
        let (dim, acc_rows, banks) = (header.number("DIM")?, header.number("ACC_ROWS")?, header.number("BANK_NUM")?);
        let sp_rows = u64::from(banks) * u64::from(header.number("BANK_ROWS")?);
        let matrices = |rows: u64| match rows.checked_div(dim.into()) {
            Some(n) => Capacity::Matrices(u32::try_from(n).unwrap_or(u32::MAX)),
            None => Capacity::Matrices(0),
        };
        let input_type = header.element("elem_t")?;
        let config = Self {
            name: "gemmini_params.h".to_owned(),
            opcodes: header.opcode()?,
            input_type,
            weight_type: input_type,
            spatial_array_input_type: input_type,
            spatial_array_weight_type: input_type,
            acc_type: header.element("acc_t")?,
            mesh_rows: dim,
            mesh_columns: dim,
            sp_banks: banks,
            sp_capacity: matrices(sp_rows),
            acc_capacity: matrices(acc_rows.into()),
            dma_maxbytes: header.number("MAX_BYTES")?,
            mvin_scale_args: base.mvin_scale_args.filter(|_| header.has("HAS_MVIN_SCALE")),
            mvin_scale_acc_args: base.mvin_scale_args.filter(|_| header.has("HAS_MVIN_ACC_SCALE")),
            acc_read_full_width: header.has("ACC_READ_FULL_WIDTH"),
            acc_read_small_width: header.has("ACC_READ_SMALL_WIDTH"),
            has_first_layer_optimizations: header.has("HAS_FIRST_LAYER_OPTIMIZATIONS"),
            has_normalizations: header.has("HAS_NORMALIZATIONS"),
            softmax_exp: ExpVariant::Polynomial8c3f992,
            ..base
        };
        config.validated()
    }
}

impl Header<'_> {
    fn opcode(&self) -> Result<Opcode, ConfigError> {
        let number = self.number("XCUSTOM_ACC")?;
        Opcode::ALL.get(number as usize).copied().ok_or(ConfigError::HeaderValue {
            name: "XCUSTOM_ACC",
            value: number.to_string(),
            expected: "0 to 3",
        })
    }
}
