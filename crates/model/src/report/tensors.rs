//! Where accuracy is lost: every int8 tensor of every layer against its float32 original.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::decoder::QuantisedDecoder;
use crate::encoder::QuantisedModel;
use crate::error::ModelError;
use crate::float::AttentionMask;
use crate::layer::{Attention, Encoding, INT8_MAX};
use crate::matrix::Matrix;
use crate::reference::decoder::{block_reference, residual_norm};
use crate::reference::layer::layer_reference;
use crate::report::quality::{Quality, QualitySum};
use crate::tensor::Tensor;
use crate::transformer::weights::FloatTrace;

/// One tensor of one layer, over all sequences.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorReport {
    /// The tensor.
    pub tensor: Tensor,
    /// The layer on its own: its input is the quantised float32 input.
    pub alone: Quality,
    /// All layers before it ran in integers too.
    pub through: Quality,
    /// Share of the values (of the layer on its own) at the ends of int8, -128 or +-127.
    pub saturated: f64,
}

/// One layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerReport {
    /// Its number.
    pub layer: usize,
    /// Rows and elements whose 32-bit arithmetic wrapped, in both ways of running it.
    pub wraps: usize,
    /// Its tensors in the order of the data flow.
    pub tensors: Vec<TensorReport>,
}

/// Quantisation error of a whole model on some token sequences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorReport {
    /// Number of sequences.
    pub sequences: usize,
    /// Tokens of all of them.
    pub tokens: usize,
    /// First to last.
    pub layers: Vec<LayerReport>,
}

impl ErrorReport {
    /// The comparison of one tensor.
    pub fn get(&self, layer: usize, tensor: Tensor) -> Option<&TensorReport> {
        self.layers.get(layer)?.tensors.iter().find(|t| t.tensor == tensor)
    }
}

/// Sums of one layer's tensors.
#[derive(Default)]
struct LayerSums {
    wraps: usize,
    tensors: BTreeMap<Tensor, [QualitySum; 2]>,
    /// Values at the ends of int8, and all.
    ends: BTreeMap<Tensor, [usize; 2]>,
}

/// How the layer's input was made.
#[derive(Clone, Copy)]
enum Run {
    Alone,
    Through,
}

/// The integers of one layer and what they stand for.
struct Integers<'a> {
    int8: &'a BTreeMap<Tensor, Matrix<i8>>,
    encodings: &'a BTreeMap<Tensor, Encoding>,
    attention: &'a Attention,
}

impl Integers<'_> {
    fn dequantised(&self, tensor: Tensor) -> Matrix<f32> {
        let q = &self.int8[&tensor];
        if tensor != Tensor::Probabilities {
            return self.encodings[&tensor].dequantise(q);
        }
        let tokens = q.rows / self.attention.heads;
        let scale = |r: usize| 1.0 / (INT8_MAX * self.attention.probability_scale[r / tokens]);
        Matrix::from_fn(q.rows, q.cols, |r, c| f32::from(q.at(r, c)) * scale(r))
    }
}

impl LayerSums {
    fn add(&mut self, run: Run, integers: &Integers<'_>, float: &FloatTrace) {
        for tensor in Tensor::ALL {
            let sums = self.tensors.entry(tensor).or_default();
            sums[run as usize].add(&integers.dequantised(tensor).data, &float.get(tensor).data);
            if matches!(run, Run::Alone) {
                let q = &integers.int8[&tensor].data;
                let [ends, all] = self.ends.entry(tensor).or_default();
                *ends += q.iter().filter(|v| v.unsigned_abs() >= INT8_MAX as u8).count();
                *all += q.len();
            }
        }
    }

    fn report(&self, layer: usize) -> LayerReport {
        let tensor = |(&tensor, [alone, through]): (&Tensor, &[QualitySum; 2])| {
            let [ends, all] = self.ends[&tensor];
            let saturated = ends as f64 / all.max(1) as f64;
            TensorReport { tensor, alone: alone.quality(), through: through.quality(), saturated }
        };
        LayerReport { layer, wraps: self.wraps, tensors: self.tensors.iter().map(tensor).collect() }
    }
}

fn finish(sequences: &[Vec<u32>], sums: &[LayerSums]) -> ErrorReport {
    ErrorReport {
        sequences: sequences.len(),
        tokens: sequences.iter().map(Vec::len).sum(),
        layers: sums.iter().enumerate().map(|(i, s)| s.report(i)).collect(),
    }
}

impl QuantisedModel {
    /// Compares every tensor of every layer with float32 on the given token sequences.
    ///
    /// # Errors
    /// As [`QuantisedModel::embed_tokens`]; and if the float32 layers are not there, as after reading a file.
    pub fn error_report(&self, sequences: &[Vec<u32>]) -> Result<ErrorReport, ModelError> {
        let mut sums: Vec<LayerSums> = self.layers.iter().map(|_| LayerSums::default()).collect();
        for ids in sequences {
            let mut float = self.model.embed_tokens(ids)?;
            let mut integer = self.layers[0].encoding(Tensor::Input).quantise(&float);
            for (index, (layer, sums)) in self.layers.iter().zip(&mut sums).enumerate() {
                let trace = self.model.forward_layer(index, &float, AttentionMask::Full)?;
                let alone = layer.encoding(Tensor::Input).quantise(&float);
                let alone = layer_reference(layer, &alone, AttentionMask::Full)?;
                let through = layer_reference(layer, &integer, AttentionMask::Full)?;
                for (run, int) in [(Run::Alone, &alone), (Run::Through, &through)] {
                    let integers =
                        Integers { int8: &int.int8, encodings: &layer.encodings, attention: &layer.attention };
                    sums.add(run, &integers, &trace);
                    sums.wraps += int.wraps;
                }
                float = trace.get(Tensor::Output).clone();
                integer = through.output().clone();
            }
        }
        Ok(finish(sequences, &sums))
    }
}

impl QuantisedDecoder {
    /// Compares every tensor of every block with float32 on the given token sequences.
    ///
    /// # Errors
    /// As [`QuantisedDecoder::embed_tokens`]; and if the float32 blocks are not there, as after reading a file.
    pub fn error_report(&self, sequences: &[Vec<u32>]) -> Result<ErrorReport, ModelError> {
        let mut sums: Vec<LayerSums> = self.blocks.iter().map(|_| LayerSums::default()).collect();
        for ids in sequences {
            let mut stream = self.model.embed_tokens(ids, 0)?;
            let mut normed = self.model.entry(&stream);
            let mut cache = self.model.cache();
            let (mut residual, mut input) = residual_norm(&self.entry, &self.embed_tokens(ids, 0)?, None, &mut 0);
            let mut unit = self.unit;
            for (index, (block, sums)) in self.blocks.iter().zip(&mut sums).enumerate() {
                let trace = self.model.forward_block(index, &stream, &normed, &mut cache)?;
                let start =
                    Matrix::from_fn(stream.rows, stream.cols, |r, c| (stream.at(r, c) / unit).round_ties_even() as i32);
                let quantised = block.encoding(Tensor::Input).quantise(&normed);
                let run = |residual: &Matrix<i32>, input: &Matrix<i8>| {
                    block_reference(block, residual, input, &mut Matrix::default(), &mut Matrix::default())
                };
                let (alone, through) = (run(&start, &quantised)?, run(&residual, &input)?);
                for (run, int) in [(Run::Alone, &alone), (Run::Through, &through)] {
                    let integers =
                        Integers { int8: &int.int8, encodings: &block.encodings, attention: &block.attention };
                    sums.add(run, &integers, &trace);
                    sums.wraps += int.wraps;
                }
                normed = trace.get(Tensor::Output).clone();
                stream = trace.ffn_sum;
                input = through.get(Tensor::Output).clone();
                residual = through.ffn_sum;
                unit = block.unit;
            }
        }
        Ok(finish(sequences, &sums))
    }
}

/// Signal to quantisation noise ratios in decibels, a line a tensor, a column a layer; then cosines of the outputs.
impl fmt::Display for ErrorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAME: usize = 18;
        const CELL: usize = 7;
        let line = |f: &mut fmt::Formatter<'_>, name: &str, cell: &dyn Fn(&LayerReport) -> String| {
            write!(f, "{name:<NAME$}")?;
            self.layers.iter().try_for_each(|l| write!(f, "{:>CELL$}", cell(l)))?;
            writeln!(f)
        };
        let tensor = |l: &LayerReport, t: Tensor| l.tensors.iter().find(|r| r.tensor == t).copied();
        writeln!(f, "{} sequences, {} tokens; SQNR in dB", self.sequences, self.tokens)?;
        for (title, through) in [("each layer alone", false), ("all layers", true)] {
            line(f, title, &|l| l.layer.to_string())?;
            for t in Tensor::ALL {
                line(f, t.name(), &|l| {
                    let quality = tensor(l, t).map(|r| if through { r.through } else { r.alone });
                    quality.map_or_else(String::new, |q| format!("{:.1}", q.sqnr_db))
                })?;
            }
            let cosine = |r: TensorReport| if through { r.through.cosine } else { r.alone.cosine };
            line(f, "cosine of output", &|l| {
                tensor(l, Tensor::Output).map_or_else(String::new, |r| format!("{:.4}", cosine(r)))
            })?;
        }
        line(f, "wraps", &|l| l.wraps.to_string())
    }
}
