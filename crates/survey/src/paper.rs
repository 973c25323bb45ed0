//! The paper's numbers, and what counts as the same: `data/paper.toml`, or a file of the user's in the same form.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The numbers that come with Pollux.
const PAPER: &str = include_str!("../data/paper.toml");

/// What the paper says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paper {
    /// Which paper.
    pub title: String,
    /// Its statements.
    pub claims: Vec<Claim>,
}

/// One statement, or several of a kind.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// `STUDY.NAME`: what a study measures has the same name.
    pub id: String,
    /// Section, figure or table.
    pub section: String,
    /// What it says.
    pub says: String,
    /// The numbers, in the order in which the study measures them.
    pub values: Vec<f64>,
    /// Their unit.
    #[serde(default)]
    pub unit: String,
    /// When a measured number is the same.
    #[serde(default)]
    pub rule: Rule,
    /// How far it may be from the paper's: a relative distance, a factor or a distance, as the rule says.
    #[serde(default)]
    pub within: f64,
    /// Whether it can be tested in the reduced form, which has other sizes than the paper.
    #[serde(default)]
    pub any_size: bool,
    /// Where the sign turns: 0 for changes in percent, 1 for ratios; none where there is no sign to speak of.
    pub neutral: Option<f64>,
    /// What one has to know beside it; for what cannot be tested, why not.
    #[serde(default)]
    pub note: String,
}

/// When a measured number counts as the paper's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// It is so near, relatively.
    #[default]
    Near,
    /// It is at most this factor larger or smaller.
    Factor,
    /// It is so near, in the unit.
    Points,
    /// It is at least that, less the distance.
    AtLeast,
    /// It is at most that, and the distance.
    AtMost,
    /// Nothing here can say.
    Untestable,
}

/// Why a file is not a paper's numbers.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PaperError {
    /// It is no TOML of this form.
    #[error("{0}")]
    Toml(#[from] toml::de::Error),
    /// A statement that cannot be compared with anything.
    #[error("claim `{id}`: {what}")]
    Claim {
        /// Which.
        id: String,
        /// What is wrong.
        what: String,
    },
}

impl Paper {
    /// The numbers that come with Pollux.
    ///
    /// # Errors
    /// None, as a test shows.
    pub fn built_in() -> Result<Self, PaperError> {
        Self::parse(PAPER)
    }

    /// Reads numbers.
    ///
    /// # Errors
    /// Text that is no TOML of this form, and statements without numbers, with numbers that are none, or under a name that is taken.
    pub fn parse(text: &str) -> Result<Self, PaperError> {
        let paper: Self = toml::from_str(text)?;
        for (index, claim) in paper.claims.iter().enumerate() {
            let wrong = |what: &str| Err(PaperError::Claim { id: claim.id.clone(), what: what.to_owned() });
            if paper.claims[..index].iter().any(|other| other.id == claim.id) {
                return wrong("there is another one with this id: rename one of them");
            }
            if claim.values.iter().chain([&claim.within]).any(|value| !value.is_finite()) {
                return wrong("every number must be finite");
            }
            if claim.values.is_empty() && claim.rule != Rule::Untestable {
                return wrong("`values` is empty: give the paper's numbers, or the rule `untestable`");
            }
            if claim.rule == Rule::Factor && (claim.within < 1.0 || claim.values.iter().any(|value| *value <= 0.0)) {
                return wrong("the rule `factor` needs `within` of at least 1 and numbers above 0");
            }
            if claim.within < 0.0 {
                return wrong("`within` is below 0");
            }
            if claim.rule == Rule::Untestable && claim.note.is_empty() {
                return wrong("say in `note` why it cannot be tested");
            }
        }
        Ok(paper)
    }

    /// The statements about a study.
    pub fn of<'a>(&'a self, study: &'a str) -> impl Iterator<Item = &'a Claim> {
        self.claims.iter().filter(move |claim| claim.study() == study)
    }
}

impl Claim {
    /// The study that it belongs to.
    pub fn study(&self) -> &str {
        self.id.split('.').next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_numbers_are_well_formed() {
        let paper = Paper::built_in().unwrap();
        assert!(paper.claims.len() > 30);
        assert!(paper.claims.iter().all(|claim| claim.id.contains('.') && !claim.section.is_empty()));
    }

    #[test]
    fn errors_name_the_claim_and_the_remedy() {
        let claim = |rest: &str| format!("title = 'x'\n[[claims]]\nid = 'a.b'\nsection = '1'\nsays = 's'\n{rest}");
        let error = |rest: &str| Paper::parse(&claim(rest)).unwrap_err().to_string();
        assert_eq!(
            error("values = []"),
            "claim `a.b`: `values` is empty: give the paper's numbers, or the rule `untestable`"
        );
        assert!(error("values = [1]\nrule = 'factor'").contains("`within` of at least 1"));
        assert!(error("values = [nan]").contains("finite"));
        assert!(error("values = [1]\nwithim = 3").contains("unknown field `withim`"));
        let twice = claim("values = [1]\n[[claims]]\nid = 'a.b'\nsection = '1'\nsays = 's'\nvalues = [1]");
        assert!(Paper::parse(&twice).unwrap_err().to_string().contains("another one"));
    }
}
