//! `pollux model` with networks: ONNX files, ResNet directories, and their quantised files.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use clap::Args;
use pollux_compiler::execute::CycleSetup;
use pollux_compiler::graph::pipeline::{GraphPair, GraphRun, Inputs, LoweredGraph, random_inputs};
use pollux_compiler::{CompileError, Compiled};
use pollux_model::GraphModel;
use pollux_model::calibrate::RangeMethod;
use pollux_model::graph::families::{ResNetConfig, resnet};
use pollux_model::graph::{Graph, GraphOptions, IntegerGraph, IntegerOperation, ReadOut, Step, inputs_from_bytes};
use pollux_model::onnx::ImportOptions;
use serde_json::{Value, json};

use super::{
    LoweringArguments, cycles_json, energy_json, energy_text, failure, quality_cells, save, totals, verdict,
    with_progress,
};
use crate::energy::{EnergyArguments, Pricing};
use crate::failure::{Failure, Outcome};
use crate::files::InputPath;
use crate::options::Subject;
use crate::output::{Output, grouped, table};
use crate::{program_file, progress, values};

/// The input of a convolutional network, and how it is quantised.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Networks (ONNX file or ResNet directory)")]
pub struct GraphArguments {
    /// Input: a safetensors file with a tensor for each input, or a NumPy file (.npy) with the only one; float32
    /// (`-`: standard input).
    #[arg(long, value_name = "FILE")]
    input: Option<InputPath>,
    /// Pseudo-random input of this seed instead; without either, of seed 1.
    #[arg(long, value_name = "SEED", conflicts_with = "input")]
    random_input: Option<u64>,
    /// Inputs on which ranges are measured, as --input; by default that input itself.
    #[arg(long, value_name = "FILE")]
    calibration_input: Vec<InputPath>,
    /// Range of activations: min-max, mse, or percentile=P with P in percent; min-max by default.
    #[arg(long, value_name = "METHOD")]
    range: Option<RangeMethod>,
    /// Output channels that share a scale of the weights, 1 or more; by default all of them.
    #[arg(long, value_name = "N", value_parser = values::count::<usize>())]
    channels_per_scale: Option<usize>,
    /// How products that only the host reads are read out: int8, int32, or int32-rows, with a scale for each row of what the host makes
    /// for them; int8 by default.
    #[arg(long, value_name = "FORMAT")]
    read_out: Option<ReadOut>,
    /// Rows and columns of a ResNet's image, 1 to 1048576; 224 by default.
    #[arg(long, value_name = "N", value_parser = values::size::<usize>())]
    image: Option<usize>,
    /// Size of a dimension that an ONNX file leaves open: by its name, or as INPUT.AXIS=SIZE (AXIS=SIZE for the only input).
    #[arg(long, value_name = "NAME=SIZE")]
    dimension: Vec<Dimension>,
    /// One value for all elements of an input of an ONNX file, such as an attention mask of 1: what follows from it is computed
    /// when the file is read. May be given several times.
    #[arg(long, value_name = "INPUT=VALUE")]
    fix: Vec<Fixed>,
    /// Measure the ranges of activations anew that an ONNX file has in formats without accelerator: uint8, or with a zero point.
    /// Otherwise such a file is refused.
    #[arg(long)]
    requantise: bool,
    /// Refuse the network if an operation is left to the host, and name all of them.
    #[arg(long)]
    require_accelerator: bool,
    /// Channels of encoder layers that are read out by themselves: an option of Transformers as well.
    #[arg(skip)]
    outlier_channels: Option<usize>,
}

/// `INPUT=VALUE`.
#[derive(Clone, Debug)]
struct Fixed(String, f64);

impl FromStr for Fixed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once('=').and_then(|(name, value)| Some(Self(name.to_owned(), value.parse().ok()?)));
        let parts = parts.filter(|Self(name, value)| !name.is_empty() && value.is_finite());
        parts.ok_or_else(|| format!("`{text}` is not INPUT=VALUE with a number, for example attention_mask=1"))
    }
}

/// `NAME=SIZE`.
#[derive(Clone, Debug)]
struct Dimension(String, usize);

impl FromStr for Dimension {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The name may hold a `=` itself.
        let parts = text.rsplit_once('=').and_then(|(name, size)| Some(Self(name.to_owned(), size.parse().ok()?)));
        let parts = parts.filter(|Self(name, size)| !name.is_empty() && *size > 0);
        parts.ok_or_else(|| format!("`{text}` is not NAME=SIZE with a size of at least 1, for example batch=1"))
    }
}

/// Images of a ResNet at once.
const IMAGES: usize = 1;
/// Rows and columns of an image, as of torchvision's models.
const IMAGE: usize = 224;
/// Seed of the input if none is given.
const SEED: u64 = 1;

/// The configuration that has most of what a network needs: normalizations if it has some, else pooling and depthwise
/// convolutions.
pub fn default_config(network: &IntegerGraph) -> &'static str {
    let normalizes = |step: &Step| {
        use IntegerOperation::{Attention, Encoder, Gelu, LayerNorm};
        matches!(step.operation, Attention { .. } | Encoder { .. } | Gelu { .. } | LayerNorm { .. })
    };
    if network.steps.iter().any(normalizes) { super::DEFAULT_CONFIG } else { "default16" }
}

/// What a path holds: an ONNX file by its name, a directory of weights with or without `config.json`, a quantised file
/// by its contents.
pub fn subject(path: &Path) -> Subject {
    let is = |name: &str| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(name));
    match () {
        () if is("onnx") => Subject::OnnxFile,
        () if is("gguf") => Subject::GgufFile,
        () if is_resnet(path) => Subject::ResnetDirectory,
        () if !path.is_file() => Subject::TransformerDirectory,
        () if quantised_file(path).is_some() => Subject::NetworkFile,
        () => Subject::TransformerFile,
    }
}

fn is_resnet(path: &Path) -> bool {
    path.join("model.safetensors").is_file() && !path.join("config.json").exists()
}

/// The contents of a quantised network's file; none if the path is something else.
fn quantised_file(path: &Path) -> Option<Vec<u8>> {
    let bytes = path.is_file().then(|| std::fs::read(path).ok()).flatten()?;
    IntegerGraph::is_file(&bytes).then_some(bytes)
}

fn read(graph: &Graph, path: &Path) -> Result<Inputs, Failure> {
    inputs_from_bytes(graph, &program_file::read(path)?, path).map_err(Failure::input)
}

impl GraphArguments {
    /// The same with a number of outlier channels.
    pub fn with_outlier_channels(&self, outlier_channels: Option<usize>) -> Self {
        Self { outlier_channels, ..self.clone() }
    }

    /// Range of activations, if it is given.
    pub fn range(&self) -> Option<RangeMethod> {
        self.range
    }

    /// The inputs of a network.
    fn inputs(&self, graph: &Graph) -> Result<Inputs, Failure> {
        match &self.input {
            Some(path) => read(graph, path),
            None => Ok(random_inputs(graph, self.random_input.unwrap_or(SEED))),
        }
    }

    fn float(&self, path: &Path) -> Result<GraphModel, Failure> {
        if is_resnet(path) {
            let config = ResNetConfig::from_directory(path, IMAGES, self.image.unwrap_or(IMAGE));
            return config.and_then(|config| GraphModel::load_resnet(path, &config)).map_err(Failure::input);
        }
        let mut dimensions = BTreeMap::new();
        for Dimension(name, size) in &self.dimension {
            if dimensions.insert(name.clone(), *size).is_some() {
                return Err(Failure::Usage(format!("--dimension gives `{name}` twice: give it once")));
            }
        }
        let mut inputs = BTreeMap::new();
        for Fixed(name, value) in &self.fix {
            if inputs.insert(name.clone(), *value).is_some() {
                return Err(Failure::Usage(format!("--fix gives `{name}` twice: give it once")));
            }
        }
        GraphModel::load_onnx(path, &ImportOptions { dimensions, inputs, requantise: self.requantise })
            .map_err(Failure::input)
    }

    /// Whether the network may be the host's in part.
    fn check(&self, lowered: &LoweredGraph) -> Result<(), Failure> {
        if self.require_accelerator { lowered.graph.require_accelerator().map_err(failure) } else { Ok(()) }
    }

    /// A network with its input; a float32 one is quantised.
    pub fn load(&self, path: &Path, out: &Output) -> Result<(GraphPair, Inputs), Failure> {
        if let Some(bytes) = quantised_file(path) {
            let graph = IntegerGraph::from_bytes(&bytes, &path.display().to_string()).map_err(Failure::input)?;
            let inputs = self.inputs(&graph.graph)?;
            return Ok((GraphPair { float: None, quantised: graph }, inputs));
        }
        let spinner = progress::spinner(out, "reading and quantising the network");
        let network = self.quantise(self.float(path)?)?;
        spinner.finish_and_clear();
        Ok(network)
    }
}

/// Name of the shape of ResNet-50.
pub const RESNET50: &str = "resnet50";

impl GraphArguments {
    /// ResNet-50 with pseudo-random weights, and its input.
    pub fn resnet50(&self, out: &Output) -> Result<(GraphPair, Inputs), Failure> {
        let spinner = progress::spinner(out, "quantising the network");
        let config = ResNetConfig { image: self.image.unwrap_or(IMAGE), ..ResNetConfig::resnet50() };
        let model = resnet(&config).and_then(|graph| GraphModel::synthetic(graph, SEED)).map_err(Failure::input)?;
        let network = self.quantise(model)?;
        spinner.finish_and_clear();
        Ok(network)
    }

    fn quantise(&self, model: GraphModel) -> Result<(GraphPair, Inputs), Failure> {
        let inputs = self.inputs(&model.graph)?;
        let samples = match &self.calibration_input[..] {
            [] => vec![inputs.clone()],
            files => files.iter().map(|file| read(&model.graph, file)).collect::<Result<_, _>>()?,
        };
        let options = GraphOptions {
            range: self.range.unwrap_or_default(),
            channels_per_scale: self.channels_per_scale.unwrap_or(0),
            read_out: self.read_out.unwrap_or_default(),
            outlier_channels: self.outlier_channels,
        };
        let pair = GraphPair::quantise(model, &samples, &options).map_err(failure)?;
        if self.outlier_channels.is_some() && !pair.quantised.has_encoder_layers() {
            let reason = "--outlier-channels is about the encoder layers of Transformers, of which this network has none: leave it out";
            return Err(Failure::Usage(reason.to_owned()));
        }
        Ok((pair, inputs))
    }
}

/// `pollux model quantize`
pub fn quantize(
    path: &Path,
    arguments: &GraphArguments,
    output: Option<&Path>,
    out: &Output,
) -> Result<Outcome, Failure> {
    let (pair, inputs) = arguments.load(path, out)?;
    if arguments.require_accelerator {
        pair.quantised.require_accelerator().map_err(|nodes| failure(CompileError::Host { nodes }))?;
    }
    let layers = pair.quality(&inputs).map_err(failure)?;
    if let Some(path) = output {
        out.write(path, &pair.quantised.to_bytes().map_err(Failure::input)?)?;
    }
    let mut rows = vec![["operation", "", "cosine", "max error", "SQNR dB"].map(str::to_owned).to_vec()];
    for layer in &layers {
        let [cosine, error, sqnr] = quality_cells(Some(&layer.quality));
        rows.push(vec![layer.name.clone(), layer.operation.to_owned(), cosine, error, sqnr]);
    }
    out.json(&json!({
        "model": pair.quantised.graph.name, "output": output, "parameters": pair.quantised.parameters(), "layers": layers,
    }))?;
    out.text(&table(&rows))?;
    Ok(Outcome::Agrees)
}

/// `pollux model lower`
pub fn lower(
    path: &Path,
    arguments: &GraphArguments,
    lowering: &LoweringArguments,
    output: &Path,
    out: &Output,
) -> Result<Outcome, Failure> {
    let plan = lowering.plan()?;
    let (pair, inputs) = arguments.load(path, out)?;
    let config = lowering.config_or(default_config(&pair.quantised))?;
    let lowered = pair.lower(&inputs, config, &plan).map_err(failure)?;
    arguments.check(&lowered)?;
    let compiled = lowered.graph.compiled;
    super::without_host(&compiled)?;
    save(output, &compiled, None, out)
}

/// A network as commands, and its name: of a file or directory, or of ResNet-50's shape.
pub fn compile(
    path: Option<&Path>,
    arguments: &GraphArguments,
    lowering: &LoweringArguments,
    out: &Output,
) -> Result<(String, Compiled), Failure> {
    let plan = lowering.plan()?;
    let (pair, inputs) = match path {
        Some(path) => arguments.load(path, out)?,
        None => arguments.resnet50(out)?,
    };
    let config = lowering.config_or(default_config(&pair.quantised))?;
    let lowered = progress::during(out, "lowering", || pair.lower(&inputs, config, &plan)).map_err(failure)?;
    arguments.check(&lowered)?;
    Ok((pair.quantised.graph.name, lowered.graph.compiled))
}

/// `pollux model run`
pub fn run(
    path: &Path,
    arguments: &GraphArguments,
    lowering: &LoweringArguments,
    setup: Option<&CycleSetup>,
    energy: &EnergyArguments,
    out: &Output,
) -> Result<Outcome, Failure> {
    let plan = lowering.plan()?;
    let (pair, inputs) = arguments.load(path, out)?;
    let config = lowering.config_or(default_config(&pair.quantised))?;
    let pricing = energy.pricing(&config)?;
    let lowered = progress::during(out, "lowering", || pair.lower(&inputs, config, &plan)).map_err(failure)?;
    arguments.check(&lowered)?;
    let run = with_progress(out, |progress| pair.run_lowered(lowered, &inputs, setup, progress))?;
    out.json(&run_json(&run, pricing.as_ref()))?;
    out.text(&(run_text(&run) + &energy_text(pricing.as_ref(), run.report.as_ref())))?;
    Ok(Outcome::of(run.mismatches.is_empty()))
}

fn run_json(run: &GraphRun, pricing: Option<&Pricing>) -> Value {
    json!({
        "cosine": run.cosine(), "match": run.mismatches.is_empty(), "tensors": run.tensors, "mismatches": run.mismatches,
        "cycles": run.report.as_ref().map(|report| report.total.cycles), "units": cycles_json(run.report.as_ref()),
        "host_share": run.host_share(), "layers": run.layers, "operations": run.report.as_ref().map(|report| &report.operations), "outputs": run.outputs,
        "energy": energy_json(pricing, run.report.as_ref()),
    })
}

fn run_text(run: &GraphRun) -> String {
    let mut rows = vec![["operation", "", "cycles", "cosine", "SQNR dB"].map(str::to_owned).to_vec()];
    for layer in &run.layers {
        let [cosine, _, sqnr] = quality_cells(layer.quality.as_ref());
        let cycles = layer.cycles.map_or_else(|| "-".to_owned(), grouped);
        let operation = if layer.host { format!("{} (host)", layer.operation) } else { layer.operation.to_owned() };
        rows.push(vec![layer.name.clone(), operation, cycles, cosine, sqnr]);
    }
    let host = run.layers.iter().filter(|layer| layer.host).count();
    let share = run.host_share().map_or_else(String::new, |share| format!(", {:.1} % of the cycles", 100.0 * share));
    let host = match host {
        0 => String::new(),
        count => format!("the host does {count} of {} operations{share}\n", run.layers.len()),
    };
    table(&rows) + &host + &totals(run.report.as_ref(), run.cosine(), "result") + &verdict(run.tensors, &run.mismatches)
}
