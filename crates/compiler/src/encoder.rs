//! Encoders: every layer of a quantised BERT-family model as operations.

use pollux_asm::program::ElementType;
use pollux_isa::GemminiConfig;
use pollux_kernels::{Activation, AttentionParams, Bias, Mask, Matmul, View};
use pollux_model::layer::QuantisedLayer;
use pollux_model::{LayerTrace, Matrix, Tensor};

use crate::error::CompileError;
use crate::host::HostStep;
use crate::lowering::{Lowering, PlacedSum, PlacedWeights, Sums};
use crate::operation::{Compiled, OperationClass};
use crate::parameters::{self, EncoderLayerParams};
use crate::plan::Plan;

/// Name of the buffer with the model's input.
pub const INPUT: &str = "input";

/// An encoder layer whose parameters are in main memory.
#[derive(Clone, Debug)]
pub struct PlacedLayer {
    query: PlacedWeights,
    key: PlacedWeights,
    value: PlacedWeights,
    attention: AttentionParams,
    attention_output: PlacedWeights,
    attention_norm: PlacedSum,
    intermediate: PlacedWeights,
    gelu: PlacedSum,
    ffn_output: PlacedWeights,
    output_norm: PlacedSum,
}

/// The layer's int8 results in main memory; buffers are called `layerN.TENSOR`.
#[derive(Clone, Copy, Debug)]
pub struct LayerBuffers {
    /// The layer's input, tokens x hidden.
    pub input: View,
    /// Query, tokens x width of all heads.
    pub query: View,
    /// Key.
    pub key: View,
    /// Value.
    pub value: View,
    /// Probabilities, (heads * tokens) x tokens.
    pub probabilities: View,
    /// Concatenated heads.
    pub context: View,
    /// Projection of the context, tokens x hidden.
    pub attention_output: View,
    /// Residual stream after the attention.
    pub attention_norm: View,
    /// Before GELU, tokens x inner width.
    pub intermediate: View,
    /// After GELU.
    pub gelu: View,
    /// Result of the feed-forward network, tokens x hidden.
    pub ffn_output: View,
    /// Result of the layer.
    pub output: View,
}

impl LayerBuffers {
    /// The buffer of a tensor.
    pub fn get(&self, tensor: Tensor) -> View {
        match tensor {
            Tensor::Input => self.input,
            Tensor::Query => self.query,
            Tensor::Key => self.key,
            Tensor::Value => self.value,
            Tensor::Probabilities => self.probabilities,
            Tensor::Context => self.context,
            Tensor::AttentionOutput => self.attention_output,
            Tensor::AttentionNorm => self.attention_norm,
            Tensor::Intermediate => self.intermediate,
            Tensor::Gelu => self.gelu,
            Tensor::FfnOutput => self.ffn_output,
            Tensor::Output => self.output,
        }
    }

    fn allocate(lowering: &mut Lowering, name: &str, layer: &PlacedLayer, input: View) -> Result<Self, CompileError> {
        let (tokens, hidden, inner) = (input.rows, layer.attention_output.outputs, layer.query.outputs);
        let (ffn, heads) = (layer.intermediate.outputs, layer.attention.heads);
        let mut buffer = |tensor: Tensor, rows: usize, cols: usize| {
            lowering.builder.buffer(&format!("{name}.{tensor}"), rows, cols, ElementType::I8)
        };
        Ok(Self {
            input,
            query: buffer(Tensor::Query, tokens, inner)?,
            key: buffer(Tensor::Key, tokens, inner)?,
            value: buffer(Tensor::Value, tokens, inner)?,
            probabilities: buffer(Tensor::Probabilities, heads * tokens, tokens)?,
            context: buffer(Tensor::Context, tokens, inner)?,
            attention_output: buffer(Tensor::AttentionOutput, tokens, hidden)?,
            attention_norm: buffer(Tensor::AttentionNorm, tokens, hidden)?,
            intermediate: buffer(Tensor::Intermediate, tokens, ffn)?,
            gelu: buffer(Tensor::Gelu, tokens, ffn)?,
            ffn_output: buffer(Tensor::FfnOutput, tokens, hidden)?,
            output: buffer(Tensor::Output, tokens, hidden)?,
        })
    }
}

impl PlacedLayer {
    /// Puts all parameters into main memory, as buffers `NAME.PART.weights` and so on.
    ///
    /// # Errors
    /// Parameters of the wrong length, or full memory.
    pub fn new(lowering: &mut Lowering, name: &str, layer: &EncoderLayerParams) -> Result<Self, CompileError> {
        let part = |part: &str| format!("{name}.{part}");
        Ok(Self {
            query: lowering.place(&part("query"), &layer.query)?,
            key: lowering.place(&part("key"), &layer.key)?,
            value: lowering.place(&part("value"), &layer.value)?,
            attention: layer.attention.clone(),
            attention_output: lowering.place(&part("attention_output"), &layer.attention_output)?,
            attention_norm: lowering.place_sum(&part("attention_norm"), &layer.attention_norm)?,
            intermediate: lowering.place(&part("intermediate"), &layer.intermediate)?,
            gelu: lowering.place_sum(&part("gelu"), &layer.gelu)?,
            ffn_output: lowering.place(&part("ffn_output"), &layer.ffn_output)?,
            output_norm: lowering.place_sum(&part("output_norm"), &layer.output_norm)?,
        })
    }

    /// Emits the layer for one input (tokens x hidden). Operations are called `NAME.PART`.
    ///
    /// # Errors
    /// Parts that do not fit together, or a plan that cannot be followed.
    pub fn lower(
        &self,
        lowering: &mut Lowering,
        name: &str,
        input: View,
        mask: Mask,
    ) -> Result<LayerBuffers, CompileError> {
        let b = LayerBuffers::allocate(lowering, name, self, input)?;
        let part = |part: &str| format!("{name}.{part}");
        lowering.linear(&part("query"), &self.query, input, b.query)?;
        lowering.linear(&part("key"), &self.key, input, b.key)?;
        lowering.linear(&part("value"), &self.value, input, b.value)?;
        Attention { params: &self.attention, query: b.query, key: b.key, value: b.value }.lower(
            lowering,
            name,
            mask,
            b.probabilities,
            b.context,
        )?;
        lowering.linear(&part("attention_output"), &self.attention_output, b.context, b.attention_output)?;
        let operands = [b.attention_output, input];
        lowering.diagonal_sum(&part("attention_norm"), &self.attention_norm, operands, b.attention_norm)?;
        lowering.linear(&part("intermediate"), &self.intermediate, b.attention_norm, b.intermediate)?;
        lowering.diagonal_sum(&part("gelu"), &self.gelu, [b.intermediate; 2], b.gelu)?;
        lowering.linear(&part("ffn_output"), &self.ffn_output, b.gelu, b.ffn_output)?;
        let operands = [b.ffn_output, b.attention_norm];
        lowering.diagonal_sum(&part("output_norm"), &self.output_norm, operands, b.output)?;
        Ok(b)
    }
}

/// Scores, softmax and context; keys and values may have more rows than the query (a cache), and fewer heads: neighbouring heads
/// of the query share them.
pub(crate) struct Attention<'a> {
    pub params: &'a AttentionParams,
    pub query: View,
    pub key: View,
    pub value: View,
}

impl Attention<'_> {
    /// Operations `NAME.scores_softmax` or, with softmax by the host, `NAME.scores` and `NAME.scores_softmax`; and
    /// `NAME.context`.
    pub fn lower(
        &self,
        lowering: &mut Lowering,
        name: &str,
        mask: Mask,
        probabilities: View,
        context: View,
    ) -> Result<(), CompileError> {
        self.params.check(name)?;
        let (queries, keys) = (self.query.rows, self.key.rows);
        let addend = self.params.place_mask(&mut lowering.builder, &format!("{name}.mask"), mask, queries, keys)?;
        let softmax = format!("{name}.scores_softmax");
        let heads = (0..self.params.heads).map(|head| self.scores(head, &addend, &probabilities));
        let heads = heads.collect::<Result<Vec<_>, _>>()?;
        if lowering.normalizes_on_host(&softmax, &Activation::Softmax(self.params.softmax), keys)? {
            self.host_softmax(lowering, name, &heads, probabilities)?;
        } else {
            lowering.begin(&softmax, OperationClass::Nonlinear);
            let mut sums = Sums::default();
            heads.iter().try_for_each(|matmul| lowering.normalized_matmul(matmul, &mut sums))?;
        }
        lowering.begin(&format!("{name}.context"), OperationClass::Matmul);
        for head in 0..self.params.heads {
            let probabilities = probabilities.rows(head * queries..(head + 1) * queries)?;
            let (value, out) = (self.head(&self.value, self.shared(head))?, self.head(&context, head)?);
            let scale = self.params.context_scale[head];
            lowering.matmul(&Matmul { scale, ..Matmul::new(probabilities, value, out) })?;
        }
        Ok(())
    }

    /// The head of keys and values for a head of the query.
    fn shared(&self, head: usize) -> usize {
        head / (self.query.cols / self.key.cols.max(1)).max(1)
    }

    fn head(&self, view: &View, head: usize) -> Result<View, CompileError> {
        let size = self.params.head_size;
        Ok(view.columns(head * size..(head + 1) * size)?)
    }

    /// One head's scores with softmax.
    fn scores(&self, head: usize, mask: &Bias, probabilities: &View) -> Result<Matmul, CompileError> {
        let rows = head * self.query.rows..(head + 1) * self.query.rows;
        Ok(Matmul {
            b_transpose: true,
            bias: *mask,
            scale: self.params.probability_scale[head],
            activation: Activation::Softmax(self.params.softmax),
            ..Matmul::new(
                self.head(&self.query, head)?,
                self.head(&self.key, self.shared(head))?,
                probabilities.rows(rows)?,
            )
        })
    }

    /// int32 scores to main memory, softmax by the host.
    fn host_softmax(
        &self,
        lowering: &mut Lowering,
        name: &str,
        heads: &[Matmul],
        probabilities: View,
    ) -> Result<(), CompileError> {
        let (rows, keys) = (probabilities.rows, probabilities.cols);
        let scores = lowering.builder.buffer(&format!("{name}.scores"), rows, keys, ElementType::I32)?;
        lowering.begin(&format!("{name}.scores"), OperationClass::Matmul);
        for (head, matmul) in heads.iter().enumerate() {
            let c = scores.rows(head * self.query.rows..(head + 1) * self.query.rows)?;
            lowering.matmul(&Matmul { c, activation: Activation::None, scale: 1.0, ..*matmul })?;
        }
        let step = HostStep::Softmax {
            scores,
            out: probabilities,
            constants: self.params.softmax,
            factors: self.params.probability_scale.clone(),
        };
        lowering.host(&format!("{name}.scores_softmax"), OperationClass::Nonlinear, step);
        Ok(())
    }
}

/// A whole encoder as commands.
#[derive(Clone, Debug)]
pub struct CompiledEncoder {
    /// Program and operations.
    pub compiled: Compiled,
    /// Results of each layer in main memory.
    pub layers: Vec<LayerBuffers>,
}

impl CompiledEncoder {
    /// The last layer's result.
    pub fn output(&self) -> Option<View> {
        self.layers.last().map(|layer| layer.output)
    }

    /// Makes the integer reference's tensors the expected contents of the program's buffers.
    ///
    /// # Errors
    /// A trace of another shape.
    pub fn expect(&mut self, traces: &[LayerTrace]) -> Result<(), CompileError> {
        self.expect_tensors(traces, &Tensor::ALL[1..])
    }

    /// The same for some tensors only (not the input, which no layer makes).
    ///
    /// # Errors
    /// A trace of another shape.
    pub fn expect_tensors(&mut self, traces: &[LayerTrace], tensors: &[Tensor]) -> Result<(), CompileError> {
        for (index, trace) in traces.iter().enumerate() {
            for &tensor in tensors {
                let name = format!("layer{index}.{tensor}");
                let contents = bytes(trace.get(tensor));
                let buffer = self.compiled.program.buffers.iter_mut().find(|buffer| buffer.name == name);
                let expected = buffer.as_ref().map_or(0, |buffer| buffer.len() as usize);
                match buffer.filter(|buffer| buffer.len() == contents.len() as u64) {
                    Some(buffer) => buffer.expected = Some(contents),
                    None => {
                        let found = contents.len();
                        return Err(pollux_kernels::KernelError::Length { what: name, found, expected }.into());
                    }
                }
            }
        }
        Ok(())
    }
}

/// Tokens kept after a layer, by layer number (see [`HostStep::KeepTokens`]).
pub type TokenCounts = std::collections::BTreeMap<usize, usize>;

/// Lowers all layers for one input (tokens x hidden, encoded as the first layer's input).
///
/// # Errors
/// A configuration that cannot run it, layers that do not fit together, or a plan that cannot be followed.
pub fn compile(
    config: GemminiConfig,
    plan: &Plan,
    layers: &[QuantisedLayer],
    input: &Matrix<i8>,
    mask: Mask,
) -> Result<CompiledEncoder, CompileError> {
    let layers: Vec<EncoderLayerParams> = layers.iter().map(parameters::encoder_layer).collect();
    compile_parameters(config, plan, &layers, input, mask, &TokenCounts::new())
}

/// The same from kernel parameters, which may be pruned, and with fewer tokens from some layers on.
///
/// # Errors
/// See [`compile`]; and a count of tokens that is zero or larger than what there is.
pub fn compile_parameters(
    config: GemminiConfig,
    plan: &Plan,
    layers: &[EncoderLayerParams],
    input: &Matrix<i8>,
    mask: Mask,
    keep: &TokenCounts,
) -> Result<CompiledEncoder, CompileError> {
    let mut lowering = Lowering::new(config, plan.clone())?;
    let mut x = lowering.builder.buffer_i8(INPUT, input.rows, input.cols, &input.data)?;
    let mut buffers = Vec::with_capacity(layers.len());
    for (index, layer) in layers.iter().enumerate() {
        lowering.set_layer(Some(index));
        let name = format!("layer{index}");
        let placed = PlacedLayer::new(&mut lowering, &name, layer)?;
        let layer = placed.lower(&mut lowering, &name, x, mask)?;
        buffers.push(layer);
        x = match keep.get(&index) {
            Some(&tokens) => keep_tokens(&mut lowering, &name, &layer, tokens)?,
            None => layer.output,
        };
    }
    Ok(CompiledEncoder { compiled: lowering.finish()?, layers: buffers })
}

fn keep_tokens(lowering: &mut Lowering, name: &str, layer: &LayerBuffers, tokens: usize) -> Result<View, CompileError> {
    let input = layer.output;
    if tokens == 0 || tokens > input.rows {
        let what = format!("{tokens} tokens after {name}, which has {}: keep 1 to {}", input.rows, input.rows);
        return Err(CompileError::Technique { technique: "token pruning", what });
    }
    let out = lowering.builder.buffer(&format!("{name}.kept"), tokens, input.cols, ElementType::I8)?;
    let step = HostStep::KeepTokens { probabilities: layer.probabilities, input, out };
    lowering.host(&format!("{name}.keep_tokens"), OperationClass::DataMovement, step);
    Ok(out)
}

/// A matrix as memory holds it.
pub fn bytes(matrix: &Matrix<i8>) -> Vec<u8> {
    matrix.data.iter().map(|&x| x as u8).collect()
}
