//! A network as a model directory of the GPT-2 family, which Pollux reads.
//!
//! GPT-2 has one number of heads and one inner width. Where a network has less in a layer, zeros stand for the rest: a head whose query,
//! key and value are zero adds nothing, and neither does an inner column without weights.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::json;

use crate::error::TrainError;
use crate::network::Network;
use crate::recipe::{HEAD, Recipe, Shape};

/// Writes `config.json` and `model.safetensors` (16-bit floating point); the tokenizer belongs beside them.
///
/// # Errors
/// A folder that cannot be written; what the tensor library says.
pub fn write(network: &Network<Tensor>, recipe: &Recipe, shape: &Shape, folder: &Path) -> Result<(), TrainError> {
    std::fs::create_dir_all(folder).map_err(TrainError::io(folder))?;
    let width = shape.width;
    let inner = shape.ffn.iter().copied().max().unwrap_or(1);
    let config = json!({
        "model_type": "gpt2", "vocab_size": recipe.vocabulary, "n_positions": recipe.context, "n_embd": width,
        "n_layer": shape.heads.len(), "n_head": width / HEAD, "n_inner": inner, "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5, "scale_attn_weights": true, "tie_word_embeddings": true,
    });
    let path = folder.join("config.json");
    std::fs::write(&path, format!("{config:#}\n")).map_err(TrainError::io(&path))?;
    let tensors: HashMap<String, Tensor> = tensors(network, shape, inner)?
        .into_iter()
        .map(|(name, tensor)| Ok((name, tensor.to_dtype(DType::F16)?)))
        .collect::<candle_core::Result<_>>()?;
    candle_core::safetensors::save(&tensors, folder.join("model.safetensors"))?;
    Ok(())
}

/// The first elements of a tensor in each dimension, and zeros up to another size.
fn part(tensor: &Tensor, keep: &[usize], to: &[usize]) -> candle_core::Result<Tensor> {
    let mut tensor = tensor.clone();
    for (dimension, (&keep, &to)) in keep.iter().zip(to).enumerate() {
        tensor = tensor.narrow(dimension, 0, keep)?.pad_with_zeros(dimension, 0, to - keep)?;
    }
    tensor.contiguous()
}

fn tensors(network: &Network<Tensor>, shape: &Shape, inner: usize) -> candle_core::Result<BTreeMap<String, Tensor>> {
    let Shape { width, heads, ffn } = shape;
    let width = *width;
    let mut all = BTreeMap::new();
    let get = |name: &str, keep: &[usize], to: &[usize]| part(&network.weights[name], keep, to);
    for name in ["wte.weight", "wpe.weight"] {
        let rows = network.weights[name].dim(0)?;
        all.insert(name.to_owned(), get(name, &[rows, width], &[rows, width])?);
    }
    for name in ["ln_f.weight", "ln_f.bias"] {
        all.insert(name.to_owned(), get(name, &[width], &[width])?);
    }
    for (layer, (&heads, &ffn)) in heads.iter().zip(ffn).enumerate() {
        let name = |part: &str| format!("h.{layer}.{part}");
        for norm in ["ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias"] {
            all.insert(name(norm), get(&name(norm), &[width], &[width])?);
        }
        let used = heads * HEAD;
        let three = |part: &str, keep: &[usize], to: &[usize]| {
            let parts = ["q", "k", "v"].map(|one| get(&name(&format!("attn.{one}.{part}")), keep, to));
            let [q, k, v] = parts;
            Tensor::cat(&[q?, k?, v?], to.len() - 1)
        };
        all.insert(name("attn.c_attn.weight"), three("weight", &[width, used], &[width, width])?);
        all.insert(name("attn.c_attn.bias"), three("bias", &[used], &[width])?);
        let mut dense = |part: &str, inputs: [usize; 2], outputs: [usize; 2]| -> candle_core::Result<()> {
            let [weight, bias] = ["weight", "bias"].map(|kind| name(&format!("{part}.{kind}")));
            let matrix = get(&weight, &[inputs[0], outputs[0]], &[inputs[1], outputs[1]])?;
            all.insert(weight, matrix);
            let vector = get(&bias, &outputs[..1], &outputs[1..])?;
            all.insert(bias, vector);
            Ok(())
        };
        dense("attn.c_proj", [used, width], [width; 2])?;
        dense("mlp.c_fc", [width; 2], [ffn, inner])?;
        dense("mlp.c_proj", [ffn, inner], [width; 2])?;
    }
    Ok(all)
}

/// The weights of a checkpoint, or of a file as this crate ships them.
///
/// # Errors
/// A file that is none of this recipe.
pub fn weights(recipe: &Recipe, path: &Path) -> Result<Network<Tensor>, TrainError> {
    let tensors = candle_core::safetensors::load(path, &Device::Cpu)?;
    let fresh = Network::new(recipe, recipe.seed)?;
    let mut weights = BTreeMap::new();
    for (name, var) in &fresh.weights {
        let reason = || format!("it has no `{name}` of {:?}: it is of another recipe", var.dims());
        let tensor = tensors.get(name).filter(|tensor| tensor.dims() == var.dims());
        let tensor = tensor.ok_or_else(|| TrainError::File { path: path.into(), reason: reason() })?;
        weights.insert(name.clone(), tensor.to_dtype(DType::F32)?);
    }
    Ok(Network::with(recipe, weights)?)
}

#[cfg(test)]
mod tests {
    use pollux_model::gpt2::Gpt2Model;

    use super::*;
    use crate::recipe::tests_recipe;
    use crate::text;

    /// Pollux's own float32 reference gives the network's logits, zeros included.
    #[test]
    fn what_is_written_is_the_same_network() {
        let recipe = tests_recipe();
        let shape = Shape { width: 32, heads: vec![2, 1], ffn: vec![32, 64] };
        let network = Network::new(&recipe, 5).unwrap().frozen();
        let folder = std::env::temp_dir().join(format!("pollux-export-{}", std::process::id()));
        write(&network, &recipe, &shape, &folder).unwrap();
        text::learn(&["a text".to_owned()], recipe.vocabulary)
            .unwrap()
            .save(folder.join("tokenizer.json"), false)
            .unwrap();
        let model = Gpt2Model::load(&folder).unwrap();
        let ids: Vec<u32> = (0..10).map(|n| n * 23 % 300).collect();
        let rows = model.decode(&ids, &mut model.cache()).unwrap();
        let tensor = Tensor::from_vec(ids.clone(), (1, 10), &Device::Cpu).unwrap();
        let logits = network.logits(&shape, &tensor).unwrap().to_vec2::<f32>().unwrap();
        for (row, own) in logits.iter().enumerate() {
            for (a, b) in own.iter().zip(model.logits(rows.row(row))) {
                assert!((a - b).abs() < 2e-3, "{row}: {a} {b}");
            }
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
