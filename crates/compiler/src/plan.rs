//! How each operation is to be run: schedules as data, and normalization on the accelerator or on the host.
//!
//! ```
//! use pollux_compiler::plan::{Placement, Plan};
//!
//! let plan = Plan::from_toml("
//!     normalization = 'auto'
//!     [operations.scores_softmax]
//!     normalization = 'host'
//!     [operations.'layer0.intermediate'.schedule]
//!     dataflow = 'ws'
//!     tile = { i = 1, j = 8, k = 24 }
//!     order = ['i', 'j', 'k']
//!     double_buffer = true
//!     emission = 'commands'
//! ")?;
//! assert_eq!(plan.placement("layer5.scores_softmax"), Placement::Host);
//! assert!(plan.schedule("layer0.intermediate").is_some() && plan.schedule("layer1.intermediate").is_none());
//! # Ok::<(), pollux_compiler::CompileError>(())
//! ```

use std::collections::BTreeMap;

use pollux_kernels::{ConvSchedule, Dataflow, Schedule};
use serde::{Deserialize, Serialize};

use crate::error::CompileError;

/// Where rows are normalized (softmax, LayerNorm).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// On the accelerator if it can do it, otherwise on the host.
    #[default]
    Auto,
    /// On the accelerator, fused with the product in front of it; an error if the hardware cannot do it.
    Accelerator,
    /// On the host.
    Host,
}

/// Choices for one operation; what is left out follows the plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OperationPlan {
    /// How its products are cut into tiles and emitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// How a convolution is cut into tiles and emitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub convolution: Option<ConvSchedule>,
    /// Where it normalizes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalization: Option<Placement>,
}

/// Choices for a whole model. The default is what Gemmini's own software does.
///
/// An operation is looked up by its full name (`layer3.query`), then by its part (`query`, for all layers).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// What stays in the array in products without a schedule; weight-stationary by default, if the build has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataflow: Option<Dataflow>,
    /// Where rows are normalized.
    pub normalization: Placement,
    /// Leave out blocks of weights that are all zero: neither loaded nor multiplied.
    pub skip_zero_tiles: bool,
    /// Do all max pooling as operations of their own, instead of in the stores of the convolution before.
    pub separate_pooling: bool,
    /// Exceptions by operation.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub operations: BTreeMap<String, OperationPlan>,
}

impl Plan {
    /// Reads a plan.
    ///
    /// # Errors
    /// Text that is no TOML, unknown fields or wrong values; the message has line and column.
    pub fn from_toml(text: &str) -> Result<Self, CompileError> {
        Ok(toml::from_str(text)?)
    }

    /// The choices for an operation.
    fn of(&self, operation: &str) -> Option<&OperationPlan> {
        self.operations.get(operation).or_else(|| self.operations.get(part(operation)))
    }

    /// The schedule that the plan gives an operation, if it does.
    pub fn schedule(&self, operation: &str) -> Option<Schedule> {
        self.of(operation).and_then(|plan| plan.schedule)
    }

    /// The tiles that the plan gives a convolution, if it does.
    pub fn convolution(&self, operation: &str) -> Option<ConvSchedule> {
        self.of(operation).and_then(|plan| plan.convolution)
    }

    /// Where an operation normalizes.
    pub fn placement(&self, operation: &str) -> Placement {
        self.of(operation).and_then(|plan| plan.normalization).unwrap_or(self.normalization)
    }

    /// Checks that every name in the plan is that of an operation.
    ///
    /// # Errors
    /// The first name that is not.
    pub fn check_names<'a>(&self, operations: impl Iterator<Item = &'a str> + Clone) -> Result<(), CompileError> {
        for name in self.operations.keys() {
            if !operations.clone().any(|operation| operation == name || part(operation) == name) {
                let mut known: Vec<&str> = operations.map(part).collect();
                known.sort_unstable();
                known.dedup();
                return Err(CompileError::UnknownOperation { name: name.clone(), known: known.join(", ") });
            }
        }
        Ok(())
    }
}

/// `PART` of `layerN.PART`.
pub(crate) fn part(operation: &str) -> &str {
    operation.rsplit('.').next().unwrap_or(operation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_a_file() {
        let mut plan = Plan { normalization: Placement::Host, skip_zero_tiles: true, ..Plan::default() };
        plan.operations
            .insert("query".into(), OperationPlan { normalization: Some(Placement::Auto), ..OperationPlan::default() });
        assert_eq!(Plan::from_toml(&toml::to_string(&plan).unwrap()).unwrap(), plan);
    }

    #[test]
    fn the_full_name_goes_before_the_part() {
        let plan = Plan::from_toml(
            "[operations.output_norm]\nnormalization = 'host'\n[operations.'layer1.output_norm']\nnormalization = 'accelerator'",
        );
        let plan = plan.unwrap();
        assert_eq!(plan.placement("layer0.output_norm"), Placement::Host);
        assert_eq!(plan.placement("layer1.output_norm"), Placement::Accelerator);
        assert_eq!(plan.placement("layer1.attention_norm"), Placement::Auto);
    }

    #[test]
    fn unknown_operations_and_fields_are_refused() {
        let plan = Plan::from_toml("[operations.qerry]\nnormalization = 'host'").unwrap();
        let message = plan.check_names(["layer0.query", "layer0.key"].into_iter()).unwrap_err().to_string();
        assert_eq!(message, "the plan names the operation `qerry`, which the model does not have; it has key, query");
        let message = Plan::from_toml("normalisation = 'host'").unwrap_err().to_string();
        assert!(message.contains("unknown field `normalisation`"), "{message}");
    }
}
