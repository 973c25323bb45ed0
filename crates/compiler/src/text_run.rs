//! What a run of a text gave, for models of either family.

use pollux_model::quality::Quality;
use serde::Serialize;

use crate::execute::Mismatch;
use crate::report::Report;

/// What a run of a text gave.
#[derive(Clone, Debug, Serialize)]
pub struct TextRun {
    /// The text.
    pub text: String,
    /// Its tokens.
    pub tokens: usize,
    /// Further tokens of the text, which the model does not take.
    pub tokens_left_out: usize,
    /// Cosine of the result (an encoder's embedding, a decoder's last logits) and the float32 model's, if that is there.
    pub cosine: Option<f64>,
    /// An encoder's embedding, of length 1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub embedding: Vec<f32>,
    /// A decoder's likeliest next token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<NextToken>,
    /// Tensors that were compared with the integer reference.
    pub tensors: usize,
    /// Those that differ.
    pub mismatches: Vec<Mismatch>,
    /// The layers.
    pub layers: Vec<LayerRun>,
    /// Cycles, if they were simulated.
    pub report: Option<Report>,
}

/// A token that a decoder proposes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NextToken {
    /// Id.
    pub token: u32,
    /// Its text.
    pub text: String,
}

/// One layer of a run.
#[derive(Clone, Debug, Serialize)]
pub struct LayerRun {
    /// Number.
    pub layer: usize,
    /// Tokens that it has.
    pub tokens: usize,
    /// Its result against float32, errors of the layers before it included.
    #[serde(flatten)]
    pub quality: Option<Quality>,
    /// Cycles, if they were simulated.
    pub cycles: Option<u64>,
    /// Those of them in which the host works.
    pub host_cycles: Option<u64>,
    /// Share of the array's multiply-accumulates that took part.
    pub utilisation: Option<f64>,
}

impl LayerRun {
    /// A layer with its figures in the report.
    pub(crate) fn new(layer: usize, tokens: usize, quality: Option<Quality>, report: Option<&Report>) -> Self {
        let figures = report.and_then(|report| report.layers.get(layer));
        Self {
            layer,
            tokens,
            quality,
            cycles: figures.map(|f| f.cycles),
            host_cycles: figures.map(|f| f.host_cycles),
            utilisation: figures.map(|f| f.utilisation),
        }
    }
}
