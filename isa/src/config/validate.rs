//! Which configurations can exist, which of them Pollux models, and why the others not.

use super::rules::{Rule, STAGES, Severity};
use super::{ConfigError, GemminiConfig, Reason, ValidConfig};

impl GemminiConfig {
    /// Checks the rules of the generator and the limits of the models: the one verdict on a configuration, whatever is
    /// to be done with it.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with all the broken rules.
    pub fn validate(&self) -> Result<(), ConfigError> {
        // A stage counts only if the ones before hold: its rules divide by their fields.
        let broken = STAGES.iter().map(|stage| self.broken(stage, Severity::Error));
        match broken.into_iter().find(|reasons| !reasons.is_empty()) {
            None => Ok(()),
            Some(reasons) => Err(ConfigError::Invalid { name: self.name.clone(), reasons }),
        }
    }

    fn broken(&self, stage: &[Rule], severity: Severity) -> Vec<Reason> {
        let rules = stage.iter().filter(|rule| (rule.severity)(self) == severity);
        let reasons = rules.flat_map(|rule| {
            let messages = (rule.complaints)(self).into_iter();
            messages.map(|message| Reason { source: rule.source, message })
        });
        reasons.collect()
    }
}

impl ValidConfig {
    /// Rules that the configuration breaks and is used all the same; see [`GemminiConfig::as_published`].
    pub fn warnings(&self) -> Vec<Reason> {
        STAGES.iter().flat_map(|stage| self.broken(stage, Severity::Warning)).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Source;
    use crate::config::rules::STAGES;

    #[test]
    fn every_rule_of_the_hardware_names_its_line() {
        for rule in STAGES.concat() {
            let (Source::Generator(line) | Source::Hardware(line) | Source::Lossy(line)) = rule.source else {
                continue;
            };
            let (file, number) = line.split_once(':').expect("FILE:LINE");
            assert!(file.ends_with(".scala") && number.parse::<u32>().is_ok(), "{line}");
        }
    }
}
