//! The state of an import: what each ONNX value has become, and how a folded value turns into nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;

use super::channelwise::Channelwise;
use super::constant::{Constant, MAX_COMPUTED};
use super::dimensions;
use super::expression::{Expression, Meaning};
use super::order::Order;
use super::proto::{AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto};
use super::{ImportOptions, OnnxError};
use crate::graph::operator::Conv2d;
use crate::graph::{EdgeId, Element, GraphBuilder, GraphModel, Operator, Quantisation};
use crate::layer::Encoding;
use crate::matrix::Matrix;

/// `TensorProto.DataType` of token ids: INT32, INT64.
const INTEGERS: [i32; 2] = [6, 7];

/// How the elements of a value lie in its edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// In the same order.
    Plain,
    /// An image `[n, c, h, w]`; the edge is `[n, h, w, c]`.
    ChannelsFirst,
    /// `[n, c * h * w]` of an image with that many pixels; the edge is `[n, h, w, c]`.
    FlatImage {
        /// Rows times columns.
        pixels: usize,
    },
    /// `[.., heads, tokens, size]`, or its last two axes swapped; the edge is `[.., tokens, heads * size]`.
    Heads {
        /// `[.., heads, size, tokens]`.
        transposed: bool,
    },
}

/// A value that is an edge of the graph.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub(super) edge: EdgeId,
    pub(super) shape: Vec<usize>,
    pub(super) layout: Layout,
}

/// A value that may still be folded into what reads it.
#[derive(Clone, Debug)]
pub(super) enum Pending {
    /// A dense product with constant weights.
    Product(Product),
    /// A convolution with constant weights.
    Convolution(Convolution),
    /// An element-wise expression of one value.
    Elementwise(View, Expression),
    /// Attention up to its scores or probabilities.
    Scores(Scores),
    /// Whether the probabilities are not numbers: never.
    NotANumber,
    /// A part of a LayerNorm of one value.
    Norm(View, NormStage),
}

#[derive(Clone, Debug)]
pub(super) struct Product {
    pub(super) a: EdgeId,
    /// K x J.
    pub(super) weight: Matrix<f32>,
    pub(super) bias: Option<Vec<f32>>,
    pub(super) scales: Option<Vec<f32>>,
}

#[derive(Clone, Debug)]
pub(super) struct Convolution {
    pub(super) x: EdgeId,
    pub(super) conv: Conv2d,
    /// Rows, columns, inputs a group, outputs.
    pub(super) weight: Vec<f32>,
    pub(super) weight_shape: [usize; 4],
    pub(super) bias: Option<Vec<f32>>,
    pub(super) scales: Option<Vec<f32>>,
    /// Shape of the edge of a plain tensor whose rows are pixels here; the result gets it back.
    pub(super) rows: Option<Vec<usize>>,
}

#[derive(Clone, Debug)]
pub(super) struct Scores {
    pub(super) query: EdgeId,
    pub(super) key: EdgeId,
    pub(super) heads: usize,
    pub(super) scale: f32,
    pub(super) causal: bool,
    /// Softmax has been applied.
    pub(super) probabilities: bool,
}

/// How much of `(x - mean) / sqrt(variance + epsilon) * gamma` is there.
#[derive(Clone, Debug)]
pub(super) enum NormStage {
    Mean,
    Centred,
    Squared,
    Variance,
    VarianceEpsilon(f32),
    Deviation(f32),
    Normalised(f32),
    Scaled(f32, Vec<f32>),
}

/// What an ONNX value has become.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Constant(Rc<Constant>),
    View(View),
    /// With its shape.
    Pending(Rc<Pending>, Vec<usize>),
}

impl Value {
    pub(super) fn shape(&self) -> &[usize] {
        match self {
            Self::Constant(c) => &c.shape,
            Self::View(v) => &v.shape,
            Self::Pending(_, shape) => shape,
        }
    }

    pub(super) fn constant(c: Constant) -> Self {
        Self::Constant(Rc::new(c))
    }

    pub(super) fn pending(p: Pending, shape: Vec<usize>) -> Self {
        Self::Pending(Rc::new(p), shape)
    }
}

/// One ONNX node with its name for messages.
#[derive(Clone, Copy)]
pub(super) struct Op<'a> {
    pub(super) node: &'a NodeProto,
}

impl<'a> Op<'a> {
    pub(super) fn kind(self) -> &'a str {
        &self.node.op_type
    }

    /// The node's name, or its first result's.
    pub(super) fn name(self) -> &'a str {
        if self.node.name.is_empty() { self.output() } else { &self.node.name }
    }

    /// Name of the first result.
    pub(super) fn output(self) -> &'a str {
        self.node.output.first().map_or("", String::as_str)
    }

    /// Whether operand `index` is given.
    pub(super) fn has(self, index: usize) -> bool {
        self.node.input.get(index).is_some_and(|name| !name.is_empty())
    }

    pub(super) fn refuse(self, what: impl Into<String>, remedy: impl Into<String>) -> OnnxError {
        OnnxError::Unsupported {
            node: self.name().into(),
            operator: self.kind().into(),
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    fn attribute(self, name: &str) -> Option<&'a AttributeProto> {
        self.node.attribute.iter().find(|a| a.name == name)
    }

    pub(super) fn int(self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |a| a.i)
    }

    pub(super) fn float(self, name: &str, default: f32) -> f32 {
        self.attribute(name).map_or(default, |a| a.f)
    }

    pub(super) fn text(self, name: &str) -> &'a str {
        self.attribute(name).and_then(|a| std::str::from_utf8(&a.s).ok()).unwrap_or("")
    }

    pub(super) fn ints(self, name: &str) -> Option<&'a [i64]> {
        self.attribute(name).map(|a| a.ints.as_slice())
    }

    pub(super) fn floats(self, name: &str) -> Option<&'a [f32]> {
        self.attribute(name).map(|a| a.floats.as_slice())
    }

    pub(super) fn tensor(self, name: &str) -> Option<&'a TensorProto> {
        self.attribute(name).and_then(|a| a.t.as_ref())
    }

    /// An axis counted from the front, for a value of that rank.
    pub(super) fn axis(self, axis: i64, rank: usize) -> Result<usize, OnnxError> {
        let from_front = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(from_front).ok().filter(|&a| a < rank).ok_or_else(|| {
            self.refuse(format!("axis {axis} of a value with {rank} dimensions"), "export the model again")
        })
    }
}

/// An import under way.
pub(super) struct Importer<'a> {
    graph: &'a GraphProto,
    nodes: Vec<&'a NodeProto>,
    /// How many operands are still to be read from each value; it is dropped behind the last one.
    readers: BTreeMap<&'a str, usize>,
    /// Version of the operators.
    pub(super) version: i64,
    directory: Option<&'a Path>,
    initializers: BTreeMap<&'a str, &'a TensorProto>,
    values: BTreeMap<&'a str, Value>,
    pub(super) builder: GraphBuilder,
    constants: BTreeMap<EdgeId, Vec<f32>>,
    /// Elements that computed constants and weights may still have.
    budget: usize,
    /// Number of the next node or edge of each name that occurs again.
    suffixes: BTreeMap<String, u32>,
}

/// How often a network may read its constants, on average: tied weights, and what is computed from them.
const READS: usize = 8;

impl<'a> Importer<'a> {
    pub(super) fn new(
        graph: &'a GraphProto,
        order: Order<'a>,
        version: i64,
        directory: Option<&'a Path>,
        options: &ImportOptions,
    ) -> Result<Self, OnnxError> {
        let initializers: BTreeMap<&str, &TensorProto> =
            graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
        let name = if graph.name.is_empty() { "onnx" } else { &graph.name };
        let read = initializers.iter().filter(|(name, _)| order.readers.contains_key(*name)).map(|(_, tensor)| *tensor);
        let attributes = order.nodes.iter().flat_map(|node| node.attribute.iter().filter_map(|a| a.t.as_ref()));
        let data = read.chain(attributes).map(elements_of).fold(0usize, usize::saturating_add);
        let mut importer = Self {
            graph,
            nodes: order.nodes,
            readers: order.readers,
            version,
            directory,
            initializers,
            values: BTreeMap::new(),
            builder: GraphBuilder::new(name),
            constants: BTreeMap::new(),
            budget: MAX_COMPUTED.saturating_add(data.saturating_mul(READS)),
            suffixes: BTreeMap::new(),
        };
        // Older files list the initializers among the inputs.
        let read = |info: &&ValueInfoProto| {
            let name = info.name.as_str();
            importer.readers.contains_key(name) && !importer.initializers.contains_key(name)
        };
        let inputs: Vec<&ValueInfoProto> = graph.input.iter().filter(read).collect();
        for (input, shape) in inputs.iter().zip(dimensions::shapes(&inputs, options)?) {
            let view = importer.input(input, shape)?;
            importer.values.insert(&input.name, Value::View(view));
        }
        Ok(importer)
    }

    /// A run-time input: an image if it has four dimensions.
    fn input(&mut self, info: &ValueInfoProto, shape: Vec<usize>) -> Result<View, OnnxError> {
        if let [n, c, h, w] = shape[..] {
            let edge = self.builder.input(&info.name, &[n, h, w, c])?;
            return Ok(View { edge, shape, layout: Layout::ChannelsFirst });
        }
        let integers =
            info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).is_some_and(|t| INTEGERS.contains(&t.elem_type));
        let edge = match &shape[..] {
            [1, tokens] if integers => self.builder.input(&info.name, &[*tokens])?,
            _ => self.builder.input(&info.name, canonical(&shape))?,
        };
        Ok(View { edge, shape, layout: Layout::Plain })
    }

    pub(super) fn run(mut self) -> Result<GraphModel, OnnxError> {
        let (mut errors, mut refused) = (Vec::new(), BTreeSet::new());
        for node in std::mem::take(&mut self.nodes) {
            // What reads a result that there is not cannot be judged.
            if node.input.iter().any(|name| refused.contains(name.as_str())) {
                refused.extend(node.output.iter().map(String::as_str));
                continue;
            }
            match self.translate(Op { node }) {
                Ok(values) => self.values.extend(node.output.iter().map(String::as_str).zip(values)),
                Err(error @ OnnxError::Unsupported { .. }) => {
                    errors.push(error);
                    refused.extend(node.output.iter().map(String::as_str));
                }
                Err(error) => return Err(error),
            }
            self.forget(node);
        }
        for output in self.graph.output.iter().filter(|output| !refused.contains(output.name.as_str())) {
            match self.output(&output.name) {
                Err(error @ OnnxError::Unsupported { .. }) => errors.push(error),
                result => result?,
            }
        }
        if !errors.is_empty() {
            return Err(OnnxError::refused(errors));
        }
        let graph = self.builder.finish();
        graph.check_memory()?;
        Ok(GraphModel { graph, constants: self.constants })
    }

    fn output(&mut self, name: &str) -> Result<(), OnnxError> {
        let node = NodeProto { input: vec![name.to_owned()], op_type: "output".into(), ..NodeProto::default() };
        let view = match self.values.get(name).cloned() {
            Some(Value::View(view)) => view,
            Some(Value::Pending(pending, shape)) => self.materialise(Op { node: &node }, name, &pending, &shape)?,
            _ => {
                let reason = "it is an output, but a constant; leave it out".to_owned();
                return Err(OnnxError::Tensor { tensor: name.to_owned(), reason });
            }
        };
        self.builder.output(view.edge);
        Ok(())
    }

    /// Drops what nothing reads any more.
    fn forget(&mut self, node: &NodeProto) {
        for name in &node.input {
            if let Some(readers) = self.readers.get_mut(name.as_str()) {
                *readers -= 1;
                if *readers == 0 {
                    self.values.remove(name.as_str());
                }
            }
        }
    }

    /// Whether nothing but the present node reads operand `index`.
    pub(super) fn read_once(&self, op: Op<'_>, index: usize) -> bool {
        op.node.input.get(index).and_then(|name| self.readers.get(name.as_str())) == Some(&1)
    }

    /// Takes a constant of that many elements from the budget.
    pub(super) fn charge(&mut self, elements: usize) -> Result<(), OnnxError> {
        self.budget =
            self.budget.checked_sub(elements).ok_or(OnnxError::Computed { limit: MAX_COMPUTED, reads: READS })?;
        Ok(())
    }

    /// Operand `index` as it is.
    pub(super) fn value(&self, op: Op<'_>, index: usize) -> Result<Value, OnnxError> {
        let operand = op.node.input.get(index).map_or("", String::as_str);
        if let Some(value) = self.values.get(operand) {
            return Ok(value.clone());
        }
        // Decoded on demand and not kept, so that a large model is not held twice.
        match self.initializers.get(operand) {
            Some(tensor) => Ok(Value::constant(Constant::decode(tensor, self.directory)?)),
            None => Err(OnnxError::Undefined {
                node: op.name().into(),
                operator: op.kind().into(),
                operand: operand.into(),
            }),
        }
    }

    /// A constant attribute.
    pub(super) fn decode(&self, tensor: &TensorProto) -> Result<Constant, OnnxError> {
        Constant::decode(tensor, self.directory)
    }

    /// Operand `index` if it is a constant.
    pub(super) fn constant(&self, op: Op<'_>, index: usize) -> Result<Option<Rc<Constant>>, OnnxError> {
        Ok(match self.value(op, index)? {
            Value::Constant(c) => Some(c),
            _ => None,
        })
    }

    /// Operand `index`, which must be a constant; `what` names it.
    pub(super) fn required_constant(&self, op: Op<'_>, index: usize, what: &str) -> Result<Rc<Constant>, OnnxError> {
        self.constant(op, index)?.ok_or_else(|| {
            op.refuse(format!("{what} computed at run time"), "export with fixed shapes and constant folding")
        })
    }

    /// Operand `index`, constant numbers of which a weight can be made; `what` names it.
    pub(super) fn required_weights(&self, op: Op<'_>, index: usize, what: &str) -> Result<Rc<Constant>, OnnxError> {
        let constant = self.required_constant(op, index, what)?;
        let name = &op.node.input[index];
        if constant.integer {
            return Err(OnnxError::Tensor {
                tensor: name.clone(),
                reason: format!("it is {what} of {} node `{}`, but has integers; give it floats", op.kind(), op.name()),
            });
        }
        constant.check_finite(name)?;
        Ok(constant)
    }

    /// Operand `index` as an edge; what is pending becomes nodes.
    pub(super) fn view(&mut self, op: Op<'_>, index: usize) -> Result<View, OnnxError> {
        match self.value(op, index)? {
            Value::View(view) => Ok(view),
            Value::Pending(pending, shape) => {
                // The key must outlive this node: it is the name in the file's own list.
                let operand = op.node.input[index].as_str();
                let view = self.materialise(op, operand, &pending, &shape)?;
                if let Some(value) = self.values.get_mut(operand) {
                    *value = Value::View(view.clone());
                }
                Ok(view)
            }
            Value::Constant(c) => {
                c.check_finite(&op.node.input[index])?;
                let shape = canonical(&c.shape).to_vec();
                let edge = self.weight(&op.node.input[index], &shape, c.floats(), None)?;
                Ok(View { edge, shape: c.shape.clone(), layout: Layout::Plain })
            }
        }
    }

    /// Operand `index` as an edge of its canonical shape, elements in order.
    pub(super) fn plain(&mut self, op: Op<'_>, index: usize) -> Result<View, OnnxError> {
        let view = self.view(op, index)?;
        self.reshaped(op, view)
    }

    /// The edge behind a plain view, reshaped if the view has another shape.
    pub(super) fn reshaped(&mut self, op: Op<'_>, view: View) -> Result<View, OnnxError> {
        if view.layout != Layout::Plain {
            return Err(op.refuse(
                "a transposed operand",
                "only the transpositions of attention and between image layouts fold; move this one into the weights",
            ));
        }
        let wanted = canonical(&view.shape);
        if self.builder.shape(view.edge) == wanted {
            return Ok(view);
        }
        let name = self.unique(op.name());
        let edge = self.builder.node(&name, Operator::Reshape { shape: wanted.to_vec() }, &[view.edge])?;
        Ok(View { edge, ..view })
    }

    /// A new node, named after the value it makes.
    pub(super) fn node(&mut self, value: &str, operator: Operator, inputs: &[EdgeId]) -> Result<EdgeId, OnnxError> {
        let name = self.unique(value);
        Ok(self.builder.node(&name, operator, inputs)?)
    }

    /// A new constant.
    pub(super) fn weight(
        &mut self,
        name: &str,
        shape: &[usize],
        data: Vec<f32>,
        scales: Option<Vec<f32>>,
    ) -> Result<EdgeId, OnnxError> {
        let name = self.unique(name);
        // Folded arithmetic can leave the numbers that its operands are in.
        Constant::new(shape.to_vec(), data.iter().map(|&v| v.into()).collect(), false).check_finite(&name)?;
        self.charge(data.len())?;
        let edge = self.builder.constant(&name, shape)?;
        self.constants.insert(edge, data);
        if let Some(scales) = scales {
            self.builder.quantise(edge, Quantisation { element: Element::Int8, encoding: Encoding::scaled(scales) })?;
        }
        Ok(edge)
    }

    fn unique(&mut self, name: &str) -> String {
        let name = name.strip_suffix("_output_0").unwrap_or(name);
        let mut candidate = name.to_owned();
        while self.builder.has(&candidate) {
            let suffix = self.suffixes.entry(name.to_owned()).or_insert(0);
            *suffix += 1;
            candidate = format!("{name}.{suffix}");
        }
        candidate
    }

    /// Turns a folded value into nodes.
    fn materialise(&mut self, op: Op<'_>, name: &str, pending: &Pending, shape: &[usize]) -> Result<View, OnnxError> {
        let shape = shape.to_vec();
        match pending {
            Pending::Product(p) => {
                let edge = self.product(name, p)?;
                Ok(View { edge, shape, layout: Layout::Plain })
            }
            Pending::Convolution(c) => {
                let edge = self.convolution(name, c)?;
                match &c.rows {
                    None => Ok(View { edge, shape, layout: Layout::ChannelsFirst }),
                    Some(rows) => {
                        let rows = Operator::Reshape { shape: rows.clone() };
                        let edge = self.node(&format!("{name}.rows"), rows, &[edge])?;
                        Ok(View { edge, shape, layout: Layout::Plain })
                    }
                }
            }
            Pending::Elementwise(x, expression) => {
                let operator = match expression.meaning() {
                    Some(Meaning::Affine(1.0, 0.0)) => return Ok(View { shape, ..x.clone() }),
                    Some(Meaning::Relu) => Operator::Relu,
                    Some(Meaning::ClippedRelu(limit)) => Operator::ClippedRelu { limit: limit as f32 },
                    Some(Meaning::Gelu(form)) => Operator::Gelu { form },
                    Some(Meaning::Affine(factor, offset)) => {
                        let scaled = self.channelwise(op, name, x, &Channelwise::uniform(factor, offset))?;
                        let Value::Pending(pending, _) = scaled else { unreachable!("a convolution is pending") };
                        return self.materialise(op, name, &pending, &shape);
                    }
                    None => {
                        return Err(op.refuse(
                            format!("the element-wise expression that ends in `{name}` is none of ReLU, ReLU6, GELU and a line"),
                            "use one of these activations",
                        ));
                    }
                };
                let edge = self.node(name, operator, &[x.edge])?;
                Ok(View { edge, shape, layout: x.layout })
            }
            Pending::Norm(x, NormStage::Scaled(epsilon, gamma)) => {
                let beta = vec![0.0; gamma.len()];
                self.layer_norm(op, name, x, *epsilon, gamma.clone(), beta)
            }
            Pending::Norm(x, NormStage::Normalised(epsilon)) => {
                let width = x.shape.last().copied().unwrap_or(1);
                self.layer_norm(op, name, x, *epsilon, vec![1.0; width], vec![0.0; width])
            }
            Pending::Norm(..) => Err(op.refuse(
                format!("its operand `{name}` is a mean or variance by itself"),
                "only means and variances of a LayerNorm, and means over an image, are translated",
            )),
            Pending::Scores(_) | Pending::NotANumber => Err(op.refuse(
                format!("its operand `{name}` is an attention's scores or probabilities"),
                "only the usual chain scores, mask, softmax, context is translated",
            )),
        }
    }

    fn product(&mut self, name: &str, p: &Product) -> Result<EdgeId, OnnxError> {
        let (k, j) = (p.weight.rows, p.weight.cols);
        let weight = self.weight(&format!("{name}.weight"), &[k, j], p.weight.data.clone(), p.scales.clone())?;
        let mut operands = vec![p.a, weight];
        if let Some(bias) = &p.bias {
            operands.push(self.weight(&format!("{name}.bias"), &[j], bias.clone(), None)?);
        }
        self.node(name, Operator::MatMul { transpose_b: false, bias: p.bias.is_some() }, &operands)
    }

    fn convolution(&mut self, name: &str, c: &Convolution) -> Result<EdgeId, OnnxError> {
        let weight = self.weight(&format!("{name}.weight"), &c.weight_shape, c.weight.clone(), c.scales.clone())?;
        let mut operands = vec![c.x, weight];
        if let Some(bias) = &c.bias {
            operands.push(self.weight(&format!("{name}.bias"), &[bias.len()], bias.clone(), None)?);
        }
        self.node(name, Operator::Conv2d(Conv2d { bias: c.bias.is_some(), ..c.conv }), &operands)
    }

    /// A LayerNorm over the last axis of a plain view.
    pub(super) fn layer_norm(
        &mut self,
        op: Op<'_>,
        name: &str,
        x: &View,
        epsilon: f32,
        gamma: Vec<f32>,
        beta: Vec<f32>,
    ) -> Result<View, OnnxError> {
        let x = self.reshaped(op, x.clone())?;
        let width = gamma.len();
        let gamma = self.weight(&format!("{name}.gamma"), &[width], gamma, None)?;
        let beta = self.weight(&format!("{name}.beta"), &[width], beta, None)?;
        let edge = self.node(name, Operator::LayerNorm { epsilon }, &[x.edge, gamma, beta])?;
        Ok(View { edge, shape: x.shape, layout: Layout::Plain })
    }
}

/// A shape without leading ones, as the graph has it; vectors of one row keep the row.
pub(super) fn canonical(shape: &[usize]) -> &[usize] {
    let mut shape = shape;
    while let [1, rest @ ..] = shape
        && rest.len() >= 2
    {
        shape = rest;
    }
    shape
}

/// Elements that the file has of a tensor; external ones are believed, as reading them is what comes first.
fn elements_of(tensor: &TensorProto) -> usize {
    let external = tensor.dims.iter().try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?));
    let external = if tensor.external_data.is_empty() { None } else { external };
    external.unwrap_or(0)
        + tensor.raw_data.len()
        + [tensor.float_data.len(), tensor.int32_data.len(), tensor.int64_data.len(), tensor.double_data.len()]
            .iter()
            .sum::<usize>()
}
