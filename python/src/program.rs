//! Programs: assembled, loaded, and lowered from operations.

use std::sync::Arc;

use pollux_asm::{ElementType, binary, disassemble};
use pollux_compiler::list::OperationList;
use pollux_compiler::{Plan, compile};
use pollux_isa::StreamItem;
use pollux_isa::config::ExpVariant;
use pollux_kernels::{
    Activation, Bias, Conv, ConvSchedule, ConvShape, Dataflow, Mask, Matmul, Pool, ProgramBuilder, Schedule,
};
use pollux_mapper::Mapping;
use pollux_model::{AttentionMask, LayerFile, embedded_default, layer_reference};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::Config;
use crate::errors;

/// A program with its configuration and buffers.
#[pyclass(frozen, module = "pollux._pollux")]
pub struct Program(pub Arc<pollux_asm::Program>);

impl Program {
    fn new(program: pollux_asm::Program) -> Self {
        Self(Arc::new(program))
    }
}

/// What a product is beside its operands.
#[derive(Deserialize)]
struct MatmulOptions {
    /// M, K, N.
    shape: [usize; 3],
    /// Of an int8 result; without one the result is int32.
    scale: Option<f32>,
    relu: bool,
    dataflow: Dataflow,
    schedule: Option<Mapping>,
}

/// What a convolution is beside its operands.
#[derive(Deserialize)]
struct ConvOptions {
    batch: usize,
    rows: usize,
    cols: usize,
    channels: usize,
    out_channels: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    pool: Option<usize>,
    depthwise: bool,
    scale: f32,
    relu: bool,
    schedule: Option<Mapping>,
}

fn i8s(bytes: &[u8]) -> Vec<i8> {
    bytes.iter().map(|byte| byte.cast_signed()).collect()
}

fn i32s(bytes: &[u8]) -> Vec<i32> {
    bytes.as_chunks::<4>().0.iter().map(|chunk| i32::from_le_bytes(*chunk)).collect()
}

#[pymethods]
impl Program {
    /// From assembly text, or the contents of a file; `name` is its name, which files that it includes are relative to.
    #[staticmethod]
    #[pyo3(signature = (name, contents, config=None))]
    fn from_contents(py: Python<'_>, name: &str, contents: Vec<u8>, config: Option<&Config>) -> PyResult<Self> {
        let config = config.map(|config| &config.0);
        let program = py.detach(|| pollux::Program::from_bytes(name, contents, config));
        program.map(|program| Self::new(program.into_inner())).map_err(|error| errors::library(error, None))
    }

    /// C = A B, with what `options` (JSON) says.
    #[staticmethod]
    #[pyo3(signature = (config, a, b, bias, options))]
    fn matmul(config: &Config, a: &[u8], b: &[u8], bias: Option<&[u8]>, options: &str) -> PyResult<Self> {
        let options: MatmulOptions = serde_json::from_str(options).map_err(errors::input)?;
        let MatmulOptions { shape: [m, k, n], scale, relu, dataflow, schedule } = options;
        let mut builder = ProgramBuilder::new(config.0.clone()).map_err(errors::input)?;
        let a = builder.buffer_i8("A", m, k, &i8s(a)).map_err(errors::input)?;
        let b = builder.buffer_i8("B", k, n, &i8s(b)).map_err(errors::input)?;
        let bias = match bias {
            Some(row) => Bias::Row(builder.buffer_i32("D", 1, n, &i32s(row)).map_err(errors::input)?),
            None => Bias::None,
        };
        let element = if scale.is_some() { ElementType::I8 } else { ElementType::I32 };
        let c = builder.buffer("C", m, n, element).map_err(errors::input)?;
        let activation = if relu { Activation::Relu } else { Activation::None };
        let matmul = Matmul { bias, scale: scale.unwrap_or(1.0), activation, ..Matmul::new(a, b, c) };
        let schedule = match schedule {
            Some(Mapping::Matmul(schedule)) => schedule,
            Some(Mapping::Conv(_)) => return Err(errors::input("the schedule is of a convolution")),
            None => Schedule::auto(&config.0, &matmul.shape(), dataflow).map_err(errors::input)?,
        };
        builder.begin("matmul");
        matmul.lower(&mut builder, &schedule).map_err(errors::input)?;
        builder.fence();
        builder.finish().map(Self::new).map_err(errors::input)
    }

    /// A convolution, with what `options` (JSON) says.
    #[staticmethod]
    #[pyo3(signature = (config, input, weights, bias, options))]
    fn conv(config: &Config, input: &[u8], weights: &[u8], bias: Option<&[u8]>, options: &str) -> PyResult<Self> {
        let options: ConvOptions = serde_json::from_str(options).map_err(errors::input)?;
        let image = [options.rows, options.cols, options.channels];
        let shape = ConvShape {
            stride: options.stride,
            padding: options.padding as isize,
            pool: options.pool.map(|size| Pool { size, stride: size, padding: 0 }),
            depthwise: options.depthwise,
            ..ConvShape::new(options.batch, image, options.out_channels, options.kernel)
        };
        if shape.pooled_pixels().contains(&0) {
            return Err(errors::input("the image has no output for this kernel, padding and pool"));
        }
        let mut builder = ProgramBuilder::new(config.0.clone()).map_err(errors::input)?;
        let [(in_rows, in_cols), (weight_rows, weight_cols), (out_rows, out_cols)] = shape.views();
        let input = builder.buffer_i8("input", in_rows, in_cols, &i8s(input)).map_err(errors::input)?;
        let weights = builder.buffer_i8("weights", weight_rows, weight_cols, &i8s(weights)).map_err(errors::input)?;
        let bias = bias.map(|bias| builder.buffer_i32("bias", 1, options.out_channels, &i32s(bias)));
        let bias = bias.transpose().map_err(errors::input)?;
        let output = builder.buffer("output", out_rows, out_cols, ElementType::I8).map_err(errors::input)?;
        let schedule = match options.schedule {
            Some(Mapping::Conv(schedule)) => schedule,
            Some(Mapping::Matmul(_)) => return Err(errors::input("the schedule is of a product")),
            None => ConvSchedule::gemmini_default(&config.0, &shape),
        };
        builder.begin("conv");
        let conv = Conv { shape, input, weights, bias, output, scale: options.scale, relu: options.relu };
        conv.lower(&mut builder, &schedule).map_err(errors::input)?;
        builder.fence();
        builder.finish().map(Self::new).map_err(errors::input)
    }

    /// A quantised encoder layer with its sample: a file of `pollux quantize`, or the embedded one.
    #[staticmethod]
    #[pyo3(signature = (config, name, contents=None))]
    fn layer(py: Python<'_>, config: &Config, name: &str, contents: Option<Vec<u8>>) -> PyResult<Self> {
        if config.0.softmax_exp != ExpVariant::Released {
            return Err(errors::input(format!(
                "configuration `{}` has the polynomial of GELU in the place of the exponential: choose one with softmax_exp \
                 \"released\", such as norm16",
                config.0.name
            )));
        }
        let file = match contents {
            None => embedded_default(),
            Some(contents) => LayerFile::from_bytes(&contents, name).map_err(errors::input)?,
        };
        let lower = || {
            let reference =
                layer_reference(&file.layer, &file.input, AttentionMask::Full).map_err(|e| e.to_string())?;
            let (layers, config) = (std::slice::from_ref(&file.layer), config.0.clone().into_inner());
            let encoder = compile(config, &Plan::default(), layers, &file.input, Mask::Full);
            let mut encoder = encoder.map_err(|e| e.to_string())?;
            if encoder.compiled.needs_host() {
                return Err("the host takes part on this configuration: choose one with has_normalizations".to_owned());
            }
            encoder.expect(std::slice::from_ref(&reference)).map_err(|e| e.to_string())?;
            Ok(encoder.compiled.program)
        };
        py.detach(lower).map(Self::new).map_err(errors::input)
    }

    /// A list of operations (TOML), with expected results.
    #[staticmethod]
    #[pyo3(signature = (text, config=None))]
    fn operations(py: Python<'_>, text: &str, config: Option<&Config>) -> PyResult<Self> {
        let list = OperationList::from_toml(text).map_err(errors::input)?;
        let compiled = py.detach(|| list.lower(config.map(|config| &config.0), &Plan::default()));
        compiled.map(|compiled| Self::new(compiled.program)).map_err(errors::input)
    }

    fn text(&self) -> String {
        disassemble(&self.0)
    }

    fn binary<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &binary::write(&self.0).map_err(errors::input)?))
    }

    fn config(&self) -> Config {
        Config(self.0.config.clone())
    }

    /// Buffers, commands and operations, as JSON.
    fn json(&self) -> String {
        let buffers = self.0.buffers.iter().map(|buffer| {
            json!({
                "name": buffer.name, "address": buffer.address, "element": buffer.element.name(), "shape": buffer.shape,
                "has_data": buffer.data.is_some(), "is_expected": buffer.expected.is_some(),
            })
        });
        let marks = self.0.items.iter().filter(|item| matches!(item, StreamItem::Mark(_))).count();
        json!({ "buffers": buffers.collect::<Vec<Value>>(), "commands": self.0.commands().count(), "operations": marks }).to_string()
    }

    /// The warnings on a program that is legal, or whose faults are warnings.
    fn check(&self, policy: &str) -> PyResult<Vec<String>> {
        let action = crate::run::policy(policy)?;
        pollux::check(&self.0, action).map_err(|error| errors::library(error, None))
    }
}
