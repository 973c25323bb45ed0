//! Attention, GELU and LayerNorm of a graph as the accelerator does them: in finer units than int8, which the normalizer and the
//! integer polynomials need (see the crate's front page).

use crate::files::encoding::INT8_MAX;
use crate::graph::error::GraphError;
use crate::graph::network::{EdgeId, Node, NodeId};
use crate::graph::operator::Operator;
use crate::layer::{
    Activation, Attention, ColumnGroup, DiagonalSum, DiagonalTerm, GeluConstants, Operand, SoftmaxConstants, ibert,
};
use crate::quantise::encoder_layer::MASK_BIAS;
use crate::quantise::graph::Quantiser;
use crate::quantise::integer_graph::IntegerOperation;

/// How much larger than in calibration a row's deviation may be before the sum of its squares wraps.
const MARGIN: f32 = 1.3;
/// Largest beta in units of its products: it leaves them room in int32.
const MAX_BETA: f32 = (1 << 30) as f32;
/// Most that a probability is read out larger than 127 of 1: so large that a peak of 1 % still has 127 steps.
const MAX_PROBABILITY_SCALE: f32 = 100.0;

impl Quantiser<'_> {
    /// The smallest scale of an edge for those that read it: sums of exponentials stay inside int32 if the unit of the scores is
    /// coarse enough.
    pub(super) fn least_scale(&self, edge: EdgeId) -> f32 {
        let readers = self.readers.get(&edge).map_or(&[][..], Vec::as_slice);
        let least = |id: &NodeId| {
            let node = self.model.graph.node(*id);
            let Operator::Attention { scale, .. } = node.operator else { return 0.0 };
            if node.inputs[0] != edge {
                return 0.0;
            }
            let key = self.model.graph.edge(node.inputs[1]);
            let keys = key.shape[key.shape.len() - 2] as f64;
            let one = ibert::EXP_B * ibert::EXP_B + ibert::EXP_C / ibert::EXP_A;
            // A little more than needed, as the constants are cut to integers.
            let unit = 1.01 * (keys * one / f64::from(i32::MAX)).sqrt();
            let key_scale = f64::from(self.ranges.get(&node.inputs[1]).map_or(1.0, |range| range / INT8_MAX));
            (unit / (key_scale * f64::from(scale))) as f32
        };
        readers.iter().map(least).fold(0.0, f32::max)
    }

    /// The integer form of one of these nodes.
    pub(super) fn transformer(&self, id: NodeId) -> Result<IntegerOperation, GraphError> {
        let node = self.model.graph.node(id);
        match node.operator {
            Operator::Attention { heads, scale, causal, .. } => self.attention(id, node, heads, scale, causal),
            Operator::Gelu { .. } => Ok(self.gelu(node)),
            _ => self.layer_norm(id, node),
        }
    }

    fn attention(
        &self,
        id: NodeId,
        node: &Node,
        heads: usize,
        scale: f32,
        causal: bool,
    ) -> Result<IntegerOperation, GraphError> {
        let [query, key, value] = [0, 1, 2].map(|index| self.out.scale(node.inputs[index]));
        let unit = f64::from(query) * f64::from(key) * f64::from(scale);
        let softmax = SoftmaxConstants::for_scale(unit)
            .ok_or_else(|| node.refuse(format!("a unit of its scores is {unit}, more than ln 2")))?;
        let width = self.width(node.output);
        // The first token sees itself only, with a probability of 1, which must not saturate.
        let seen = self.peaks.get(&id).filter(|_| !causal);
        let peaks = seen.cloned().unwrap_or_else(|| vec![1.0; heads]);
        let probability_scale: Vec<f32> =
            peaks.iter().map(|peak| peak.max(f32::MIN_POSITIVE).recip().clamp(1.0, MAX_PROBABILITY_SCALE)).collect();
        let out = self.out.scale(node.output);
        let context_scale = probability_scale.iter().map(|factor| value / (INT8_MAX * factor * out)).collect();
        let head_size = width / heads;
        let parameters =
            Attention { heads, head_size, softmax, mask_bias: MASK_BIAS, probability_scale, context_scale };
        Ok(IntegerOperation::Attention { causal, parameters })
    }

    fn width(&self, edge: EdgeId) -> usize {
        self.model.graph.edge(edge).shape.last().copied().unwrap_or(1)
    }

    fn sum(&self, node: &Node, factor: i8, activation: Activation, scale: f32) -> DiagonalSum {
        let width = self.width(node.output);
        DiagonalSum {
            terms: vec![DiagonalTerm { operand: Operand::Branch, diagonal: vec![factor; width] }],
            bias: vec![0; width],
            activation,
            groups: vec![ColumnGroup { columns: 0..width, scale }],
        }
    }

    fn gelu(&self, node: &Node) -> IntegerOperation {
        let (scale, out) = (f64::from(self.out.scale(node.inputs[0])), f64::from(self.out.scale(node.output)));
        let unit = |factor: i8| scale / f64::from(factor);
        // The finest units in which the polynomial of the largest int8 stays inside int32.
        let fits = |factor: &i8| GeluConstants::for_scale(unit(*factor)).fits(128 * i64::from(*factor));
        let factor = (1..=i8::MAX).rev().find(fits).unwrap_or(1);
        let activation = Activation::Gelu(GeluConstants::for_scale(unit(factor)));
        let scale = (GeluConstants::output_scale(unit(factor)) / out) as f32;
        IntegerOperation::Gelu { sum: self.sum(node, factor, activation, scale) }
    }

    fn layer_norm(&self, id: NodeId, node: &Node) -> Result<IntegerOperation, GraphError> {
        let (scale, out) = (self.out.scale(node.inputs[0]), self.out.scale(node.output));
        let width = self.width(node.output);
        let seen = self.deviations.get(&id).copied().unwrap_or_default();
        // Units so fine that the sum of squares of a row just stays inside int32.
        let most = (i32::MAX as f32 / width as f32).sqrt() / MARGIN;
        let factor = (most / (seen.largest / scale).max(f32::MIN_POSITIVE)).clamp(1.0, INT8_MAX) as i8;
        let step = seen.normalised.max(f32::MIN_POSITIVE.sqrt()) / INT8_MAX;
        let sum = self.sum(node, factor, Activation::LayerNorm, step.recip());
        let (gamma, beta) = (self.constant(node.inputs[1])?.data, self.constant(node.inputs[2])?.data);
        let largest = gamma.iter().fold(f32::MIN_POSITIVE.sqrt(), |most, g| most.max(g.abs()));
        let most_beta = beta.iter().fold(0.0f32, |most, b| most.max(b.abs()));
        let unit = (step * largest / INT8_MAX).max(most_beta / MAX_BETA);
        let gamma = gamma.iter().map(|g| (step * g / unit).round_ties_even() as i8).collect();
        let beta = beta.iter().map(|b| (b / unit).round_ties_even() as i32).collect();
        Ok(IntegerOperation::LayerNorm { sum, gamma, beta, scale: unit / out })
    }
}
