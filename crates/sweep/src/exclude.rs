//! Combinations that are left out.

use crate::error::SweepError;
use crate::point::Point;
use crate::source::{Section, Source};

/// The points that no `[[exclude]]` names.
///
/// # Errors
/// A key that no point has, or a section that leaves out nothing.
pub fn apply(source: &Source, mut points: Vec<Point>) -> Result<Vec<Point>, SweepError> {
    for section in source.sections("exclude") {
        let before = points.len();
        check_keys(section, &points)?;
        points.retain(|point| !matches(section, point));
        if points.len() == before {
            return Err(section.error("", "no point is like that: leave it out, or correct it"));
        }
    }
    match points.is_empty() {
        true => Err(source.top.error("exclude", "every point is left out")),
        false => Ok(points),
    }
}

fn check_keys(section: &Section, points: &[Point]) -> Result<(), SweepError> {
    if section.entries().is_empty() {
        return Err(section.error("", "it is empty, which would leave out every point: name what it leaves out"));
    }
    for entry in section.entries() {
        if !points.iter().any(|point| point.get(&entry.key).is_some()) {
            let mut known: Vec<&str> = vec!["work", "config", "memory", "mapping"];
            for (name, _) in points.iter().flat_map(Point::parameters) {
                if !known.contains(&name.as_str()) {
                    known.push(name);
                }
            }
            return Err(section.error(&entry.key, format!("no point has it: there are {}", known.join(", "))));
        }
    }
    Ok(())
}

/// Whether every key of the section has one of its values in the point.
fn matches(section: &Section, point: &Point) -> bool {
    section.entries().iter().all(|entry| point.get(&entry.key).is_some_and(|value| entry.values.contains(&value)))
}
