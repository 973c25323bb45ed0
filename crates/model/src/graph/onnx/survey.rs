//! All nodes that cannot be translated as far as their operators, attributes and shapes of constants tell: found before
//! any weight is read, so that one message names them all.

use std::collections::{BTreeMap, BTreeSet};

use super::dimensions::ImportOptions;
use super::error::OnnxError;
use super::op::Op;
use super::order::Order;
use super::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};

/// Operators that are translated whatever their operands are.
const TRANSLATED: &[&str] = &[
    "Abs",
    "Add",
    "And",
    "ArgMax",
    "ArgMin",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Ceil",
    "Celu",
    "Clip",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "ConvTranspose",
    "Cos",
    "DepthToSpace",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "Flatten",
    "Floor",
    "Gather",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "IsNaN",
    "LRN",
    "LayerNormalization",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "MatMul",
    "Max",
    "MaxPool",
    "Min",
    "Mish",
    "Mod",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "PRelu",
    "Pad",
    "Pow",
    "QuantizeLinear",
    "Reciprocal",
    "ReduceL2",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Resize",
    "Round",
    "Selu",
    "Shape",
    "Sigmoid",
    "Sign",
    "Sin",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "SpaceToDepth",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Swish",
    "Tanh",
    "ThresholdedRelu",
    "Tile",
    "Transpose",
    "Unsqueeze",
    "Upsample",
    "Where",
    "Xor",
];
/// Operators that are computed between constants only.
const FOLDED: &[&str] = &["CumSum", "GatherElements", "GatherND", "Range", "Trilu"];
/// Kinds of attributes (`AttributeProto.AttributeType`).
const FLOAT: i32 = 1;
const INT: i32 = 2;
const STRING: i32 = 3;
const INTS: i32 = 7;
/// Kind of the attributes that are read, by name.
const KINDS: &[(&str, i32)] = &[
    ("allowzero", INT),
    ("alpha", FLOAT),
    ("approximate", STRING),
    ("auto_pad", STRING),
    ("axes", INTS),
    ("axis", INT),
    ("beta", FLOAT),
    ("blocksize", INT),
    ("ceil_mode", INT),
    ("coordinate_transformation_mode", STRING),
    ("count_include_pad", INT),
    ("dilations", INTS),
    ("end", INT),
    ("epsilon", FLOAT),
    ("group", INT),
    ("keepdims", INT),
    ("kernel_shape", INTS),
    ("max", FLOAT),
    ("min", FLOAT),
    ("mode", STRING),
    ("nearest_mode", STRING),
    ("output_padding", INTS),
    ("pads", INTS),
    ("perm", INTS),
    ("size", INT),
    ("split", INTS),
    ("start", INT),
    ("strides", INTS),
    ("to", INT),
    ("training_mode", INT),
    ("transA", INT),
    ("transB", INT),
    ("storage_order", INT),
    ("value_float", FLOAT),
    ("value_floats", 6),
    ("value_int", INT),
    ("value_ints", INTS),
];

/// # Errors
/// The nodes that cannot be translated.
pub(super) fn survey(graph: &GraphProto, order: &Order<'_>, options: &ImportOptions) -> Result<(), OnnxError> {
    let tensors: BTreeMap<&str, &TensorProto> = graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
    let fixed = options.inputs.keys().map(String::as_str);
    let mut constants: BTreeSet<&str> = tensors.keys().copied().chain(fixed).collect();
    let mut refused = Vec::new();
    for node in &order.nodes {
        let op = Op { node };
        let given = || node.input.iter().filter(|name| !name.is_empty());
        let constant = given().all(|name| constants.contains(name.as_str())) || op.kind() == "Shape";
        if constant {
            constants.extend(node.output.iter().map(String::as_str));
        }
        if let Some((what, remedy)) = refusal(op, order, &tensors, constant) {
            refused.push(op.refuse(what, remedy));
        }
    }
    if refused.is_empty() { Ok(()) } else { Err(OnnxError::refused(refused)) }
}

/// What is not supported, and what would help.
fn refusal(
    op: Op<'_>,
    order: &Order<'_>,
    tensors: &BTreeMap<&str, &TensorProto>,
    constant: bool,
) -> Option<(String, String)> {
    let because = |what: &str, remedy: &str| Some((what.to_owned(), remedy.to_owned()));
    if !["", "ai.onnx"].contains(&op.node.domain.as_str()) {
        return because(
            &format!("the operator set `{}`", op.node.domain),
            "export with the standard operators, without the runtime's fusions",
        );
    }
    let kind = op.kind();
    match kind {
        "If" | "Loop" | "Scan" => {
            return because("control flow", "export with fixed shapes, so that it folds away");
        }
        _ if FOLDED.contains(&kind) && !constant => {
            return because(
                "this operator on a tensor that is computed",
                "export with fixed shapes and constant folding",
            );
        }
        _ if !FOLDED.contains(&kind) && !TRANSLATED.contains(&kind) => {
            return because(
                "this operator",
                "the importer's documentation lists what is translated; split the model before this node",
            );
        }
        _ => {}
    }
    attributes(op).or_else(|| extra_results(op, order)).or_else(|| convolution(op, tensors))
}

/// An attribute of the wrong kind, or with a meaning that is not translated.
fn attributes(op: Op<'_>) -> Option<(String, String)> {
    let kind_of =
        |attribute: &AttributeProto| KINDS.iter().find(|(name, _)| *name == attribute.name).map(|&(_, kind)| kind);
    // Files from before the kind was part of the format have 0.
    let wrong =
        |attribute: &&AttributeProto| kind_of(attribute).is_some_and(|kind| ![0, kind].contains(&attribute.r#type));
    if let Some(attribute) = op.node.attribute.iter().find(wrong) {
        return Some((
            format!("its attribute `{}` is of the wrong kind", attribute.name),
            "export the model again".into(),
        ));
    }
    if op.kind() == "BatchNormalization" && op.int("training_mode", 0) != 0 {
        return Some(("training_mode = 1".into(), "export the model for inference".into()));
    }
    if op.kind() == "MaxPool" && op.int("storage_order", 0) != 0 {
        return Some(("storage_order = 1".into(), "export with rows first".into()));
    }
    None
}

/// Results beyond the first, of all operators but Split, if something reads them.
fn extra_results(op: Op<'_>, order: &Order<'_>) -> Option<(String, String)> {
    let more = if op.kind() == "Split" { &[] } else { op.node.output.get(1..).unwrap_or(&[]) };
    let read = more.iter().find(|name| !name.is_empty() && order.readers.contains_key(name.as_str()))?;
    Some((format!("its further result `{read}`"), "use its first result only".into()))
}

/// A convolution's attributes against the shape of its weights.
fn convolution(op: Op<'_>, tensors: &BTreeMap<&str, &TensorProto>) -> Option<(String, String)> {
    if op.kind() != "Conv" {
        return None;
    }
    let weights = tensors.get(op.node.input.get(1)?.as_str())?;
    let kernel = weights.dims.get(2..)?;
    match op.ints("kernel_shape") {
        Some(shape) if shape != kernel => Some((
            format!("kernel_shape {shape:?}, but its weights `{}` have the shape {:?}", weights.name, weights.dims),
            "the last sizes of the weights are the kernel: export the model again".into(),
        )),
        _ => None,
    }
}

/// Writes sums, largest and smallest of any number of tensors as functions of two.
pub(super) fn split_sums(nodes: Vec<NodeProto>) -> Vec<NodeProto> {
    let mut out = Vec::with_capacity(nodes.len());
    for mut node in nodes {
        let operands = std::mem::take(&mut node.input);
        let result = node.output.first().cloned().unwrap_or_default();
        let function = match node.op_type.as_str() {
            "Sum" => Some("Add"),
            "Max" | "Min" => Some(node.op_type.as_str()),
            _ => None,
        };
        let function = function.map(str::to_owned);
        match (function, operands.len()) {
            (Some(_), 1) => out.push(NodeProto { op_type: "Identity".into(), input: operands, ..node }),
            (Some(function), count @ 2..) => {
                let mut left = operands[0].clone();
                for (index, right) in operands.into_iter().enumerate().skip(1) {
                    let sum = if index + 1 == count { result.clone() } else { format!("{result}.part{index}") };
                    let (input, output) = (vec![left, right], vec![sum.clone()]);
                    let name = if index + 1 == count { node.name.clone() } else { String::new() };
                    out.push(NodeProto { input, output, name, op_type: function.clone(), ..NodeProto::default() });
                    left = sum;
                }
            }
            _ => out.push(NodeProto { input: operands, ..node }),
        }
    }
    out
}
