//! DOSA's mapping strings: `L3[WIO] K8 - L2[WI] N1 K16X - L1[O] K2 C4 P8 C16X - L0[W] P16`.

use super::{Dim, FormatError, LevelName, Nest, SpatialAxis};

/// Levels as the strings call them, outermost first.
const LEVELS: [(&str, &str); 4] = [("L3", "WIO"), ("L2", "WI"), ("L1", "O"), ("L0", "W")];

/// Reads a string.
///
/// # Errors
/// A level or a factor that is none, with its text.
pub fn parse(text: &str) -> Result<Nest, FormatError> {
    let parts: Vec<&str> = text.trim().split(" - ").map(str::trim).collect();
    if parts.len() != LEVELS.len() {
        return Err(FormatError::new(format!(
            "{} levels: expected L3, L2, L1 and L0, separated by ` - `",
            parts.len()
        )));
    }
    let mut nest = Nest::default();
    for ((part, (name, keeps)), level) in parts.iter().zip(LEVELS).zip(LevelName::ALL) {
        let mut words = part.split_whitespace();
        let head = words.next().unwrap_or_default();
        let kept =
            head.strip_prefix(name).and_then(|rest| rest.strip_prefix('[')).and_then(|rest| rest.strip_suffix(']'));
        let Some(kept) = kept else {
            return Err(FormatError::new(format!("`{head}`: expected {name}[{keeps}]")));
        };
        if kept.chars().any(|letter| !keeps.contains(letter)) {
            return Err(FormatError::new(format!("`{head}`: Gemmini keeps {keeps} at {name}")));
        }
        for word in words {
            let factor =
                || FormatError::new(format!("`{word}` at {name}: expected a dimension, a number and perhaps X or Y"));
            let mut letters = word.chars();
            let dim = letters.next().and_then(Dim::of).ok_or_else(factor)?;
            let rest = letters.as_str();
            // The strings have X for columns and for rows of the array.
            let axis = if level == LevelName::Accumulator { SpatialAxis::Y } else { SpatialAxis::X };
            let spatial = rest.ends_with(['X', 'Y']).then_some(axis);
            let digits = if spatial.is_some() { &rest[..rest.len() - 1] } else { rest };
            let size: usize = digits.parse().ok().filter(|size| *size > 0).ok_or_else(factor)?;
            nest.push(level, dim, size, 0, spatial);
        }
    }
    Ok(nest)
}

/// Writes a string. Ragged ends are left out: DOSA's programs run to the layer's end in any case.
pub fn text(nest: &Nest) -> String {
    let level = |((name, keeps), level): ((&str, &str), &super::Level)| {
        let mut words = vec![format!("{name}[{keeps}]")];
        let in_time = level.factors.iter().filter(|f| f.spatial.is_none());
        words.extend(in_time.map(|f| format!("{}{}", f.dim, f.size)));
        if words.len() == 1 {
            words.push("N1".to_owned());
        }
        let in_space = level.factors.iter().filter(|f| f.spatial.is_some());
        words.extend(in_space.map(|f| format!("{}{}X", f.dim, f.size)));
        words.join(" ")
    };
    LEVELS.into_iter().zip(&nest.levels).map(level).collect::<Vec<_>>().join(" - ")
}
