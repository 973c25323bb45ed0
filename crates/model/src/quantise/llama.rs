//! Llama-like decoders in INT8: one graph, quantised for a number of tokens from the first position on, from which the graph for any
//! positions follows.
//!
//! All steps but attention work on each token by itself, so other positions have other shapes and rotations, and the same
//! weights and scales. With earlier tokens, attention reads the cache with the new rows behind it.

use std::collections::BTreeMap;

use crate::error::ModelError;
use crate::gpt2::Positions;
use crate::graph::builder::GraphBuilder;
use crate::graph::error::GraphError;
use crate::graph::evaluate::{Array, evaluate};
use crate::graph::expression::Expression;
use crate::graph::network::{EdgeId, Graph, GraphModel, Source};
use crate::graph::operator::Operator;
use crate::llama::{LlamaConfig, LlamaModel, Vocabulary};
use crate::quantise::graph::{GraphOptions, ReadOut};
use crate::quantise::integer_graph::{IntegerGraph, IntegerOperation, Step, Tensors, Values};

/// Name of the input with the tokens.
const IDS: &str = "ids";

/// Another number of rows for every tensor of tokens.
fn set_tokens(graph: &mut Graph, from: usize, tokens: usize) {
    for edge in graph.edges.iter_mut().filter(|edge| edge.source != Source::Constant) {
        if let Some(rows) = edge.shape.first_mut().filter(|rows| **rows == from) {
            *rows = tokens;
        }
    }
}

/// Logits of each row.
fn rows(values: &[f32], vocabulary: usize) -> Vec<Vec<f32>> {
    values.chunks(vocabulary).map(<[f32]>::to_vec).collect()
}

/// A decoder in float32 as a graph.
#[derive(Clone)]
pub struct FloatLlama {
    /// Shape of the model.
    pub config: LlamaConfig,
    /// From text to tokens and back.
    pub vocabulary: Vocabulary,
    model: GraphModel,
    tokens: usize,
}

impl FloatLlama {
    /// The graph of a model.
    ///
    /// # Errors
    /// Sizes that do not fit together.
    pub fn new(model: LlamaModel) -> Result<Self, ModelError> {
        let LlamaModel { config, tensors, vocabulary } = model;
        let model = GraphModel::from_llama(&config, tensors, 1)?;
        model.graph.check_memory()?;
        Ok(Self { config, vocabulary, model, tokens: 1 })
    }

    fn check(&self, ids: &[u32]) -> Result<(), ModelError> {
        let (limit, vocabulary) = (self.config.context, self.config.vocabulary);
        if ids.is_empty() || ids.len() > limit {
            return Err(ModelError::TokenCount { tokens: ids.len(), limit });
        }
        match ids.iter().find(|&&id| id as usize >= vocabulary) {
            Some(&id) => Err(ModelError::TokenOutOfRange { id, vocabulary }),
            None => Ok(()),
        }
    }

    /// The graph for so many tokens.
    fn graph(&mut self, tokens: usize) -> &GraphModel {
        set_tokens(&mut self.model.graph, self.tokens, tokens);
        self.tokens = tokens;
        &self.model
    }

    /// Scores of all words after each of the tokens.
    ///
    /// # Errors
    /// No tokens, too many, or one outside the vocabulary.
    pub fn logits(&mut self, ids: &[u32]) -> Result<Vec<Vec<f32>>, ModelError> {
        self.check(ids)?;
        let vocabulary = self.config.vocabulary;
        let model = self.graph(ids.len());
        let values = evaluate(model, &inputs(ids))?;
        Ok(rows(&values[&model.graph.outputs[0]].data, vocabulary))
    }

    /// Moves the ranges of channels from activations into the weights that read them, where the host or a product makes the channel: the
    /// model stays the same function in float32 (SmoothQuant, arXiv 2211.10438). Channel j is divided by
    /// `max|x_j|^strength / max|w_j|^(1 - strength)`.
    ///
    /// # Errors
    /// As [`FloatLlama::logits`], or a strength outside 0 to 1.
    pub fn smooth(&mut self, samples: &[Vec<u32>], strength: f32) -> Result<(), ModelError> {
        if !(0.0..=1.0).contains(&strength) {
            let (option, value, rule) = ("smooth", strength.to_string(), "give a number from 0 to 1");
            return Err(ModelError::Option { option, value, rule });
        }
        let places = smoothings(self.config.layers);
        let mut most: Vec<Vec<f32>> = vec![Vec::new(); places.len()];
        for ids in samples {
            self.check(ids)?;
            let model = self.graph(ids.len());
            let values = evaluate(model, &inputs(ids))?;
            for (place, most) in places.iter().zip(&mut most) {
                let edge = self.edge(&place.activation)?;
                let array = &values[&edge];
                raise(most, &array.data, array.shape.last().copied().unwrap_or(1));
            }
        }
        places.iter().zip(&most).try_for_each(|(place, most)| Ok(self.divide(place, most, strength)?))
    }

    /// Lets the host turn the values of each attention into int8: a step of its own behind the product, which can then read rows with
    /// scales of their own as those of queries and keys do.
    fn values_by_host(&mut self) -> Result<(), GraphError> {
        let empty = Graph { name: String::new(), nodes: Vec::new(), edges: Vec::new(), outputs: Vec::new() };
        let mut graph = std::mem::replace(&mut self.model.graph, empty);
        let mut values = Vec::new();
        for layer in 0..self.config.layers {
            let name = format!("layer.{layer}.value");
            let (sums, product) = (format!("{name}.sums"), graph.find_node(&name));
            // Done before.
            let Some(node) = product.map(|id| id.index()).filter(|_| graph.find_edge(&sums).is_none()) else {
                continue;
            };
            let output = graph.nodes[node].output;
            graph.nodes[node].name.clone_from(&sums);
            graph.edges[output.index()].name = sums;
            values.push((layer, name, output));
        }
        let mut builder = GraphBuilder::further(graph);
        let mut replaced = BTreeMap::new();
        for (layer, name, sums) in values {
            builder.layer(Some(layer));
            let value = builder.node(&name, Operator::Elementwise { expression: Expression::X }, &[sums])?;
            replaced.insert(sums, value);
        }
        let mut graph = builder.finish();
        for node in graph.nodes.iter_mut().filter(|node| matches!(node.operator, Operator::Attention { .. })) {
            node.inputs.iter_mut().for_each(|edge| *edge = replaced.get(edge).copied().unwrap_or(*edge));
        }
        self.model.graph = graph;
        Ok(())
    }

    fn edge(&self, name: &str) -> Result<EdgeId, GraphError> {
        self.model.graph.find_edge(name).ok_or_else(|| GraphError::NoSuchEdge { edge: name.into() })
    }

    /// Divides the channels of a place, and multiplies what reads them.
    fn divide(&mut self, place: &Smoothing, most: &[f32], strength: f32) -> Result<(), GraphError> {
        let readers = place.readers.iter().map(|name| self.edge(name)).collect::<Result<Vec<_>, _>>()?;
        let maker = self.edge(&place.maker)?;
        let mut weights = Vec::new();
        readers.iter().for_each(|edge| raise(&mut weights, &self.model.constants[edge], most.len()));
        let factor = |(&x, &w): (&f32, &f32)| match x.powf(strength) / w.powf(1.0 - strength) {
            factor if factor.is_finite() && factor > 0.0 => factor,
            // A channel that is always 0, or that nobody reads.
            _ => 1.0,
        };
        let factors: Vec<f32> = most.iter().zip(&weights).map(factor).collect();
        for edge in readers {
            if let Some(values) = self.model.constants.get_mut(&edge) {
                let rows = values.chunks_mut(factors.len());
                rows.for_each(|row| row.iter_mut().zip(&factors).for_each(|(w, factor)| *w *= factor));
            }
        }
        if let Some(values) = self.model.constants.get_mut(&maker) {
            let columns = values.len() / factors.len();
            let rows = values.chunks_mut(columns).zip(&factors);
            rows.for_each(|(row, factor)| row.iter_mut().for_each(|w| *w /= factor));
        }
        Ok(())
    }

    /// Quantises with ranges from float32 runs on samples of equal length, for contexts up to that length.
    ///
    /// # Errors
    /// No sample, samples of several lengths or with tokens that the model does not have, or an option out of range.
    pub fn quantise(&mut self, samples: &[Vec<u32>], options: &GraphOptions) -> Result<QuantisedLlama, ModelError> {
        let tokens = samples.first().map_or(0, Vec::len);
        samples.iter().try_for_each(|ids| self.check(ids))?;
        if let Some(other) = samples.iter().find(|ids| ids.len() != tokens) {
            return Err(ModelError::TokenCount { tokens: other.len(), limit: tokens });
        }
        if options.read_out == ReadOut::Int32Rows {
            self.values_by_host()?;
        }
        let samples: Vec<_> = samples.iter().map(|ids| inputs(ids)).collect();
        let graph = IntegerGraph::build(self.graph(tokens), &samples, options)?;
        // A cache is int8, so attention must be the accelerator's.
        let left = |step: &&Step| step.operation.name() == "attention" && step.operation.host_reason().is_some();
        if let Some(step) = graph.steps.iter().find(left) {
            let reason = format!("`{}`: {}", step.name, step.operation.host_reason().unwrap_or_default());
            return Err(ModelError::ModelFile { origin: graph.graph.name, reason });
        }
        Ok(QuantisedLlama { config: self.config.clone(), graph, tokens })
    }
}

/// A tensor whose channels can have other units: a constant with a row for each of them makes it, and products alone read it.
struct Smoothing {
    activation: String,
    maker: String,
    readers: Vec<String>,
}

fn smoothings(layers: usize) -> Vec<Smoothing> {
    let place = |layer: usize, [activation, maker]: [&str; 2], readers: &[&str]| {
        let weight = |part: &str| format!("blk.{layer}.{part}.weight");
        Smoothing {
            activation: format!("layer.{layer}.{activation}"),
            maker: weight(maker),
            readers: readers.iter().map(|part| weight(part)).collect(),
        }
    };
    let places = |layer: usize| {
        [
            place(layer, ["attention_norm", "attn_norm"], &["attn_q", "attn_k", "attn_v"]),
            place(layer, ["ffn_norm", "ffn_norm"], &["ffn_gate", "ffn_up"]),
            place(layer, ["gated", "ffn_up"], &["ffn_down"]),
        ]
    };
    (0..layers).flat_map(places).collect()
}

/// Raises the largest magnitude of each column.
fn raise(most: &mut Vec<f32>, values: &[f32], columns: usize) {
    most.resize(columns, 0.0);
    for row in values.chunks(columns) {
        most.iter_mut().zip(row).for_each(|(most, value)| *most = most.max(value.abs()));
    }
}

fn inputs(ids: &[u32]) -> BTreeMap<&'static str, Array> {
    let ids: Vec<f32> = ids.iter().map(|&id| id as f32).collect();
    BTreeMap::from([(IDS, Array { shape: vec![ids.len()], data: ids })])
}

/// A decoder in INT8.
#[derive(Clone, Debug)]
pub struct QuantisedLlama {
    /// Shape of the model.
    pub config: LlamaConfig,
    graph: IntegerGraph,
    tokens: usize,
}

/// The graph of a pass, with what enters and leaves the cache.
#[derive(Clone, Debug)]
pub struct PassGraph {
    /// The graph; its inputs are the tokens and, with earlier ones, keys and values of each block.
    pub graph: IntegerGraph,
    /// Keys and values of each block, those of the new tokens behind the earlier ones.
    pub cache: Vec<[EdgeId; 2]>,
    /// The inputs that hold the earlier ones.
    earlier: Vec<[EdgeId; 2]>,
}

/// Keys and values of each block so far, in the units of their edges, row by row.
pub type Int8Cache = Vec<[Vec<i8>; 2]>;

impl QuantisedLlama {
    /// Most tokens of a context: those of the samples.
    pub fn context(&self) -> usize {
        self.tokens
    }

    /// The graph of the tokens at these positions.
    ///
    /// # Errors
    /// No tokens, or more than the context.
    pub fn at(&self, positions: Positions) -> Result<PassGraph, ModelError> {
        let (tokens, past, limit) = (positions.tokens, positions.past, self.tokens);
        if tokens == 0 || tokens + past > limit {
            return Err(ModelError::TokenCount { tokens: tokens + past, limit });
        }
        let mut out = self.graph.clone();
        set_tokens(&mut out.graph, self.tokens, tokens);
        let rotations = out.graph.nodes.iter_mut().map(|node| &mut node.operator);
        let host = out.steps.iter_mut().filter_map(|step| match &mut step.operation {
            IntegerOperation::Host { operator, .. } => Some(operator),
            _ => None,
        });
        for operator in rotations.chain(host) {
            if let Operator::Rotary { first, .. } = operator {
                *first = past;
            }
        }
        let mut pass = PassGraph { graph: out, cache: Vec::new(), earlier: Vec::new() };
        pass.caches(past)?;
        Ok(pass)
    }

    /// Keys and values of no tokens.
    pub fn cache(&self) -> Int8Cache {
        vec![[Vec::new(), Vec::new()]; self.config.layers]
    }

    /// The integer reference: scores of all words after each of the tokens.
    ///
    /// # Errors
    /// As [`QuantisedLlama::at`], or a token outside the vocabulary.
    pub fn logits(&self, ids: &[u32]) -> Result<Vec<Vec<f32>>, ModelError> {
        let pass = self.at(Positions::prefill(ids.len()))?;
        let tensors = pass.graph.execute(&pass.inputs(ids, &self.cache()))?;
        Ok(pass.scores(&|edge| tensors.get(&edge).cloned()).unwrap_or_default())
    }
}

impl PassGraph {
    /// Puts the cache before the new keys and values.
    fn caches(&mut self, past: usize) -> Result<(), GraphError> {
        let mut steps = std::mem::take(&mut self.graph.steps);
        let empty = Graph { name: String::new(), nodes: Vec::new(), edges: Vec::new(), outputs: Vec::new() };
        let mut builder = GraphBuilder::further(std::mem::replace(&mut self.graph.graph, empty));
        let mut read: Vec<(EdgeId, EdgeId)> = Vec::new();
        for step in &mut steps {
            if let IntegerOperation::Attention { .. } = step.operation {
                let (mut all, mut earlier) = ([step.inputs[1], step.inputs[2]], Vec::new());
                if past > 0 {
                    builder.layer(step.layer);
                    for edge in &mut all {
                        let (cache, whole) = appended(&mut builder, *edge, past)?;
                        earlier.push(cache);
                        read.push((*edge, whole));
                        *edge = whole;
                    }
                    self.earlier.push([earlier[0], earlier[1]]);
                }
                self.cache.push(all);
                step.inputs[1..].copy_from_slice(&all);
            }
        }
        self.graph.graph = builder.finish();
        for node in self.graph.graph.nodes.iter_mut().filter(|node| matches!(node.operator, Operator::Attention { .. }))
        {
            let whole = |edge: &EdgeId| read.iter().find(|(new, _)| new == edge).map_or(*edge, |&(_, whole)| whole);
            node.inputs = node.inputs.iter().map(whole).collect();
        }
        self.graph.steps = self.with_appends(steps, &read);
        Ok(())
    }

    /// The steps, with one that appends behind those that make new keys and values.
    fn with_appends(&self, steps: Vec<Step>, read: &[(EdgeId, EdgeId)]) -> Vec<Step> {
        let mut all = Vec::with_capacity(steps.len() + read.len());
        for step in steps {
            let made = read.iter().find(|(new, _)| *new == step.output);
            let append = made.map(|&(new, whole)| {
                let graph = &self.graph.graph;
                let Source::Node(id) = graph.edge(whole).source else { unreachable!("a node appends") };
                let (name, cache) = (graph.node(id).name.clone(), graph.node(id).inputs[0]);
                let operation = IntegerOperation::Concat { axis: 0, scales: vec![1.0; 2] };
                Step { name, layer: step.layer, inputs: vec![cache, new], output: whole, operation }
            });
            all.push(step);
            all.extend(append);
        }
        all
    }

    /// Scores of all words after each token, from the tensors of a run; nothing if they are not there.
    pub fn scores(&self, values: &dyn Fn(EdgeId) -> Option<Values>) -> Option<Vec<Vec<f32>>> {
        let logits = self.graph.real_values(*self.graph.graph.outputs.first()?, values)?;
        let vocabulary = logits.shape.last().copied().unwrap_or(1);
        Some(rows(&logits.data, vocabulary))
    }

    /// What enters: the tokens, and the cache.
    pub fn inputs(&self, ids: &[u32], cache: &Int8Cache) -> Tensors {
        let graph = &self.graph.graph;
        let ids: Vec<f32> = ids.iter().map(|&id| id as f32).collect();
        let mut tensors = Tensors::new();
        tensors.extend(graph.find_edge(IDS).map(|edge| (edge, Values::Float(ids))));
        for (edges, values) in self.earlier.iter().zip(cache) {
            tensors.extend(edges.iter().zip(values).map(|(&edge, values)| (edge, Values::Int8(values.clone()))));
        }
        tensors
    }
}

/// An input `NAME.earlier` of so many rows before an edge, and the two together, `NAME.all`.
fn appended(builder: &mut GraphBuilder, edge: EdgeId, past: usize) -> Result<(EdgeId, EdgeId), GraphError> {
    let (new, width) = (builder.graph().edge(edge).clone(), builder.shape(edge).last().copied().unwrap_or(1));
    let cache = builder.input(&format!("{}.earlier", new.name), &[past, width])?;
    let whole = builder.node(&format!("{}.all", new.name), Operator::Concat { axis: 0 }, &[cache, edge])?;
    for edge in [cache, whole] {
        if let Some(format) = &new.quantisation {
            builder.quantise(edge, format.clone())?;
        }
    }
    Ok((cache, whole))
}
