//! Whole models and their reports.

use std::path::Path;

use pollux_compiler::encoder::{TokenCounts, compile_parameters};
use pollux_compiler::execute::{CycleSetup, Divisors, time_cycles};
use pollux_compiler::pipeline::{AnyModel, CALIBRATION, OUTLIER_CHANNELS};
use pollux_compiler::report::Report;
use pollux_compiler::study::techniques::Techniques;
use pollux_compiler::synthetic::{self, Shape};
use pollux_compiler::{Compiled, Plan};
use pollux_energy::{Counted, EnergyReport};
use pollux_kernels::Mask;
use pollux_model::quantise::QuantiseOptions;
use pollux_sim::replay::ReplayOptions;
use pyo3::prelude::*;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

use crate::config::Config;
use crate::errors;
use crate::program::Program;
use crate::run::{memory_model, prices};

/// How a model is timed.
#[derive(Deserialize)]
struct Options {
    memory: String,
    interval: u64,
    limit: Option<u64>,
    values: bool,
    replay: bool,
    energy: Option<String>,
    clock_hz: f64,
}

/// A model as commands, with what the host does between them.
#[pyclass(frozen, module = "pollux._pollux")]
pub struct Model {
    title: String,
    compiled: Compiled,
}

#[pymethods]
impl Model {
    /// Encoder layers of a published shape, with pseudo-random weights: the program of `pollux report --shape`.
    #[staticmethod]
    fn transformer(
        py: Python<'_>,
        config: &Config,
        shape: &str,
        layers: Option<usize>,
        tokens: usize,
    ) -> PyResult<Self> {
        let mut shape = Shape::by_name(shape).map_err(errors::input)?;
        if shape.decoder {
            return Err(errors::input(format!("{} is a decoder: choose an encoder, such as bert-base", shape.name)));
        }
        shape.layers = layers.unwrap_or(shape.layers);
        let title = format!("{}, {} layers, {tokens} tokens", shape.name, shape.layers);
        let lower = || {
            let layers = synthetic::encoder(&shape, tokens, 1)?;
            let input = synthetic::input(&shape, tokens, 2);
            let config = config.0.clone().into_inner();
            compile_parameters(config, &Plan::default(), &layers, &input, Mask::Full, &TokenCounts::new())
        };
        let compiled = py.detach(lower).map_err(errors::input)?.compiled;
        Ok(Self { title, compiled })
    }

    /// A model's directory, which is quantised, or the file of a quantised one, with a text.
    #[staticmethod]
    fn load(py: Python<'_>, config: &Config, path: &str, text: &str) -> PyResult<Self> {
        let lower = || {
            let options = QuantiseOptions { outlier_channels: OUTLIER_CHANNELS, ..QuantiseOptions::default() };
            let model = match Path::new(path).is_file() {
                true => AnyModel::read(Path::new(path), None)?,
                false => AnyModel::load(Path::new(path), CALIBRATION, &options)?,
            };
            let config = config.0.clone().into_inner();
            let compiled = model.lower(text, config, &Plan::default(), &Techniques::default())?;
            Ok::<_, pollux_compiler::CompileError>((compiled, model.tokens(text)?))
        };
        let (compiled, tokens) = py.detach(lower).map_err(errors::input)?;
        Ok(Self { title: format!("{path}, {tokens} tokens"), compiled })
    }

    #[getter]
    fn title(&self) -> &str {
        &self.title
    }

    /// The program, if the accelerator does all of it.
    fn program(&self) -> PyResult<Program> {
        match self.compiled.needs_host() {
            true => Err(errors::input("the host takes part: there is no program that does it alone")),
            false => Ok(Program(Arc::new(self.compiled.program.clone()))),
        }
    }

    /// The document of `pollux report --json`, with `energy`.
    fn report(&self, py: Python<'_>, options: &str) -> PyResult<String> {
        let options: Options = serde_json::from_str(options).map_err(errors::input)?;
        let prices = options.energy.as_deref().map(|table| prices(table, &self.compiled.program.config)).transpose()?;
        let setup = CycleSetup {
            memory: memory_model(&options.memory)?,
            interval: options.interval,
            limit: options.limit,
            count: prices.is_some(),
            replay: options.replay.then(ReplayOptions::default),
            divisors: if options.values { Divisors::Computed } else { Divisors::NotZero },
            ..CycleSetup::default()
        };
        let report = errors::interruptible(py, |tick| {
            let memory = self.compiled.program.initial_memory();
            let run = time_cycles(&self.compiled, memory, &setup, &mut |_| tick());
            run.map(|run| Report::new(&self.title, &self.compiled, &run)).map_err(|error| error.to_string())
        })?;
        let report = report.map_err(|message| errors::exception("SimulationError", &message, &json!(null)))?;
        let energy = prices.map(|prices| {
            let operation = |(name, cycles, counts)| Counted { name, cycles, counts };
            let counted: Vec<Counted> = report.counted_operations().into_iter().map(operation).collect();
            EnergyReport::new(&prices, options.clock_hz, &counted)
        });
        let mut document = serde_json::to_value(&report).map_err(errors::input)?;
        document["energy"] = json!(energy);
        Ok(document.to_string())
    }
}

/// Names of the published encoder shapes.
#[pyfunction]
pub fn shapes() -> Vec<String> {
    Shape::known().into_iter().filter(|shape| !shape.decoder).map(|shape| shape.name).collect()
}
