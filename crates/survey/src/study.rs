//! All studies by name.

use crate::paper::Paper;
use crate::report::StudyReport;
use crate::setting::{Setting, StudyError};
use crate::{baseline, chain, fusion, mapspace, models, nas, techniques, workload};

/// A study.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Study {
    /// Work, bytes, intensity.
    Workload,
    /// From an accelerator for convolutions to one for Transformers.
    Baseline,
    /// How many mappings are good.
    Mapspace,
    /// Products with their norms.
    Fusion,
    /// Performance models.
    Models,
    /// The networks of the architecture search.
    Nas,
    /// The product of all improvements.
    Chain,
    /// Techniques that need no other hardware.
    Techniques,
}

impl Study {
    /// All of them, in the paper's order.
    pub const ALL: [Self; 8] = [
        Self::Workload,
        Self::Baseline,
        Self::Mapspace,
        Self::Fusion,
        Self::Models,
        Self::Nas,
        Self::Chain,
        Self::Techniques,
    ];

    /// Name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::Baseline => "baseline",
            Self::Mapspace => "mapspace",
            Self::Fusion => "fusion",
            Self::Models => "models",
            Self::Nas => "nas",
            Self::Chain => "chain",
            Self::Techniques => "techniques",
        }
    }

    /// Title.
    pub fn title(self) -> &'static str {
        match self {
            Self::Workload => "Workload: operations, bytes, intensity",
            Self::Baseline => "Baseline: from convolutions to Transformers",
            Self::Mapspace => "Mapspace: how many mappings are good",
            Self::Fusion => "Fusion: a product and its norm",
            Self::Models => "Models: what they say and what is true",
            Self::Nas => "Architecture search: the price of the paper's networks",
            Self::Chain => "Chain: the 88.7 x",
            Self::Techniques => "Techniques: less work for the same hardware",
        }
    }

    /// Whether its numbers depend on the seed.
    pub fn draws(self) -> bool {
        !matches!(self, Self::Workload | Self::Baseline | Self::Chain)
    }

    /// Runs it.
    ///
    /// # Errors
    /// A run that fails.
    pub fn run(self, paper: &Paper, setting: &Setting<'_>) -> Result<StudyReport, StudyError> {
        let findings = match self {
            Self::Workload => workload::run(setting)?,
            Self::Baseline => baseline::run(setting)?,
            Self::Mapspace => mapspace::run(setting)?,
            Self::Fusion => fusion::run(setting)?,
            Self::Models => models::run(setting)?,
            Self::Nas => nas::run(setting)?,
            Self::Chain => chain::run(setting)?,
            Self::Techniques => techniques::run(setting)?,
        };
        Ok(findings.report(self.name(), self.title(), paper, setting))
    }
}
