//! From a float32 network and an input to a result with its accuracy and cycles: what `pollux model` does with graphs.

use std::collections::BTreeMap;

use pollux_isa::GemminiConfig;
use pollux_model::GraphModel;
use pollux_model::graph::{
    Array, EdgeId, Graph, GraphOptions, IntegerGraph, IntegerOperation, Operator, Source, Step, Tensors, evaluate,
};
use pollux_model::quality::Quality;
use pollux_model::report::StepQuality;
use serde::Serialize;

use super::{CompiledGraph, compile};
use crate::error::CompileError;
use crate::execute::{CycleSetup, Mismatch, Position, mismatches};
use crate::plan::Plan;
use crate::random::Random;
use crate::report::{Report, run_reported};

/// A network in INT8, and in float32 if that is at hand.
#[derive(Clone, Debug)]
pub struct GraphPair {
    /// float32, for comparison; a file of a quantised network does not have it.
    pub float: Option<GraphModel>,
    /// INT8.
    pub quantised: IntegerGraph,
}

/// A network's inputs by name.
pub type Inputs = BTreeMap<String, Array>;

/// Pseudo-random inputs for every input of a network: whole numbers below the rows of the table that they are looked up in, or
/// numbers in [-1, 1).
pub fn random_inputs(graph: &Graph, seed: u64) -> Inputs {
    let mut random = Random::new(seed);
    let rows = looked_up(graph);
    let mut array = |id: EdgeId| {
        let value = || match rows.get(&id) {
            Some(&rows) => (random.bits() % rows as u64) as f32,
            None => (random.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0,
        };
        let edge = graph.edge(id);
        (edge.name.clone(), Array::new(&edge.shape, std::iter::repeat_with(value).take(edge.elements()).collect()))
    };
    graph.inputs().map(&mut array).collect()
}

/// Inputs that are indices, and the rows of their tables.
fn looked_up(graph: &Graph) -> BTreeMap<EdgeId, usize> {
    let mut rows = BTreeMap::new();
    for node in &graph.nodes {
        let (indices, rows_here) = match node.operator {
            Operator::Embedding { .. } => (node.inputs[0], graph.edge(node.inputs[1]).shape[0]),
            Operator::Gather { axis } => (node.inputs[1], graph.edge(node.inputs[0]).shape[axis]),
            _ => continue,
        };
        let mut edge = indices;
        while let Source::Node(id) = graph.edge(edge).source {
            edge = graph.node(id).inputs[0];
        }
        let least = rows.entry(edge).or_insert(rows_here);
        *least = rows_here.min(*least);
    }
    rows
}

fn borrowed(inputs: &Inputs) -> BTreeMap<&str, Array> {
    inputs.iter().map(|(name, array)| (name.as_str(), array.clone())).collect()
}

impl GraphPair {
    /// Quantises a network with ranges from float32 runs on samples.
    ///
    /// # Errors
    /// No sample or one that does not fit, or a node without integer form.
    pub fn quantise(float: GraphModel, samples: &[Inputs], options: &GraphOptions) -> Result<Self, CompileError> {
        let samples: Vec<_> = samples.iter().map(borrowed).collect();
        let quantised = IntegerGraph::build(&float, &samples, options)?;
        Ok(Self { float: Some(float), quantised })
    }

    /// Each operation of the integer reference against float32.
    ///
    /// # Errors
    /// Inputs that do not fit.
    pub fn quality(&self, inputs: &Inputs) -> Result<Vec<StepQuality>, CompileError> {
        let tensors = self.quantised.execute(&self.quantised.quantise_inputs(&borrowed(inputs))?)?;
        Ok(self.quantised.quality(&tensors, &self.evaluate(inputs)?))
    }

    /// Every tensor of the float32 network, if that is at hand.
    fn evaluate(&self, inputs: &Inputs) -> Result<BTreeMap<EdgeId, Array>, CompileError> {
        Ok(self.float.as_ref().map(|model| evaluate(model, &borrowed(inputs))).transpose()?.unwrap_or_default())
    }

    /// An input in the network's units.
    ///
    /// # Errors
    /// Inputs that do not fit.
    pub fn quantise_inputs(&self, inputs: &Inputs) -> Result<Tensors, CompileError> {
        Ok(self.quantised.quantise_inputs(&borrowed(inputs))?)
    }

    /// Lowers the network for an input; the integer reference's tensors are the buffers' expected contents.
    ///
    /// # Errors
    /// Inputs that do not fit, and those of [`compile`].
    pub fn lower(&self, inputs: &Inputs, config: GemminiConfig, plan: &Plan) -> Result<LoweredGraph, CompileError> {
        let int8 = self.quantised.quantise_inputs(&borrowed(inputs))?;
        let mut graph = compile(config, plan, &self.quantised, &int8)?;
        let reference = self.quantised.execute(&int8)?;
        let tensors = graph.expect(&reference)?;
        Ok(LoweredGraph { graph, reference, tensors })
    }

    /// Runs an input; with a setup cycle by cycle.
    ///
    /// # Errors
    /// Those of [`GraphPair::lower`], and of the run.
    pub fn run(
        &self,
        inputs: &Inputs,
        config: GemminiConfig,
        plan: &Plan,
        setup: Option<&CycleSetup>,
        progress: &mut dyn FnMut(Position),
    ) -> Result<GraphRun, CompileError> {
        self.run_lowered(self.lower(inputs, config, plan)?, inputs, setup, progress)
    }

    /// Runs what is lowered for an input; with a setup cycle by cycle.
    ///
    /// # Errors
    /// Those of the run.
    pub fn run_lowered(
        &self,
        lowered: LoweredGraph,
        inputs: &Inputs,
        setup: Option<&CycleSetup>,
        progress: &mut dyn FnMut(Position),
    ) -> Result<GraphRun, CompileError> {
        let LoweredGraph { graph, tensors, .. } = lowered;
        let (memory, report) = run_reported(&self.quantised.graph.name, &graph.compiled, setup, progress)?;
        let (mismatches, _) = mismatches(&graph.compiled.program, &memory);
        let float = self.evaluate(inputs)?;
        let found: Tensors = graph.tensors.keys().filter_map(|&e| Some((e, graph.read(&memory, e)?))).collect();
        let layers = self.layers(&graph, report.as_ref(), &self.quantised.quality(&found, &float));
        let outputs = self.quantised.graph.outputs.iter().filter_map(|edge| {
            let array = self.quantised.real_values(*edge, &|edge| found.get(&edge).cloned())?;
            let cosine = float.get(edge).map(|float| Quality::of(&array.data, &float.data).cosine);
            let name = self.quantised.graph.edge(*edge).name.clone();
            Some(GraphOutput { name, shape: array.shape, cosine, values: array.data })
        });
        Ok(GraphRun { outputs: outputs.collect(), tensors, mismatches, layers, report })
    }

    fn layers(&self, graph: &CompiledGraph, report: Option<&Report>, qualities: &[StepQuality]) -> Vec<LayerRun> {
        let layer = |step: &Step| {
            let operations = graph.operations.get(&step.output).filter(|operations| !operations.is_empty())?;
            let figures = report.map(|report| &report.operations[operations.clone()]);
            // A pooling in the stores of a convolution is that operation's.
            let last = &graph.compiled.operations[operations.end - 1].name;
            Some(LayerRun {
                name: if *last == step.name || matches!(step.operation, IntegerOperation::Encoder { .. }) {
                    step.name.clone()
                } else {
                    format!("{last} + {}", step.name)
                },
                operation: step.operation.name(),
                host: graph.compiled.operations[operations.end - 1].host.is_some(),
                cycles: figures.map(|figures| figures.iter().map(|o| o.figures.cycles).sum()),
                quality: qualities.iter().find(|quality| quality.name == step.name).map(|quality| quality.quality),
            })
        };
        self.quantised.steps.iter().filter_map(layer).collect()
    }
}

/// A network as commands, with the integer reference.
#[derive(Clone, Debug)]
pub struct LoweredGraph {
    /// The commands.
    pub graph: CompiledGraph,
    /// The integer reference.
    pub reference: Tensors,
    /// Tensors that a run is compared in.
    pub tensors: usize,
}

/// What a run gave.
#[derive(Clone, Debug, Serialize)]
pub struct GraphRun {
    /// The results.
    pub outputs: Vec<GraphOutput>,
    /// Tensors that were compared with the integer reference.
    pub tensors: usize,
    /// Those that differ.
    pub mismatches: Vec<Mismatch>,
    /// The operations.
    pub layers: Vec<LayerRun>,
    /// Cycles, if they were simulated.
    pub report: Option<Report>,
}

impl GraphRun {
    /// Cosine of the first result and float32's, if that is at hand.
    pub fn cosine(&self) -> Option<f64> {
        self.outputs.first().and_then(|output| output.cosine)
    }

    /// Share of the cycles in which the host works, 0 to 1, if they were simulated.
    pub fn host_share(&self) -> Option<f64> {
        let total = &self.report.as_ref()?.total;
        Some(total.host_cycles as f64 / total.cycles.max(1) as f64)
    }
}

/// One result.
#[derive(Clone, Debug, Serialize)]
pub struct GraphOutput {
    /// Name.
    pub name: String,
    /// Size of each dimension.
    pub shape: Vec<usize>,
    /// Cosine with float32.
    pub cosine: Option<f64>,
    /// Real values, row-major.
    pub values: Vec<f32>,
}

/// One operation of a run.
#[derive(Clone, Debug, Serialize)]
pub struct LayerRun {
    /// Its name; of two that are one in the program, `FIRST + SECOND`.
    pub name: String,
    /// What it does.
    pub operation: &'static str,
    /// Whether the host does it.
    pub host: bool,
    /// Cycles of all commands that make it, if they were simulated.
    pub cycles: Option<u64>,
    /// Its result against float32, errors of the operations before it included.
    #[serde(flatten)]
    pub quality: Option<Quality>,
}
