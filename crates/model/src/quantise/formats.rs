//! Number formats of a quantised Transformer, noted on the edges of its graph.

use std::collections::BTreeMap;

use crate::decoder::QuantisedDecoder;
use crate::encoder::QuantisedModel;
use crate::files::encoding::Encoding;
use crate::graph::error::GraphError;
use crate::graph::network::{Element, Graph, Quantisation};
use crate::tensor::Tensor;

impl Graph {
    /// Notes a quantised encoder's number formats on the edges of its [`bert`](crate::graph::families::bert) graph.
    ///
    /// # Errors
    /// If the graph is not that model's.
    pub fn quantise_bert(&mut self, model: &QuantisedModel) -> Result<(), GraphError> {
        let layers = model.layers.iter().map(|l| &l.encodings);
        self.quantise_layers(layers, "embeddings.norm")
    }

    /// Notes a quantised decoder's number formats on the edges of its [`gpt2`](crate::graph::families::gpt2) graph: int8 tensors, and the residual
    /// stream in int32.
    ///
    /// # Errors
    /// If the graph is not that model's.
    pub fn quantise_gpt2(&mut self, model: &QuantisedDecoder) -> Result<(), GraphError> {
        let stream = |unit| Quantisation { element: Element::Int32, encoding: Encoding::scaled(vec![unit]) };
        self.quantise_edge("embeddings", stream(model.unit))?;
        for (index, block) in model.blocks.iter().enumerate() {
            for sum in ["attention_residual", "ffn_residual"] {
                self.quantise_edge(&format!("layer.{index}.{sum}"), stream(block.unit))?;
            }
        }
        self.quantise_layers(model.blocks.iter().map(|b| &b.encodings), "entry_norm")
    }

    fn quantise_layers<'a>(
        &mut self,
        layers: impl Iterator<Item = &'a BTreeMap<Tensor, Encoding>>,
        input: &str,
    ) -> Result<(), GraphError> {
        for (index, encodings) in layers.enumerate() {
            for (tensor, encoding) in encodings {
                let name = match (tensor, index) {
                    (Tensor::Input, 0) => input.into(),
                    // The input of a later layer is the output of the one before.
                    (Tensor::Input, _) => continue,
                    _ => format!("layer.{index}.{tensor}"),
                };
                self.quantise_edge(&name, Quantisation::int8(encoding.clone()))?;
            }
        }
        Ok(())
    }
}
