//! The accuracy of each operation of a convolutional network.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::graph::evaluate::Array;
use crate::graph::network::EdgeId;
use crate::quantise::integer_graph::{IntegerGraph, Step, Tensors};
use crate::report::quality::Quality;

/// How far one tensor is from float32, the errors of all operations before it included.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepQuality {
    /// The step.
    pub name: String,
    /// Its operation.
    pub operation: &'static str,
    /// The comparison.
    #[serde(flatten)]
    pub quality: Quality,
}

impl IntegerGraph {
    /// Every step's result against float32; `values` are those of [`evaluate`](crate::graph::evaluate()) for the same inputs.
    pub fn quality(&self, tensors: &Tensors, values: &BTreeMap<EdgeId, Array>) -> Vec<StepQuality> {
        let quality = |step: &Step| {
            let found = self.real_values(step.output, &|edge| tensors.get(&edge).cloned())?;
            let quality = Quality::of(&found.data, &values.get(&step.output)?.data);
            Some(StepQuality { name: step.name.clone(), operation: step.operation.name(), quality })
        };
        self.steps.iter().filter_map(quality).collect()
    }
}
