//! "Did you mean": the known name that is closest to an unknown one.

/// Longest name that is worth a suggestion; comparing takes the product of two lengths.
const MAX_LETTERS: usize = 64;

/// Help that names the closest candidate, if one is close enough to be meant. Upper and lower case are the same.
pub(crate) fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let letters = name.chars().count();
    if letters > MAX_LETTERS {
        return None;
    }
    // A third of the letters may be wrong.
    let limit = letters / 3;
    let candidates = candidates.into_iter().filter(|candidate| candidate.len() <= 2 * MAX_LETTERS);
    let closest = candidates.map(|candidate| (distance(name, candidate), candidate)).min()?;
    (closest.0 <= limit).then(|| format!("did you mean `{}`?", closest.1))
}

/// Edits (insert, delete, replace or swap neighbours of any case) from one name to the other.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (lower(from), lower(to));
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for i in 0..from.len() {
        let mut row = vec![i + 1];
        for j in 0..to.len() {
            let replaced = last[j] + usize::from(from[i] != to[j]);
            let mut edits = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && from[i] == to[j - 1] && from[i - 1] == to[j] {
                edits = edits.min(before_last[j - 1] + 1);
            }
            row.push(edits);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

fn lower(name: &str) -> Vec<char> {
    name.to_lowercase().chars().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (from, to, edits) in
            [("", "", 0), ("mvin", "MVIN", 0), ("mvni", "mvin", 1), ("mvin", "mvout", 3), ("a", "", 1)]
        {
            assert_eq!(distance(from, to), edits, "{from} {to}");
        }
    }

    #[test]
    fn only_a_close_name_is_suggested() {
        assert_eq!(did_you_mean("prelaod", ["mvin", "preload"]), Some("did you mean `preload`?".to_owned()));
        assert_eq!(did_you_mean("x", ["mvin", "preload"]), None);
        assert_eq!(did_you_mean("x", []), None);
    }
}
