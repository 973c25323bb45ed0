//! [`ValidConfig`]: the only configuration that a machine is built from.

use std::convert::Infallible;
use std::ops::Deref;

use super::{ConfigError, GemminiConfig};

/// A configuration that has passed [`GemminiConfig::validate`]: the generator builds it and Pollux models it.
///
/// Programs, models and machines hold this type, so that no other configuration reaches them; it is read like the record
/// itself and cannot be changed. To vary one, take the record out, change it and have it checked again:
///
/// ```
/// use pollux_isa::GemminiConfig;
///
/// let norm16 = GemminiConfig::by_name("norm16")?;
/// let deeper = GemminiConfig { ld_queue_length: 16, ..norm16.into_inner() }.validated()?;
/// assert_eq!(deeper.dim(), 16);
/// # Ok::<(), pollux_isa::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ValidConfig(GemminiConfig);

impl GemminiConfig {
    /// The configuration as one that a machine can be built from.
    ///
    /// # Errors
    /// Those of [`GemminiConfig::validate`].
    pub fn validated(self) -> Result<ValidConfig, ConfigError> {
        self.validate()?;
        Ok(ValidConfig(self))
    }
}

impl ValidConfig {
    /// The record, to be changed.
    pub fn into_inner(self) -> GemminiConfig {
        self.0
    }
}

/// The generator's default, [`GemminiConfig::default16`].
impl Default for ValidConfig {
    fn default() -> Self {
        Self(GemminiConfig::default16())
    }
}

impl Deref for ValidConfig {
    type Target = GemminiConfig;

    fn deref(&self) -> &GemminiConfig {
        &self.0
    }
}

impl PartialEq<GemminiConfig> for ValidConfig {
    fn eq(&self, other: &GemminiConfig) -> bool {
        self.0 == *other
    }
}

impl TryFrom<GemminiConfig> for ValidConfig {
    type Error = ConfigError;

    fn try_from(config: GemminiConfig) -> Result<Self, ConfigError> {
        config.validated()
    }
}

/// What takes a `TryInto<ValidConfig>` takes a valid configuration, too, which cannot fail.
impl From<Infallible> for ConfigError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
