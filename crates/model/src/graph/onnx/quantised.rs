//! Quantised operators as products of dequantised operands: QLinearConv and QLinearMatMul, whose scales and zero points are
//! constants, and the integer products behind DynamicQuantizeLinear.
//!
//! A dynamic quantisation is a rounding of real numbers in a scale that every run chooses. Here the numbers stay as they are, in a
//! scale of 1 with a zero point of 0, until the network is quantised for the accelerator: what multiplies by the scales later
//! multiplies by 1.

use std::collections::BTreeSet;

use super::proto::{AttributeProto, NodeProto};

/// `AttributeProto.AttributeType` of a number.
const FLOAT: i32 = 1;
const INT: i32 = 2;

/// Nodes with the quantised operators written in terms of others.
pub(super) fn expanded(nodes: Vec<NodeProto>) -> Vec<NodeProto> {
    let dynamic = |node: &&NodeProto| node.op_type == "DynamicQuantizeLinear";
    let zeros: BTreeSet<String> = nodes.iter().filter(dynamic).filter_map(|node| node.output.get(2).cloned()).collect();
    let mut out = Vec::with_capacity(nodes.len());
    for node in nodes {
        let Some(result) = node.output.first().cloned() else {
            out.push(node);
            continue;
        };
        let mut rewriting = Rewriting { result, node, zeros: &zeros, nodes: Vec::new() };
        match rewriting.node.op_type.as_str() {
            "QLinearConv" if rewriting.node.input.len() >= 8 => rewriting.static_product("Conv", 0),
            "QLinearMatMul" if rewriting.node.input.len() == 8 => rewriting.static_product("MatMul", 1),
            "ConvInteger" if rewriting.node.input.len() >= 2 => rewriting.integer_product("Conv", 0),
            "MatMulInteger" if rewriting.node.input.len() >= 2 => rewriting.integer_product("MatMul", 1),
            "DynamicQuantizeLinear" => rewriting.dynamic(),
            _ => rewriting.nodes.push(rewriting.node.clone()),
        }
        out.extend(rewriting.nodes);
    }
    out
}

struct Rewriting<'a> {
    result: String,
    node: NodeProto,
    /// Zero points of dynamic quantisations: 0.
    zeros: &'a BTreeSet<String>,
    nodes: Vec<NodeProto>,
}

impl Rewriting<'_> {
    /// Adds a node; returns its result's name.
    fn add(&mut self, op_type: &str, part: &str, input: &[&str]) -> String {
        let output = if part.is_empty() { self.result.clone() } else { format!("{}.{part}", self.result) };
        self.nodes.push(NodeProto {
            input: input.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.clone()],
            // Messages name the file's node.
            name: self.node.name.clone(),
            op_type: op_type.to_owned(),
            ..NodeProto::default()
        });
        output
    }

    fn attribute(&mut self, attribute: AttributeProto) {
        if let Some(node) = self.nodes.last_mut() {
            node.attribute.push(attribute);
        }
    }

    fn axis(&mut self, axis: i64) {
        self.attribute(AttributeProto { name: "axis".into(), i: axis, r#type: INT, ..AttributeProto::default() });
    }

    fn number(&mut self, part: &str, value: f32) -> String {
        let name = self.add("Constant", part, &[]);
        let name_of = "value_float".into();
        self.attribute(AttributeProto { name: name_of, f: value, r#type: FLOAT, ..AttributeProto::default() });
        name
    }

    fn operand(&self, index: usize) -> String {
        self.node.input.get(index).cloned().unwrap_or_default()
    }

    /// x, its scale and zero point, w, its own, those of the result, and a bias in the scale of the sums.
    fn static_product(&mut self, product: &str, axis: i64) {
        let [x, xs, xz, w, ws, wz, ys, yz, b] = [0, 1, 2, 3, 4, 5, 6, 7, 8].map(|index| self.operand(index));
        let real_x = self.add("DequantizeLinear", "x", &[&x, &xs, &xz]);
        let real_w = self.add("DequantizeLinear", "w", &[&w, &ws, &wz]);
        self.axis(axis);
        let mut operands = vec![real_x, real_w];
        if !b.is_empty() {
            let scale = self.add("Mul", "bias_scale", &[&xs, &ws]);
            let real_b = self.add("DequantizeLinear", "bias", &[&b, &scale]);
            self.axis(0);
            operands.push(real_b);
        }
        let sums = self.add(product, "sums", &operands.iter().map(String::as_str).collect::<Vec<_>>());
        let attributes = self.node.attribute.clone();
        attributes.into_iter().for_each(|attribute| self.attribute(attribute));
        self.add("QuantizeLinear", "", &[&sums, &ys, &yz]);
    }

    /// x, w and their zero points.
    fn integer_product(&mut self, product: &str, axis: i64) {
        let [x, w, xz, wz] = [0, 1, 2, 3].map(|index| self.operand(index));
        let real_x = if xz.is_empty() || self.zeros.contains(&xz) { x } else { self.add("Sub", "x", &[&x, &xz]) };
        let one = self.number("one", 1.0);
        let real_w = self.add("DequantizeLinear", "w", &[&w, &one, &wz]);
        self.axis(axis);
        self.add(product, "", &[&real_x, &real_w]);
        let attributes = self.node.attribute.clone();
        attributes.into_iter().for_each(|attribute| self.attribute(attribute));
    }

    fn dynamic(&mut self) {
        let outputs = self.node.output.clone();
        let x = self.operand(0);
        self.add("Identity", "", &[&x]);
        for (output, value) in outputs.into_iter().skip(1).zip([1.0, 0.0]).filter(|(output, _)| !output.is_empty()) {
            self.number("", value);
            self.nodes.last_mut().expect("a node was added").output = vec![output];
        }
    }
}
