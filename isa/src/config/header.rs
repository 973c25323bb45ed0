//! Reading the `gemmini_params.h` that the generator writes for C programs (`generateHeader`, `GemminiConfigs.scala`).

mod expression;
mod preprocessor;

use super::{Capacity, ConfigError, ConfigFile, GemminiConfig, Opcode, SInt, ValidConfig};
use preprocessor::Header;

/// C's integer types and their widths on the RISC-V hosts (LP64).
const C_TYPES: [(&str, u32); 10] = [
    ("int8_t", 8),
    ("int16_t", 16),
    ("int32_t", 32),
    ("int64_t", 64),
    ("signed char", 8),
    ("short", 16),
    ("int", 32),
    ("long", 64),
    ("long long", 64),
    ("signed", 32),
];

impl GemminiConfig {
    /// Reads a `gemmini_params.h`: DIM, bank and row counts, element types, the opcode, the presence of the scalers, of
    /// the accumulator's read widths, of first-layer optimizations and of normalizations. The header says nothing about
    /// the other fields; they have the values of `default16`, two banks for the accumulator among them. The name is made
    /// of the digest.
    ///
    /// # Errors
    /// A macro is missing or has an unusable value, or the result is not consistent.
    pub fn from_params_h(text: &str) -> Result<ValidConfig, ConfigError> {
        ConfigFile::from_params_h(text)?.config()
    }
}

impl ConfigFile {
    /// Reads a header.
    pub(super) fn from_params_h(text: &str) -> Result<Self, ConfigError> {
        let header = Header::parse(text)?;
        if let (None, Some(other)) = (header.definition("DIM"), header.includes.first()) {
            let remedy = format!("give the header that it includes, `{other}`");
            return Err(ConfigError::Placeholder { what: "a header that only includes another one", remedy });
        }
        Reader { header, config: GemminiConfig::default16(), read: Vec::new() }.finish()
    }
}

/// Takes over one macro after the other, and notes which fields the header gives.
struct Reader {
    header: Header,
    config: GemminiConfig,
    read: Vec<&'static str>,
}

impl Reader {
    fn finish(mut self) -> Result<ConfigFile, ConfigError> {
        self.array_and_memories()?;
        self.types()?;
        self.options()?;
        self.config.name = String::new();
        let base = Some(GemminiConfig::default16());
        Ok(ConfigFile { record: self.config, read: self.read, base, stem: "gemmini_params".to_owned() })
    }

    fn array_and_memories(&mut self) -> Result<(), ConfigError> {
        let number = |name| self.header.number(name)?.ok_or(ConfigError::HeaderMissing(name));
        let (dim, acc_rows, banks) = (number("DIM")?, number("ACC_ROWS")?, number("BANK_NUM")?);
        let sp_rows = u64::from(banks) * u64::from(number("BANK_ROWS")?);
        let matrices = |rows: u64| {
            let n = rows.checked_div(dim.into()).unwrap_or(0);
            Capacity::Matrices(u32::try_from(n).unwrap_or(u32::MAX))
        };
        let config = &mut self.config;
        (config.mesh_rows, config.mesh_columns, config.sp_banks) = (dim, dim, banks);
        (config.sp_capacity, config.acc_capacity) = (matrices(sp_rows), matrices(acc_rows.into()));
        self.read.extend(["mesh_rows", "mesh_columns", "sp_banks", "sp_capacity", "acc_capacity"]);
        Ok(())
    }

    fn types(&mut self) -> Result<(), ConfigError> {
        if let Some(input) = self.element("elem_t")? {
            let config = &mut self.config;
            (config.input_type, config.weight_type) = (input, input);
            (config.spatial_array_input_type, config.spatial_array_weight_type) = (input, input);
            self.read.extend(["input_type", "weight_type"]);
        }
        if let Some(acc) = self.element("acc_t")? {
            self.config.acc_type = acc;
            self.read.push("acc_type");
        }
        Ok(())
    }

    fn options(&mut self) -> Result<(), ConfigError> {
        if let Some(opcode) = self.opcode()? {
            self.config.opcodes = opcode;
            self.read.push("opcodes");
        }
        if let Some(bytes) = self.header.number("MAX_BYTES")? {
            self.config.dma_maxbytes = bytes;
            self.read.push("dma_maxbytes");
        }
        let has = |name| self.header.definition(name).is_some();
        let config = &mut self.config;
        let scaler = config.mvin_scale_args;
        config.mvin_scale_args = scaler.filter(|_| has("HAS_MVIN_SCALE"));
        config.mvin_scale_acc_args = scaler.filter(|_| has("HAS_MVIN_ACC_SCALE"));
        config.acc_read_full_width = has("ACC_READ_FULL_WIDTH");
        config.acc_read_small_width = has("ACC_READ_SMALL_WIDTH");
        config.has_first_layer_optimizations = has("HAS_FIRST_LAYER_OPTIMIZATIONS");
        config.has_normalizations = has("HAS_NORMALIZATIONS");
        self.read.extend([
            "mvin_scale_args",
            "mvin_scale_acc_args",
            "acc_read_full_width",
            "acc_read_small_width",
            "has_first_layer_optimizations",
            "has_normalizations",
        ]);
        Ok(())
    }

    fn element(&self, name: &'static str) -> Result<Option<SInt>, ConfigError> {
        let Some(value) = self.header.types.get(name) else { return Ok(None) };
        match C_TYPES.iter().find(|(c_type, _)| c_type == value) {
            Some((_, bits)) => Ok(Some(SInt::new(*bits))),
            None => Err(ConfigError::HeaderValue {
                name: name.to_owned(),
                value: value.clone(),
                expected: "a signed integer type such as int8_t (float builds are not supported)".to_owned(),
            }),
        }
    }

    fn opcode(&self) -> Result<Option<Opcode>, ConfigError> {
        let Some(number) = self.header.number("XCUSTOM_ACC")? else { return Ok(None) };
        match Opcode::ALL.get(number as usize) {
            Some(opcode) => Ok(Some(*opcode)),
            None => Err(ConfigError::HeaderValue {
                name: "XCUSTOM_ACC".to_owned(),
                value: number.to_string(),
                expected: "0 to 3".to_owned(),
            }),
        }
    }
}
