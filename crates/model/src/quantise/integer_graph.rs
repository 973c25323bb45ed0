//! Networks in INT8: operations as the accelerator does them, and what is left to the host.
//!
//! Activations of the accelerator are int8 with one scale a tensor, sums are int32; between operations of the host they may
//! be float32. Reading the accumulator out applies ReLU, multiplies by
//! one float32 and saturates to int8 (`AccumulatorScale.scala`), so weights may have a scale for each group of output
//! channels that is read out by itself. Sums that only the host reads may be read out as they are: then it multiplies by the
//! scales, of which there is one for each channel, and what it made for that product may have one for each row.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::files::encoding::{Encoding, INT8_MAX};
use crate::graph::error::{GraphError, RefusedNode};
use crate::graph::evaluate::Array;
use crate::graph::network::{EdgeId, Element, Graph, Quantisation};
use crate::graph::operator::{Conv2d, Operator, Window, elements};
use crate::layer::{Attention, ColumnGroup, DiagonalSum, QuantisedLayer, check_groups, expect_length};
use crate::matrix::Matrix;
use crate::tensor::Tensor;

/// Weights, bias and read-out of a dense or convolutional product:
/// `out = sat8(round(relu(sum of products + bias) * scale of the channel's group))`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    /// Terms x output channels. The terms of a convolution are kernel row, kernel column, input channel of the group.
    pub values: Matrix<i8>,
    /// One int32 an output channel.
    pub bias: Vec<i32>,
    /// Output channels by scale of the read-out; they cover all of them in order.
    pub groups: Vec<ColumnGroup>,
    /// Whether negative results become 0.
    pub relu: bool,
}

/// What the accelerator does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum IntegerOperation {
    /// All leading dimensions are rows of A, the last one its columns.
    MatMul(Weights),
    /// A convolution; padding is 0.
    Conv2d {
        /// The kernel, its steps and its groups.
        conv: Conv2d,
        /// The weights.
        weights: Weights,
    },
    /// Largest element of each window; padding never wins.
    MaxPool(Window),
    /// `sat8(round(sum over the window * 1/n))`, n being the whole window or the pixels inside the image.
    AveragePool {
        /// The window.
        window: Window,
        /// Padding counts as zeros.
        count_padding: bool,
    },
    /// `sat8(round(sum over the image * scale))` by channel.
    GlobalAverage {
        /// Factor of the read-out.
        scale: f32,
    },
    /// `sat8(round(relu(sat8(round(a * scales[0])) + sat8(round(b * scales[1]))) * scale))`.
    Add {
        /// Factors of the operands as they are loaded.
        scales: [f32; 2],
        /// Factor of the read-out.
        scale: f32,
        /// Whether negative results become 0.
        relu: bool,
    },
    /// max(x, 0).
    Relu,
    /// `sat8(round(max(x, 0) * scale))`: a clipped ReLU whose limit is where the result's number format ends.
    ClippedRelu {
        /// Factor of the read-out.
        scale: f32,
    },
    /// Operands one behind the other along an axis, each one `sat8(round(x * scale))`.
    Concat {
        /// The axis.
        axis: usize,
        /// Factor of each operand's read-out.
        scales: Vec<f32>,
    },
    /// A product of two activations, matrix by matrix along the leading dimensions: `sat8(round(sum * scale))`.
    Product {
        /// The right operand is stored as `[J, K]`.
        transpose_b: bool,
        /// Factor of the read-out.
        scale: f32,
    },
    /// Scores, softmax and context of all heads: query, key, value.
    Attention {
        /// Keys after the query's position are invisible.
        causal: bool,
        /// Heads, constants and read-outs.
        parameters: Attention,
    },
    /// GELU of the operand in finer units: the sum's only term.
    Gelu {
        /// Units, constants and read-out.
        sum: DiagonalSum,
    },
    /// LayerNorm along the last dimension: the sum's result z is in steps of one deviation over its read-out; then
    /// `sat8(round((z * gamma + beta) * scale))`.
    LayerNorm {
        /// Units and read-out of the normalisation.
        sum: DiagonalSum,
        /// One a channel.
        gamma: Vec<i8>,
        /// One a channel, in units of the products.
        beta: Vec<i32>,
        /// Factor of the read-out.
        scale: f32,
    },
    /// An encoder layer as a whole: attention and feed-forward network, each with a residual addition and a LayerNorm behind it.
    Encoder {
        /// Weights and read-outs.
        layer: Box<QuantisedLayer>,
        /// The edges of the tensors inside it.
        tensors: BTreeMap<Tensor, EdgeId>,
    },
    /// The same bytes under another shape, or in other units.
    Reshape,
    /// What the host computes: the operator's float32 meaning on the real values of its operands. It reads and writes each
    /// tensor in its format, so that no operation of its own quantises.
    Host {
        /// The operator.
        operator: Operator,
        /// Its operands, those that are not constant in the step's order.
        operands: Vec<HostOperand>,
        /// Why not the accelerator.
        reason: String,
    },
}

/// An operand of the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostOperand {
    /// The step's next operand.
    Tensor,
    /// The step's next operand, for its rows' scales: they are factors of the operand before it, which are sums of these rows.
    RowScales,
    /// A constant.
    Constant {
        /// Size of each dimension.
        shape: Vec<usize>,
        /// Elements, row-major; in a file they are a tensor of their own.
        #[serde(skip)]
        data: Vec<f32>,
    },
}

impl IntegerOperation {
    /// Short name, as in reports and errors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::MatMul(_) => "matmul",
            Self::Conv2d { .. } => "conv2d",
            Self::MaxPool(_) => "max_pool",
            Self::AveragePool { .. } => "average_pool",
            Self::GlobalAverage { .. } => "global_average_pool",
            Self::Add { .. } => "add",
            Self::Relu => "relu",
            Self::ClippedRelu { .. } => "clipped_relu",
            Self::Concat { .. } => "concat",
            Self::Product { .. } => "matmul",
            Self::Attention { .. } => "attention",
            Self::Gelu { .. } => "gelu",
            Self::LayerNorm { .. } => "layer_norm",
            Self::Encoder { .. } => "encoder_layer",
            Self::Reshape => "reshape",
            Self::Host { operator, .. } => operator.name(),
        }
    }

    /// Why the host does it, if it does.
    pub fn host_reason(&self) -> Option<&str> {
        match self {
            Self::Host { reason, .. } => Some(reason),
            _ => None,
        }
    }
}

/// One operation on edges of the graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Name of its node; of the one before the ReLU if that is part of it.
    pub name: String,
    /// Residual stage it belongs to.
    pub layer: Option<usize>,
    /// Operands that are not constant.
    pub inputs: Vec<EdgeId>,
    /// The result.
    pub output: EdgeId,
    /// What it does.
    pub operation: IntegerOperation,
}

/// A graph in INT8. Built by [`IntegerGraph::build`], or read from a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IntegerGraph {
    /// The network; its edges have number formats.
    pub graph: Graph,
    /// The operations, each behind those whose results it reads.
    pub steps: Vec<Step>,
    /// Of tensors with units for each channel, where the channels are: column c of memory is channel `order[c]`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub orders: BTreeMap<EdgeId, Vec<usize>>,
}

/// Elements of a tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// In units of the tensor's scale.
    Int8(Vec<i8>),
    /// Real numbers, between operations of the host.
    Float(Vec<f32>),
    /// Sums of a product, in units of the columns.
    Int32(Vec<i32>),
    /// Rows in units of their own.
    Rows {
        /// Elements.
        values: Vec<i8>,
        /// Real value of 1 in each row.
        scales: Vec<f32>,
    },
}

/// Rows of so many bytes that hold a float32 for each of `rows` rows.
pub fn scale_rows(rows: usize, cols: usize) -> usize {
    (size_of::<f32>() * rows).div_ceil(cols.max(1))
}

impl Values {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Int8(values) | Self::Rows { values, .. } => values.len(),
            Self::Float(values) => values.len(),
            Self::Int32(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The int8 elements; none of other types.
    pub fn int8(&self) -> &[i8] {
        match self {
            Self::Int8(values) | Self::Rows { values, .. } => values,
            Self::Float(_) | Self::Int32(_) => &[],
        }
    }

    /// As they lie in memory, little-endian. Scales of rows lie behind the elements, in further rows ([`scale_rows`]).
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = |values: &[i8]| -> Vec<u8> { values.iter().map(|&x| x as u8).collect() };
        match self {
            Self::Int8(values) => bytes(values),
            Self::Float(values) => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::Int32(values) => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::Rows { values, scales } => {
                let cols = values.len() / scales.len().max(1);
                let mut all = bytes(values);
                all.extend(scales.iter().flat_map(|scale| scale.to_le_bytes()));
                all.resize(values.len() + cols * scale_rows(scales.len(), cols), 0);
                all
            }
        }
    }
}

/// Tensors by edge.
pub type Tensors = BTreeMap<EdgeId, Values>;

/// What the elements of a tensor are.
#[derive(Clone, Debug, PartialEq)]
pub struct Format {
    /// Size of each dimension.
    pub shape: Vec<usize>,
    /// What they stand for.
    pub numbers: Numbers,
}

/// What the elements of a tensor stand for.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// Themselves: float32.
    Float,
    /// int8 in one unit.
    Int8 {
        /// Real value of 1.
        scale: f32,
    },
    /// int8 with a unit and an offset for each column; column c is channel `order[c]`, or channel c if there is no order.
    Channels {
        /// Units and offsets.
        encoding: Encoding,
        /// Channels.
        order: Vec<usize>,
    },
    /// int8, each row in a unit of its own, which lies behind the elements.
    Rows,
    /// int32 sums of a product.
    Int32 {
        /// Real value of 1: one, or one a column. If the rows of the product's operand have units of their own, in these.
        scales: Vec<f32>,
    },
}

impl Numbers {
    /// The unit of all elements, of int8.
    pub fn scale(&self) -> Option<f32> {
        match self {
            Self::Int8 { scale } => Some(*scale),
            _ => None,
        }
    }

    /// Bytes of an element.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Int8 { .. } | Self::Rows | Self::Channels { .. } => 1,
            Self::Float | Self::Int32 { .. } => 4,
        }
    }
}

/// Real value of 1 in a row whose largest magnitude becomes 127.
fn row_scale(row: &[f32]) -> f32 {
    let largest = row.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    // A row of zeros.
    if largest >= f32::MIN_POSITIVE * INT8_MAX { largest / INT8_MAX } else { 1.0 }
}

impl Format {
    fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1).max(1)
    }

    /// The nearest elements of real values; int8 from `least` to 127.
    pub(crate) fn of_reals(&self, reals: &[f32], least: f32) -> Values {
        let nearest = |x: &f32, scale: f32| (x / scale).round_ties_even().clamp(least, INT8_MAX) as i8;
        match &self.numbers {
            // No host operation makes sums.
            Numbers::Float | Numbers::Int32 { .. } => Values::Float(reals.to_vec()),
            Numbers::Int8 { scale } => Values::Int8(reals.iter().map(|x| nearest(x, *scale)).collect()),
            Numbers::Channels { encoding, order } => {
                let at = |row: &[f32], col: usize| row[order.get(col).copied().unwrap_or(col)];
                let rows = reals.chunks(self.cols());
                let columns = rows.flat_map(|row| (0..row.len()).map(move |col| at(row, col))).collect();
                let columns = Matrix::from_vec(reals.len() / self.cols(), self.cols(), columns);
                Values::Int8(encoding.quantise(&columns).data)
            }
            Numbers::Rows => {
                let scales: Vec<f32> = reals.chunks(self.cols()).map(row_scale).collect();
                let rows = reals.chunks(self.cols()).zip(&scales);
                let values = rows.flat_map(|(row, &scale)| row.iter().map(move |x| nearest(x, scale))).collect();
                Values::Rows { values, scales }
            }
        }
    }

    /// The real values; of sums without the scales of the rows.
    pub(crate) fn reals(&self, values: &Values) -> Array {
        let scale = self.numbers.scale().unwrap_or(1.0);
        let data = match values {
            Values::Int8(values) => match &self.numbers {
                Numbers::Channels { encoding, order } => self.channels(values, encoding, order),
                _ => values.iter().map(|&q| scale * f32::from(q)).collect(),
            },
            Values::Float(values) => values.clone(),
            Values::Int32(sums) => {
                let Numbers::Int32 { scales } = &self.numbers else { unreachable!("sums have scales") };
                sums.iter().zip(scales.iter().cycle()).map(|(&sum, scale)| scale * sum as f32).collect()
            }
            Values::Rows { values, scales } => {
                let rows = values.chunks(self.cols()).zip(scales);
                rows.flat_map(|(row, scale)| row.iter().map(move |&q| scale * f32::from(q))).collect()
            }
        };
        Array { shape: self.shape.clone(), data }
    }
}

impl Format {
    /// The real values of channels in their own order.
    fn channels(&self, values: &[i8], encoding: &Encoding, order: &[usize]) -> Vec<f32> {
        let cols = self.cols();
        let columns = encoding.dequantise(&Matrix::from_vec(values.len() / cols, cols, values.to_vec()));
        let mut data = vec![0.0; values.len()];
        for (row, columns) in data.chunks_mut(cols).zip(columns.data.chunks(cols)) {
            columns.iter().enumerate().for_each(|(col, x)| row[order.get(col).copied().unwrap_or(col)] = *x);
        }
        data
    }
}

/// Multiplies each row by its scale.
pub(crate) fn scale_by_rows(array: &mut Array, scales: &[f32]) {
    let cols = array.data.len() / scales.len().max(1);
    for (row, scale) in array.data.chunks_mut(cols.max(1)).zip(scales) {
        row.iter_mut().for_each(|x| *x *= scale);
    }
}

impl IntegerGraph {
    /// Scale of an int8 edge; 1 if it has none.
    pub fn scale(&self, edge: EdgeId) -> f32 {
        self.graph.edge(edge).quantisation.as_ref().and_then(|q| q.encoding.scale.first().copied()).unwrap_or(1.0)
    }

    /// Refuses a network with operations that no accelerator does.
    ///
    /// # Errors
    /// All of them, with the reasons.
    pub fn require_accelerator(&self) -> Result<(), Vec<RefusedNode>> {
        let refused = |step: &Step| {
            let (node, operator) = (step.name.clone(), step.operation.name().to_owned());
            step.operation.host_reason().map(|reason| RefusedNode { node, operator, reason: reason.to_owned() })
        };
        let nodes: Vec<RefusedNode> = self.steps.iter().filter_map(refused).collect();
        if nodes.is_empty() { Ok(()) } else { Err(nodes) }
    }

    /// Whether an edge is int8, in one unit or in one for each row.
    pub fn is_int8(&self, edge: EdgeId) -> bool {
        self.graph.edge(edge).quantisation.as_ref().is_some_and(|q| q.element != Element::Int32)
    }

    /// What the elements of an edge are.
    pub fn format(&self, edge: EdgeId) -> Format {
        let numbers = match &self.graph.edge(edge).quantisation {
            None => Numbers::Float,
            Some(Quantisation { element: Element::Int8, encoding }) if encoding.scale.len() > 1 => {
                let order = self.orders.get(&edge).cloned().unwrap_or_default();
                Numbers::Channels { encoding: encoding.clone(), order }
            }
            Some(Quantisation { element: Element::Int8, .. }) => Numbers::Int8 { scale: self.scale(edge) },
            Some(Quantisation { element: Element::Int8Rows, .. }) => Numbers::Rows,
            Some(Quantisation { element: Element::Int32, encoding }) => {
                Numbers::Int32 { scales: encoding.scale.clone() }
            }
        };
        Format { shape: self.graph.edge(edge).shape.clone(), numbers }
    }

    /// The graph's inputs, given by name, in their formats: the nearest integers in [-127, 127], or as they are.
    ///
    /// # Errors
    /// If an input is missing or has the wrong size.
    pub fn quantise_inputs(&self, inputs: &BTreeMap<&str, Array>) -> Result<Tensors, GraphError> {
        let mut tensors = Tensors::new();
        for id in self.graph.inputs() {
            let edge = self.graph.edge(id);
            let data = inputs.get(edge.name.as_str()).map_or(&[][..], |array| &array.data);
            if data.len() != edge.elements() {
                let (expected, found) = (edge.elements(), data.len());
                return Err(GraphError::Values { edge: edge.name.clone(), shape: edge.shape.clone(), expected, found });
            }
            tensors.insert(id, self.format(id).of_reals(data, -INT8_MAX));
        }
        Ok(tensors)
    }

    /// The real values of a tensor, found among all of them with `values`: sums need the scales of the rows that they are of.
    /// Nothing if one is not found.
    pub fn real_values(&self, edge: EdgeId, values: &dyn Fn(EdgeId) -> Option<Values>) -> Option<Array> {
        let mut array = self.format(edge).reals(&values(edge)?);
        if let Some(rows) = self.rows_of(edge) {
            let Values::Rows { scales, .. } = values(rows)? else { return None };
            scale_by_rows(&mut array, &scales);
        }
        Some(array)
    }

    /// The tensor whose rows' scales the sums of an edge are to be multiplied by, if it is one of such sums.
    pub(super) fn rows_of(&self, edge: EdgeId) -> Option<EdgeId> {
        let Numbers::Int32 { .. } = self.format(edge).numbers else { return None };
        let step = self.steps.iter().find(|step| step.output == edge)?;
        let input = *step.inputs.first()?;
        (self.format(input).numbers == Numbers::Rows).then_some(input)
    }

    /// Checks that operations, shapes and weights fit together; for graphs from files.
    ///
    /// # Errors
    /// A sentence that names the step and the rule that is broken.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.graph.check().and_then(|()| self.graph.check_memory()).map_err(|error| error.to_string())?;
        self.check_scales()?;
        let mut written: BTreeSet<EdgeId> = self.graph.inputs().collect();
        for step in &self.steps {
            let fail = |reason| format!("step `{}`: {reason}", step.name);
            step.check(&self.graph, &written).map_err(fail)?;
            self.check_formats(step).map_err(fail)?;
            written.insert(step.output);
        }
        match self.graph.outputs.iter().find(|edge| !written.contains(edge)) {
            Some(&edge) => Err(format!("no step writes the output `{}`", self.graph.edge(edge).name)),
            None => Ok(()),
        }
    }

    /// The accelerator's tensors are int8 in one unit, but for products: they may read rows with units of their own, and then give
    /// sums, as they may in any case. A reshaping keeps the format.
    fn check_formats(&self, step: &Step) -> Result<(), String> {
        let of = |edge: &EdgeId| self.format(*edge).numbers;
        let plain = |edge: &EdgeId| matches!(of(edge), Numbers::Int8 { .. });
        let sums = matches!(of(&step.output), Numbers::Int32 { .. });
        let right = match &step.operation {
            IntegerOperation::Host { operands, .. } => !sums && self.row_scales_fit(step, operands),
            IntegerOperation::Reshape => match (of(&step.inputs[0]), of(&step.output)) {
                (Numbers::Float, Numbers::Float) => true,
                _ => plain(&step.inputs[0]) && plain(&step.output),
            },
            IntegerOperation::Encoder { .. } => {
                [step.inputs[0], step.output].iter().all(|edge| matches!(of(edge), Numbers::Channels { .. }))
            }
            IntegerOperation::MatMul(Weights { relu: false, .. }) if sums => self.is_int8(step.inputs[0]),
            IntegerOperation::Product { .. } if sums => step.inputs.iter().all(plain),
            _ => step.inputs.iter().chain([&step.output]).all(plain),
        };
        if right { Ok(()) } else { Err("its tensors have formats that it does not take".into()) }
    }

    /// Scales of rows stand behind sums of as many rows.
    fn row_scales_fit(&self, step: &Step, operands: &[HostOperand]) -> bool {
        let mut tensors = step.inputs.iter();
        let mut before: Option<&EdgeId> = None;
        operands.iter().all(|operand| {
            let tensor = if let HostOperand::Constant { .. } = operand { None } else { tensors.next() };
            let fits = match operand {
                HostOperand::RowScales => {
                    let formats = before.zip(tensor).map(|(sums, rows)| [self.format(*sums), self.format(*rows)]);
                    formats.is_some_and(|[sums, rows]| {
                        let rows_of = |format: &Format| format.shape.split_last().map(|(_, rows)| rows.to_vec());
                        matches!(sums.numbers, Numbers::Int32 { .. })
                            && rows.numbers == Numbers::Rows
                            && rows_of(&sums) == rows_of(&rows)
                    })
                }
                _ => true,
            };
            before = tensor.filter(|_| *operand == HostOperand::Tensor);
            fits
        })
    }

    /// Every scale is a number that a read-out can multiply by.
    pub(super) fn check_scales(&self) -> Result<(), String> {
        for edge in &self.graph.edges {
            let Some(quantisation) = &edge.quantisation else { continue };
            // The scale of a LayerNorm's channel has its gamma, which may be 0 or negative.
            let channels = quantisation.element == Element::Int8 && quantisation.encoding.scale.len() > 1;
            let fits = |scale: &f32| scale.is_finite() && (*scale > 0.0 || channels);
            if let Some(scale) = quantisation.encoding.scale.iter().find(|scale| !fits(scale)) {
                return Err(format!("edge `{}`: its scale {scale} is no number above 0", edge.name));
            }
            if let Some(offset) = quantisation.encoding.offset.iter().find(|offset| !offset.is_finite()) {
                return Err(format!("edge `{}`: its offset {offset} is no finite number", edge.name));
            }
        }
        for step in &self.steps {
            if let Some(scale) = step.operation.scales().into_iter().find(|scale| !(scale.is_finite() && *scale >= 0.0))
            {
                return Err(format!("step `{}`: its scale {scale} is no finite number", step.name));
            }
        }
        Ok(())
    }

    /// Whether there are encoder layers (BERT) that are quantised as a whole.
    pub fn has_encoder_layers(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.operation, IntegerOperation::Encoder { .. }))
    }

    /// Constant elements: int8 weights, int32 biases, and the host's.
    pub fn parameters(&self) -> usize {
        let count = |step: &Step| match &step.operation {
            IntegerOperation::Host { operands, .. } => operands.iter().map(HostOperand::elements).sum(),
            IntegerOperation::Encoder { layer, .. } => {
                layer.linears().iter().map(|(_, linear)| linear.weights.data.len() + linear.bias.len()).sum()
            }
            _ => step.weights().map_or(0, |w| w.values.data.len() + w.bias.len()),
        };
        self.steps.iter().map(count).sum()
    }
}

impl Step {
    fn check(&self, graph: &Graph, written: &BTreeSet<EdgeId>) -> Result<(), String> {
        if let IntegerOperation::Concat { scales, .. } = &self.operation
            && scales.len() != self.inputs.len()
        {
            return Err(format!("{} scales for {} operands", scales.len(), self.inputs.len()));
        }
        if self.inputs.iter().any(|edge| !written.contains(edge)) {
            return Err("it reads a tensor that no step before it writes".into());
        }
        if self.output.index() >= graph.edges.len() || written.contains(&self.output) {
            return Err("its result is no tensor of its own".into());
        }
        if self.inputs.is_empty() {
            return Err("it has no operand".into());
        }
        let mut shapes: Vec<&[usize]> = self.inputs.iter().map(|&edge| graph.edge(edge).shape.as_slice()).collect();
        let (operator, weight_shape) = self.operation.operator(&graph.edge(self.output).shape)?;
        if let IntegerOperation::Host { operands, .. } = &self.operation {
            shapes = host_shapes(operands, &shapes)?;
        }
        shapes.extend(weight_shape.as_deref());
        let (found, expected) = (&graph.edge(self.output).shape, operator.output_shape(&shapes)?);
        if *found != expected {
            return Err(format!("its result has shape {expected:?}, but the graph says {found:?}"));
        }
        let width = graph.edge(self.output).shape.last().copied().unwrap_or(1);
        match &self.operation {
            IntegerOperation::Attention { parameters, .. } => parameters.check(width)?,
            IntegerOperation::Encoder { layer, tensors } => {
                layer.check()?;
                let tokens = graph.edge(self.output).shape.first().copied().unwrap_or(0);
                if layer.hidden != width || tokens > layer.max_tokens || graph.edge(self.output).shape.len() != 2 {
                    return Err(format!("a layer of {} columns for {tokens} rows of {width}", layer.hidden));
                }
                if tensors.values().any(|edge| edge.index() >= graph.edges.len()) {
                    return Err("one of its tensors is none of the graph".into());
                }
            }
            IntegerOperation::Gelu { sum } => sum.check(&self.name, width)?,
            IntegerOperation::LayerNorm { sum, gamma, beta, .. } => {
                sum.check(&self.name, width)?;
                expect_length(&self.name, "gamma", gamma.len(), width)?;
                expect_length(&self.name, "beta", beta.len(), width)?;
            }
            _ => {}
        }
        self.weights().map_or(Ok(()), |weights| weights.check(&self.name))
    }

    /// The weights, if it has some.
    pub fn weights(&self) -> Option<&Weights> {
        match &self.operation {
            IntegerOperation::MatMul(weights) | IntegerOperation::Conv2d { weights, .. } => Some(weights),
            _ => None,
        }
    }
}

impl IntegerOperation {
    /// All its factors.
    fn scales(&self) -> Vec<f32> {
        match self {
            Self::MatMul(weights) | Self::Conv2d { weights, .. } => weights.groups.iter().map(|g| g.scale).collect(),
            Self::GlobalAverage { scale } | Self::ClippedRelu { scale } | Self::Product { scale, .. } => vec![*scale],
            Self::Add { scales: [a, b], scale, .. } => vec![*a, *b, *scale],
            Self::Concat { scales, .. } => scales.clone(),
            Self::Attention { parameters, .. } => {
                [&parameters.probability_scale[..], &parameters.context_scale[..]].concat()
            }
            // GELU's output counts down: its factor is negative.
            Self::Gelu { sum } => sum.groups.iter().map(|group| group.scale.abs()).collect(),
            Self::LayerNorm { sum, scale, .. } => sum.groups.iter().map(|g| g.scale).chain([*scale]).collect(),
            Self::MaxPool(_)
            | Self::AveragePool { .. }
            | Self::Relu
            | Self::Reshape
            | Self::Encoder { .. }
            | Self::Host { .. } => Vec::new(),
        }
    }

    /// The float32 operator with this shape rule, and the shape of its weights.
    fn operator(&self, output: &[usize]) -> Result<(Operator, Option<Vec<usize>>), String> {
        Ok(match self {
            Self::MatMul(w) => {
                (Operator::MatMul { transpose_b: false, bias: false }, Some(vec![w.values.rows, w.values.cols]))
            }
            Self::Conv2d { conv, weights } => {
                let [rows, cols] = conv.window.kernel;
                let taps = rows.checked_mul(cols).filter(|&taps| taps > 0).ok_or("its kernel is empty")?;
                let shape = vec![rows, cols, weights.values.rows / taps, weights.values.cols];
                if weights.values.rows % taps != 0 {
                    return Err(format!("{} rows of weights for {taps} kernel elements", weights.values.rows));
                }
                (Operator::Conv2d(Conv2d { bias: false, ..*conv }), Some(shape))
            }
            Self::MaxPool(window) => (Operator::MaxPool(*window), None),
            Self::AveragePool { window, count_padding } => {
                (Operator::AveragePool { window: *window, count_padding: *count_padding }, None)
            }
            Self::GlobalAverage { .. } => (Operator::GlobalAveragePool, None),
            Self::Add { .. } => (Operator::Add, None),
            Self::Relu => (Operator::Relu, None),
            // The limit is the number format's, and has no part in the shape.
            Self::ClippedRelu { .. } => (Operator::Relu, None),
            Self::Concat { axis, .. } => (Operator::Concat { axis: *axis }, None),
            Self::Product { transpose_b, .. } => (Operator::MatMul { transpose_b: *transpose_b, bias: false }, None),
            Self::Attention { parameters: Attention { heads, .. }, causal } => {
                (Operator::Attention { heads: *heads, scale: 1.0, causal: *causal, cached: false }, None)
            }
            // The shape's alone.
            Self::Gelu { .. } | Self::LayerNorm { .. } | Self::Encoder { .. } => (Operator::Relu, None),
            Self::Host { operator, .. } => (operator.clone(), None),
            Self::Reshape => (Operator::Reshape { shape: output.to_vec() }, None),
        })
    }
}

impl HostOperand {
    fn elements(&self) -> usize {
        match self {
            Self::Tensor | Self::RowScales => 0,
            Self::Constant { data, .. } => data.len(),
        }
    }
}

/// Shapes of a host operation's operands, the constant ones included.
fn host_shapes<'a>(operands: &'a [HostOperand], tensors: &[&'a [usize]]) -> Result<Vec<&'a [usize]>, String> {
    let mut tensors = tensors.iter();
    let mut shapes = Vec::new();
    for operand in operands {
        shapes.push(match operand {
            HostOperand::Tensor => *tensors.next().ok_or("it has fewer operands than its operator")?,
            HostOperand::RowScales => {
                tensors.next().ok_or("it has fewer operands than its operator")?;
                continue;
            }
            HostOperand::Constant { shape, data } => {
                let expected = elements(shape).ok_or("a constant of it is too large")?;
                expect_length("constant", "elements", data.len(), expected)?;
                shape
            }
        });
    }
    if tensors.next().is_some() { Err("it has more operands than its operator".into()) } else { Ok(shapes) }
}

impl Weights {
    fn check(&self, name: &str) -> Result<(), String> {
        expect_length(name, "bias", self.bias.len(), self.values.cols)?;
        expect_length(name, "weights", self.values.data.len(), self.values.rows * self.values.cols)?;
        check_groups(name, &self.groups, self.values.cols)
    }
}
