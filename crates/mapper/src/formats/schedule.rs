//! A mapping as TOML: `[schedule]` for a product, `[convolution]` for a convolution, with the fields that plans have.

use super::FormatError;
use crate::mapping::Mapping;

/// Reads a schedule.
///
/// # Errors
/// Text that is no TOML, unknown fields or wrong values; the message has line and column.
pub fn parse(text: &str) -> Result<Mapping, FormatError> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        FormatError::at(line, error.message().to_owned())
    })
}

/// Writes a schedule.
pub fn text(mapping: &Mapping) -> String {
    toml::to_string(mapping).unwrap_or_default()
}
