//! Timeloop's `map.txt`, as `src/mapping/nest.cpp` and `loop.cpp` of `NVlabs/timeloop` print it.

use std::fmt::Write;

use super::{Dim, FormatError, LevelName, Nest, SpatialAxis};

/// What ends the file.
const END: &str = "<< Compute >>";

/// Reads the file. Levels that Gemmini has not are an error.
///
/// # Errors
/// A line that is none of its grammar, with its number.
pub fn parse(text: &str) -> Result<Nest, FormatError> {
    let (mut nest, mut level, mut ended) = (Nest::default(), None, false);
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let bare = line.trim();
        if bare.is_empty() || bare.chars().all(|c| c == '-') {
            continue;
        }
        if bare == END || bare.trim_start_matches('|').trim() == END {
            ended = true;
            break;
        }
        match bare.strip_prefix('|') {
            Some(rest) => {
                let level = level.ok_or_else(|| FormatError::at(number, "a loop before the first level"))?;
                read_loop(&mut nest, level, rest.trim(), number)?;
            }
            None => {
                let name = bare.split([' ', '[']).next().unwrap_or(bare);
                let known = || {
                    FormatError::at(
                        number,
                        format!("level `{name}`: expected DRAM, Scratchpad, Accumulator or Registers"),
                    )
                };
                level = Some(LevelName::of(name).ok_or_else(known)?);
            }
        }
    }
    match ended {
        true => Ok(nest),
        false => Err(FormatError::new(format!("the file does not end with {END}"))),
    }
}

/// `for P in [0:8,2) (Spatial-X)`
fn read_loop(nest: &mut Nest, level: LevelName, text: &str, line: usize) -> Result<(), FormatError> {
    let wrong = || FormatError::at(line, format!("`{text}`: expected `for P in [0:8)`, perhaps with (Spatial-X)"));
    let rest = text.strip_prefix("for ").ok_or_else(wrong)?.trim_start();
    let (dim, rest) = rest.split_once(" in ").ok_or_else(wrong)?;
    let mut letters = dim.trim().chars();
    let dim = letters.next().and_then(Dim::of).filter(|_| letters.next().is_none()).ok_or_else(wrong)?;
    let (range, rest) = rest.trim().strip_prefix('[').and_then(|rest| rest.split_once(')')).ok_or_else(wrong)?;
    let (start, ends) = range.split_once(':').ok_or_else(wrong)?;
    let (end, residual) = ends.split_once(',').map_or((ends, None), |(end, residual)| (end, Some(residual)));
    let number = |text: &str| text.trim().parse::<usize>().map_err(|_| wrong());
    if number(start)? != 0 {
        return Err(wrong());
    }
    let (end, residual) = (number(end)?, residual.map_or(Ok(0), number)?);
    let spatial = match rest.trim() {
        "" => None,
        "(Spatial-X)" => Some(SpatialAxis::X),
        "(Spatial-Y)" => Some(SpatialAxis::Y),
        _ => return Err(wrong()),
    };
    if end == 0 || residual > end {
        return Err(FormatError::at(line, format!("`{text}`: {end} iterations, {residual} the last time")));
    }
    nest.push(level, dim, end, residual, spatial);
    Ok(())
}

/// Writes the file.
pub fn text(nest: &Nest) -> String {
    let (mut out, mut indent) = (String::new(), 0);
    for (level, name) in nest.levels.iter().zip(LevelName::ALL) {
        let heading = format!("{} [ {} ]", name.name(), name.keeps().join(" "));
        let _ = writeln!(out, "{heading}\n{}", "-".repeat(heading.len()));
        for factor in &level.factors {
            let residual = if factor.residual == factor.size { String::new() } else { format!(",{}", factor.residual) };
            let spatial = match factor.spatial {
                None => "",
                Some(SpatialAxis::X) => " (Spatial-X)",
                Some(SpatialAxis::Y) => " (Spatial-Y)",
            };
            let _ = writeln!(out, "| {:indent$}for {} in [0:{}{residual}){spatial}", "", factor.dim, factor.size);
            indent += 2;
        }
        out.push('\n');
    }
    let _ = writeln!(out, "{:indent$}{END}", "");
    out
}
