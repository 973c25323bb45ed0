//! One ONNX node: its operands, attributes, and refusals that name it.

use super::error::OnnxError;
use super::proto::{AttributeProto, NodeProto, TensorProto};

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
