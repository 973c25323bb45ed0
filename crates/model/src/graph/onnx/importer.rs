//! The state of an import: what each ONNX value has become, and how a folded value turns into nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;

use super::constant::{Constant, MAX_COMPUTED};
use super::dimensions::{self, ImportOptions};
use super::error::OnnxError;
use super::op::Op;
use super::order::Order;
use super::proto::{GraphProto, NodeProto, TensorProto, ValueInfoProto};
use super::value::{Layout, Value, View};
use crate::files::encoding::Encoding;
use crate::graph::builder::GraphBuilder;
use crate::graph::error::GraphError;
use crate::graph::evaluate::{self, Array};
use crate::graph::network::{EdgeId, Element, GraphModel, Quantisation};
use crate::graph::operator::{Operator, elements};

/// `TensorProto.DataType` of token ids: INT32, INT64.
const INTEGERS: [i32; 2] = [6, 7];

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
    /// Number formats that the accelerator does not have are left out.
    pub(super) requantise: bool,
    /// Elements that computed constants and weights may still have.
    budget: usize,
    /// Number of the next node or edge of each name that occurs again.
    suffixes: BTreeMap<String, u32>,
}

/// What is wrong with an output that does not depend on the inputs.
const CONSTANT_OUTPUT: &str = "it is an output, but a constant; leave it out";
/// Elements that all computed constants together may have beyond those.
const ALL_COMPUTED: usize = 4 * MAX_COMPUTED;
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
            requantise: options.requantise,
            budget: ALL_COMPUTED.saturating_add(data.saturating_mul(READS)),
            suffixes: BTreeMap::new(),
        };
        // Older files list the initializers among the inputs.
        let read = |info: &&ValueInfoProto| {
            let name = info.name.as_str();
            importer.readers.contains_key(name) && !importer.initializers.contains_key(name)
        };
        let inputs: Vec<&ValueInfoProto> = graph.input.iter().filter(read).collect();
        let shapes = dimensions::shapes(&inputs, options)?;
        let known = |name: &&String| !inputs.iter().any(|input| input.name == **name);
        if let Some(name) = options.inputs.keys().find(known) {
            let known = inputs.iter().map(|input| input.name.clone()).collect();
            return Err(OnnxError::UnknownInput { name: name.clone(), known });
        }
        for (input, shape) in inputs.iter().zip(shapes) {
            let value = match options.inputs.get(&input.name) {
                Some(&value) => importer.fixed(input, shape, value)?,
                None => Value::View(importer.input(input, shape)?),
            };
            importer.values.insert(&input.name, value);
        }
        Ok(importer)
    }

    /// An input that has one value everywhere.
    fn fixed(&mut self, info: &ValueInfoProto, shape: Vec<usize>, value: f64) -> Result<Value, OnnxError> {
        let count = elements(&shape).filter(|&n| n <= MAX_COMPUTED).ok_or_else(too_much)?;
        self.charge(count)?;
        Ok(Value::constant(Constant::new(shape, vec![value; count], has_integers(info))))
    }

    /// Whether an input is an image with its channels first: something convolves or pools, and nothing turns the input before.
    fn is_image(&self, name: &str) -> bool {
        const OF_IMAGES: &[&str] =
            &["Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "BatchNormalization", "Resize"];
        let reads = |node: &&&NodeProto| node.input.iter().any(|input| input == name);
        self.nodes.iter().any(|node| OF_IMAGES.contains(&node.op_type.as_str()))
            && !self.nodes.iter().filter(reads).all(|node| node.op_type == "Transpose")
    }

    /// A run-time input.
    fn input(&mut self, info: &ValueInfoProto, shape: Vec<usize>) -> Result<View, OnnxError> {
        if let [n, c, h, w] = shape[..]
            && self.is_image(&info.name)
        {
            let edge = self.builder.input(&info.name, &[n, h, w, c])?;
            return Ok(View { edge, shape, layout: Layout::ChannelsFirst });
        }
        let edge = match &shape[..] {
            [1, tokens] if has_integers(info) => self.builder.input(&info.name, &[*tokens])?,
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
                // What does not depend on the inputs is no result of a run.
                Err(OnnxError::Tensor { .. }) if self.graph.output.len() > 1 => {}
                result => result?,
            }
        }
        if !errors.is_empty() {
            return Err(OnnxError::refused(errors));
        }
        let graph = self.builder.finish();
        if graph.outputs.is_empty() {
            let (tensor, reason) = (self.graph.output[0].name.clone(), CONSTANT_OUTPUT.to_owned());
            return Err(OnnxError::Tensor { tensor, reason });
        }
        graph.check_memory()?;
        Ok(GraphModel { graph, constants: self.constants })
    }

    fn output(&mut self, name: &str) -> Result<(), OnnxError> {
        let node = NodeProto { input: vec![name.to_owned()], op_type: "output".into(), ..NodeProto::default() };
        let view = match self.values.get(name).cloned() {
            Some(Value::View(view)) => view,
            Some(Value::Pending(pending, shape)) => self.materialise(Op { node: &node }, name, &pending, &shape)?,
            _ => {
                return Err(OnnxError::Tensor { tensor: name.to_owned(), reason: CONSTANT_OUTPUT.to_owned() });
            }
        };
        // Images stay with their channels last, as they are given.
        let edge = match view.layout {
            Layout::ChannelsFirst if view.shape.len() == 4 => self.channels_last(name, &view)?,
            Layout::Plain => view.edge,
            _ => self.in_order(name, &view)?,
        };
        if self.constants.contains_key(&edge) {
            return Err(OnnxError::Tensor { tensor: name.to_owned(), reason: CONSTANT_OUTPUT.to_owned() });
        }
        self.builder.output(edge);
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
        self.budget = self.budget.checked_sub(elements).ok_or_else(too_much)?;
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

    /// `TensorProto.DataType` of a constant of the file.
    pub(super) fn element_type(&self, name: &str) -> Option<i32> {
        let attribute = |node: &&NodeProto| node.output.iter().any(|output| output == name);
        let constant = || {
            let node = self.graph.node.iter().find(attribute)?;
            node.attribute.iter().find_map(|attribute| Some(attribute.t.as_ref()?.data_type))
        };
        self.initializers.get(name).map(|tensor| tensor.data_type).or_else(constant)
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

    /// A new node, named after the value it makes; of constants their result, as a constant.
    pub(super) fn node(&mut self, value: &str, operator: Operator, inputs: &[EdgeId]) -> Result<EdgeId, OnnxError> {
        if !inputs.is_empty() && inputs.iter().all(|edge| self.constants.contains_key(edge)) {
            return self.computed(value, &operator, inputs);
        }
        let name = self.unique(value);
        Ok(self.builder.node(&name, operator, inputs)?)
    }

    fn computed(&mut self, value: &str, operator: &Operator, inputs: &[EdgeId]) -> Result<EdgeId, OnnxError> {
        let array =
            |&edge: &EdgeId| Array { shape: self.builder.shape(edge).to_vec(), data: self.constants[&edge].clone() };
        let arrays: Vec<Array> = inputs.iter().map(array).collect();
        let shapes: Vec<&[usize]> = arrays.iter().map(|array| &array.shape[..]).collect();
        let refuse = |reason| GraphError::Node { node: value.to_owned(), operator: operator.name(), reason };
        let shape = operator.output_shape(&shapes).map_err(refuse)?;
        let elements = elements(&shape).filter(|&n| n <= MAX_COMPUTED).ok_or_else(too_much)?;
        self.charge(elements)?;
        let data = evaluate::apply(operator, value, &arrays.iter().collect::<Vec<_>>(), &shape)?;
        self.weight(value, &shape, data, None)
    }

    /// A value that turns out to be constant, as one.
    pub(super) fn settled(&self, value: Value, integer: bool) -> Value {
        match &value {
            Value::View(View { edge, shape, layout: Layout::Plain }) => match self.constants.get(edge) {
                Some(data) => {
                    let data = data.iter().map(|&v| v.into()).collect();
                    Value::constant(Constant::new(shape.clone(), data, integer))
                }
                None => value,
            },
            _ => value,
        }
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
}

fn has_integers(info: &ValueInfoProto) -> bool {
    info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).is_some_and(|t| INTEGERS.contains(&t.elem_type))
}

fn too_much() -> OnnxError {
    OnnxError::Computed { limit: ALL_COMPUTED, reads: READS }
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
