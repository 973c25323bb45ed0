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

use std::collections::{BTreeMap, BTreeSet};

use pollux_kernels::{ConvSchedule, Dataflow, Emission, Schedule};
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

/// Choices for one operation; what is left out follows the operation's part, then the plan.
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
    /// Do the max pooling behind a convolution as an operation of its own, instead of in its stores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub separate_pooling: Option<bool>,
}

impl OperationPlan {
    /// Whether products or convolutions are emitted as single commands.
    pub(crate) fn by_commands(&self) -> bool {
        let emissions = [self.schedule.map(|s| s.emission), self.convolution.map(|s| s.emission)];
        emissions.contains(&Some(Emission::Commands))
    }
}

/// Choices for a whole model. The default is what Gemmini's own software does.
///
/// Each choice for an operation is looked up by its full name (`layer3.query`), then by its part (`query`, for all layers).
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
    /// Products with one input that follow each other, by their names or parts: no fence stands between them, and what is in the
    /// scratchpad of their input stays there. Each needs a schedule in the unroller that keeps recent tiles.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub together: Vec<Vec<String>>,
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

    /// The plan as text.
    pub fn to_toml(&self) -> String {
        // A plan is made of tables, texts and numbers: nothing that TOML has not.
        toml::to_string(self).unwrap_or_default()
    }

    /// What the plan chooses for an operation, with the name under which it does.
    fn choose<T>(&self, operation: &str, choice: impl Fn(&OperationPlan) -> Option<T>) -> Option<(&str, T)> {
        [operation, part(operation)].into_iter().find_map(|name| {
            let (name, plan) = self.operations.get_key_value(name)?;
            Some((name.as_str(), choice(plan)?))
        })
    }

    /// The schedule that the plan gives an operation, if it does.
    pub fn schedule(&self, operation: &str) -> Option<Schedule> {
        self.choose(operation, |plan| plan.schedule).map(|(_, schedule)| schedule)
    }

    /// The tiles that the plan gives a convolution, if it does.
    pub fn convolution(&self, operation: &str) -> Option<ConvSchedule> {
        self.choose(operation, |plan| plan.convolution).map(|(_, schedule)| schedule)
    }

    /// The number of the group that an operation is done together with.
    pub fn group(&self, operation: &str) -> Option<usize> {
        let named = |name: &String| name == operation || name == part(operation);
        self.together.iter().position(|group| group.iter().any(named))
    }

    /// Where an operation normalizes.
    pub fn placement(&self, operation: &str) -> Placement {
        self.choose(operation, |plan| plan.normalization).map_or(self.normalization, |(_, placement)| placement)
    }
}

/// A choice that a plan makes for an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Choice {
    Schedule,
    Convolution,
    Normalization,
    Pooling,
}

impl Choice {
    const ALL: [Self; 4] = [Self::Schedule, Self::Convolution, Self::Normalization, Self::Pooling];

    fn is_in(self, plan: &OperationPlan) -> bool {
        match self {
            Self::Schedule => plan.schedule.is_some(),
            Self::Convolution => plan.convolution.is_some(),
            Self::Normalization => plan.normalization.is_some(),
            Self::Pooling => plan.separate_pooling.is_some(),
        }
    }

    /// The field, and which operations have it.
    fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::Schedule => (
                "schedule",
                "it is for products that the accelerator does in one go, not for sums, norms or convolutions",
            ),
            Self::Convolution => ("convolution", "it is for convolutions; those that are products have a `schedule`"),
            Self::Normalization => ("normalization", "it is for operations with a softmax or a LayerNorm"),
            Self::Pooling => {
                ("separate_pooling", "it is for convolutions whose stores can do the max pooling behind them")
            }
        }
    }
}

/// What lowering made of a plan, so that nothing in it is ignored.
#[derive(Clone, Debug, Default)]
pub struct PlanUse {
    operations: BTreeSet<String>,
    /// Names in the plan, with the choice that an operation took.
    taken: BTreeSet<(String, Choice)>,
    /// Groups of which two members were done together.
    groups: BTreeSet<usize>,
}

impl PlanUse {
    /// An operation exists.
    pub fn begin(&mut self, operation: &str) {
        self.operations.insert(operation.to_owned());
    }

    /// The schedule for a product, which is going to follow it.
    pub fn schedule(&mut self, plan: &Plan, operation: &str) -> Option<Schedule> {
        self.take(plan, operation, Choice::Schedule, |plan| plan.schedule)
    }

    /// The tiles for a convolution, which is going to follow them.
    pub fn convolution(&mut self, plan: &Plan, operation: &str) -> Option<ConvSchedule> {
        self.take(plan, operation, Choice::Convolution, |plan| plan.convolution)
    }

    /// Where an operation is going to normalize.
    pub fn placement(&mut self, plan: &Plan, operation: &str) -> Placement {
        let own = self.take(plan, operation, Choice::Normalization, |plan| plan.normalization);
        own.unwrap_or(plan.normalization)
    }

    /// Whether the pooling behind a convolution, whose stores could do it, is going to be an operation of its own.
    pub fn separate_pooling(&mut self, plan: &Plan, operation: &str) -> bool {
        self.begin(operation);
        let own = self.take(plan, operation, Choice::Pooling, |plan| plan.separate_pooling);
        own.unwrap_or(plan.separate_pooling)
    }

    /// Two members of a group have been done together.
    pub fn together(&mut self, group: usize) {
        self.groups.insert(group);
    }

    fn take<T>(
        &mut self,
        plan: &Plan,
        operation: &str,
        choice: Choice,
        value: impl Fn(&OperationPlan) -> Option<T>,
    ) -> Option<T> {
        let (name, value) = plan.choose(operation, value)?;
        self.taken.insert((name.to_owned(), choice));
        Some(value)
    }

    /// Adds what another part of the model made of the plan.
    pub fn extend(&mut self, other: &Self) {
        self.operations.extend(other.operations.iter().cloned());
        self.taken.extend(other.taken.iter().cloned());
        self.groups.extend(&other.groups);
    }

    /// Checks that every name in the plan is that of an operation, and that every choice was taken.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self, plan: &Plan) -> Result<(), CompileError> {
        plan.together.iter().flatten().try_for_each(|name| self.check_name(name))?;
        if let Some(idle) = (0..plan.together.len()).find(|group| !self.groups.contains(group)) {
            let operation = plan.together[idle].join(", ");
            let what = "the plan's `together` would be ignored: it is for plain products that follow each other and have \
                        one input";
            return Err(CompileError::Plan { operation, what: what.to_owned() });
        }
        for (name, choices) in &plan.operations {
            self.check_name(name)?;
            let idle = |choice: &Choice| choice.is_in(choices) && !self.taken.contains(&(name.clone(), *choice));
            if let Some(choice) = Choice::ALL.into_iter().find(idle) {
                let (field, purpose) = choice.describe();
                let what = format!("the plan's `{field}` would be ignored: {purpose}");
                return Err(CompileError::Plan { operation: name.clone(), what });
            }
        }
        Ok(())
    }

    /// Checks that an operation has this name, or its part.
    fn check_name(&self, name: &str) -> Result<(), CompileError> {
        if self.operations.iter().any(|operation| operation == name || part(operation) == name) {
            return Ok(());
        }
        let known: BTreeSet<&str> = self.operations.iter().map(|operation| part(operation)).collect();
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        Err(CompileError::UnknownOperation { name: name.to_owned(), known })
    }
}

/// `PART` of `layerN.PART`.
pub fn part(operation: &str) -> &str {
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
    fn a_choice_that_is_left_out_follows_the_part() {
        let plan = Plan::from_toml("[operations.norm]\nnormalization = 'host'\n[operations.'layer1.norm']").unwrap();
        assert_eq!(plan.placement("layer1.norm"), Placement::Host);
    }

    #[test]
    fn choices_that_no_operation_takes_are_refused() {
        let plan = Plan::from_toml("[operations.query]\nnormalization = 'host'").unwrap();
        let mut plan_use = PlanUse::default();
        plan_use.begin("layer0.query");
        assert_eq!(plan_use.schedule(&plan, "layer0.query"), None);
        let message = plan_use.check(&plan).unwrap_err().to_string();
        assert_eq!(
            message,
            "operation `query`: the plan's `normalization` would be ignored: it is for operations with a softmax or a LayerNorm"
        );
        assert_eq!(plan_use.placement(&plan, "layer0.query"), Placement::Host);
        plan_use.check(&plan).unwrap();
    }

    #[test]
    fn unknown_operations_and_fields_are_refused() {
        let plan = Plan::from_toml("[operations.qerry]\nnormalization = 'host'").unwrap();
        let mut plan_use = PlanUse::default();
        ["layer0.query", "layer0.key"].into_iter().for_each(|operation| plan_use.begin(operation));
        let message = plan_use.check(&plan).unwrap_err().to_string();
        assert_eq!(message, "the plan names the operation `qerry`, which the model does not have; it has key, query");
        let message = Plan::from_toml("normalisation = 'host'").unwrap_err().to_string();
        assert!(message.contains("unknown field `normalisation`"), "{message}");
    }
}
