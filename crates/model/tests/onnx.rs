//! ONNX files as graphs: results equal to onnxruntime's, foldings, and every error.
//!
//! `tests/onnx` has models exported by PyTorch (both of its exporters) or built node by node; `expected.safetensors`
//! holds inputs and what onnxruntime computes from them (the file's metadata names versions).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pollux_model::graph::operator::ConvKind;
use pollux_model::graph::{Array, Operator, evaluate};
use pollux_model::onnx::ImportOptions;
use pollux_model::quality::Quality;
use pollux_model::{GraphModel, ModelError};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use safetensors::SafeTensors;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx")
}

fn expected(name: &str) -> Array {
    let bytes = fs::read(directory().join("expected.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor(name).unwrap();
    let data = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    Array::new(tensor.shape(), data)
}

fn load(name: &str, dimensions: &[(&str, usize)]) -> Result<GraphModel, ModelError> {
    let dimensions = dimensions.iter().map(|&(n, s)| (n.to_owned(), s)).collect();
    GraphModel::load_onnx(
        directory().join(format!("{name}.onnx")),
        &ImportOptions { dimensions, ..ImportOptions::default() },
    )
}

/// Channels first to channels last.
fn channels_last(image: &Array) -> Array {
    let [n, c, h, w] = image.shape[..] else { panic!("an image has four dimensions") };
    let pixels = (0..n).flat_map(|b| (0..h * w).flat_map(move |p| (0..c).map(move |k| (b * c + k) * h * w + p)));
    Array::new(&[n, h, w, c], pixels.map(|i| image.data[i]).collect())
}

/// How far the graph's result is from onnxruntime's.
fn quality(name: &str, model: &GraphModel, input: &str) -> Quality {
    model.graph.check().unwrap();
    let mut array = expected(&format!("{name}.{input}"));
    if array.shape.len() == 4 {
        array = channels_last(&array);
    }
    let values = evaluate(model, &BTreeMap::from([(input, array)])).unwrap();
    Quality::of(&values[&model.graph.outputs[0]].data, &expected(&format!("{name}.output")).data)
}

fn count(model: &GraphModel, name: &str) -> usize {
    model.graph.nodes.iter().filter(|n| n.operator.name() == name).count()
}

#[test]
fn an_exported_bert_becomes_the_operators_of_an_encoder() {
    let model = load("bert", &[]).unwrap();
    let quality = quality("bert", &model, "ids");
    assert!(quality.max_error < 1e-5, "{quality:?}");
    let counts = ["matmul", "attention", "gelu", "layer_norm", "reshape", "softmax"].map(|n| count(&model, n));
    assert_eq!(counts, [12, 2, 2, 5, 0, 0]);
    insta::assert_snapshot!(model.graph, @r"
    main_graph
    node                            operator           inputs            output  MACs  format
    embedding                       embedding          5                 5x16       -  float32
    add                             add                5x16              5x16       -  float32
    add_1                           add                5x16              5x16       -  float32
    layer_norm                      layer_norm         5x16              5x16       -  float32
    linear                          matmul             5x16              5x16    1280  float32
    linear_1                        matmul             5x16              5x16    1280  float32
    linear_2                        matmul             5x16              5x16    1280  float32
    scaled_dot_product_attention    attention 2 heads  5x16, 5x16, 5x16  5x16     800  float32
    linear_3                        matmul             5x16              5x16    1280  float32
    add_4                           add                5x16, 5x16        5x16       -  float32
    layer_norm_1                    layer_norm         5x16              5x16       -  float32
    linear_4                        matmul             5x16              5x24    1920  float32
    gelu                            gelu               5x24              5x24       -  float32
    linear_5                        matmul             5x24              5x16    1920  float32
    add_5                           add                5x16, 5x16        5x16       -  float32
    layer_norm_2                    layer_norm         5x16              5x16       -  float32
    linear_6                        matmul             5x16              5x16    1280  float32
    linear_7                        matmul             5x16              5x16    1280  float32
    linear_8                        matmul             5x16              5x16    1280  float32
    scaled_dot_product_attention_1  attention 2 heads  5x16, 5x16, 5x16  5x16     800  float32
    linear_9                        matmul             5x16              5x16    1280  float32
    add_6                           add                5x16, 5x16        5x16       -  float32
    layer_norm_3                    layer_norm         5x16              5x16       -  float32
    linear_10                       matmul             5x16              5x24    1920  float32
    gelu_1                          gelu               5x24              5x24       -  float32
    linear_11                       matmul             5x24              5x16    1920  float32
    add_7                           add                5x16, 5x16        5x16       -  float32
    output                          layer_norm         5x16              5x16       -  float32
    28 nodes, 19520 MACs, 4432 weights
    ");
}

#[test]
fn an_exported_gpt2_has_causal_attention_and_separate_projections() {
    let model = load("gpt2", &[]).unwrap();
    let quality = quality("gpt2", &model, "ids");
    assert!(quality.max_error < 1e-4, "{quality:?}");
    let counts = ["matmul", "attention", "gelu", "layer_norm", "reshape"].map(|n| count(&model, n));
    assert_eq!(counts, [13, 2, 2, 5, 0]);
    for node in model.graph.nodes.iter().filter(|n| n.operator.name() == "attention") {
        assert!(matches!(node.operator, Operator::Attention { causal: true, heads: 2, .. }), "{:?}", node.operator);
    }
}

#[test]
fn decomposed_gelu_layer_norm_and_masked_attention_are_put_together_again() {
    let model = load("block", &[]).unwrap();
    let quality = quality("block", &model, "x");
    assert!(quality.max_error < 1e-5, "{quality:?}");
    insta::assert_snapshot!(model.graph, @r"
    main_graph
    node       operator                   inputs            output  MACs  format
    /q/Add     matmul                     6x16              6x16    1536  float32
    /k/Add     matmul                     6x16              6x16    1536  float32
    /v/Add     matmul                     6x16              6x16    1536  float32
    /MatMul_1  attention 4 heads, causal  6x16, 6x16, 6x16  6x16    1152  float32
    /o/Add     matmul                     6x16              6x16    1536  float32
    /Add       add                        6x16, 6x16        6x16       -  float32
    /n/Add_1   layer_norm                 6x16              6x16       -  float32
    /a/Add     matmul                     6x16              6x24    2304  float32
    /Mul_1     gelu                       6x24              6x24       -  float32
    /b/Add     matmul                     6x24              6x16    2304  float32
    /Add_2     add                        6x16, 6x16        6x16       -  float32
    output     layer_norm                 6x16              6x16       -  float32
    12 nodes, 11904 MACs, 1960 weights
    ");
}

#[test]
fn convolutions_take_in_their_batch_normalisation_and_run_channels_last() {
    let model = load("convolutions", &[]).unwrap();
    let quality = quality("convolutions", &model, "image");
    assert!(quality.max_error < 1e-5, "{quality:?}");
    let kinds: Vec<ConvKind> = (model.graph.nodes.iter())
        .filter_map(|n| match &n.operator {
            Operator::Conv2d(c) => Some(c.kind(*model.graph.edge(n.inputs[0]).shape.last().unwrap())),
            _ => None,
        })
        .collect();
    use ConvKind::{Dense, Depthwise, Grouped, Pointwise};
    assert_eq!(kinds, [Dense, Depthwise, Pointwise, Grouped, Pointwise]);
    insta::assert_snapshot!(model.graph, @r"
    main_graph
    node                    operator                        inputs              output     MACs  format
    /b1/BatchNormalization  conv2d 3x3 /2                   2x18x14x3           2x9x7x8   27216  float32
    /Relu                   relu                            2x9x7x8             2x9x7x8       -  float32
    /pool/MaxPool           max_pool 3x3 /2                 2x9x7x8             2x5x4x8       -  float32
    /dw/Conv                conv2d 3x3, 8 groups            2x5x4x8             2x5x4x8    2880  float32
    /Relu_1                 relu                            2x5x4x8             2x5x4x8       -  float32
    /b2/BatchNormalization  conv2d 1x1                      2x5x4x8             2x5x4x12   3840  float32
    /Relu_2                 relu                            2x5x4x12            2x5x4x12      -  float32
    /g/Conv                 conv2d 3x3 dilated 2, 3 groups  2x5x4x12            2x5x4x12  17280  float32
    /down/Conv              conv2d 1x1                      2x5x4x8             2x5x4x12   3840  float32
    /Add                    add                             2x5x4x12, 2x5x4x12  2x5x4x12      -  float32
    /Relu_3                 relu                            2x5x4x12            2x5x4x12      -  float32
    /AveragePool            average_pool 2x2 /2             2x5x4x12            2x2x2x12      -  float32
    /GlobalAveragePool      global_average_pool             2x2x2x12            2x12          -  float32
    output                  matmul                          2x12                2x5         120  float32
    14 nodes, 55176 MACs, 1029 weights
    ");
}

#[test]
fn a_flattened_image_permutes_the_weights_that_read_it() {
    let model = load("flat", &[("batch", 3)]).unwrap();
    let quality = quality("flat", &model, "image");
    assert!(quality.max_error < 1e-5, "{quality:?}");
}

#[test]
fn quantise_and_dequantise_pairs_become_number_formats() {
    let model = load("qdq", &[]).unwrap();
    let steps = |name: &str| {
        let edge = model.graph.edge(model.graph.find_edge(name).unwrap());
        edge.quantisation.as_ref().map(|q| q.encoding.scale.clone())
    };
    assert_eq!(steps("x"), Some(vec![0.03]));
    assert_eq!(steps("yb"), Some(vec![0.05]));
    assert_eq!(steps("yb.weight").unwrap().len(), 6);
    assert_eq!(count(&model, "matmul") + count(&model, "relu"), model.graph.nodes.len());
    // The graph's float32 meaning lacks the rounding of the activations.
    let quality = quality("qdq", &model, "x");
    assert!(quality.cosine > 0.999, "{quality:?}");
}

#[test]
fn a_batch_normalisation_alone_is_a_depthwise_convolution() {
    let model = load("batch-norm", &[]).unwrap();
    let operators: Vec<&Operator> = model.graph.nodes.iter().map(|node| &node.operator).collect();
    let [Operator::Conv2d(conv)] = operators[..] else { panic!("{operators:?}") };
    assert_eq!((conv.kind(3), conv.bias), (ConvKind::Depthwise, true));
}

#[test]
fn external_data_is_read_from_beside_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.onnx");
    fs::write(&path, external_model("weights.bin")).unwrap();
    let load = || GraphModel::load_onnx(&path, &ImportOptions::default());
    let message = |e: ModelError| e.to_string().replace(&format!("{}/", dir.path().display()), "");
    let error = message(load().unwrap_err());
    assert!(error.starts_with("model.onnx: tensor `w`: external data weights.bin: No such file"), "{error}");
    let values: Vec<f32> = (0..4).map(|v| v as f32).collect();
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    fs::write(dir.path().join("weights.bin"), &bytes[..12]).unwrap();
    assert_eq!(
        message(load().unwrap_err()),
        "model.onnx: tensor `w`: external data weights.bin has 12 bytes, but needs 16"
    );
    fs::write(dir.path().join("weights.bin"), &bytes).unwrap();
    assert_eq!(load().unwrap().constants.values().next().unwrap(), &values);
    fs::write(&path, external_model("../weights.bin")).unwrap();
    assert_eq!(
        message(load().unwrap_err()),
        "model.onnx: tensor `w`: external data `../weights.bin` lies outside the model's directory"
    );
}

/// A field of a protocol buffer message: length-delimited.
fn field(number: u8, payload: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, payload.len() as u8][..], payload].concat()
}

/// A file with one product whose 2x2 weights are external, in `location`, 16 bytes.
fn external_model(location: &str) -> Vec<u8> {
    let entry = |key: &str, value: &str| field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat());
    let weights = [
        vec![0x08, 2, 0x08, 2, 0x10, 1],
        field(8, b"w"),
        entry("location", location),
        entry("length", "16"),
        vec![0x70, 1],
    ];
    let dims = [field(1, &[0x08, 1]), field(1, &[0x08, 2])].concat();
    let tensor_type = field(1, &[vec![0x08, 1], field(2, &dims)].concat());
    let input = [field(1, b"x"), field(2, &tensor_type)].concat();
    let node = [field(1, b"x"), field(1, b"w"), field(2, b"y"), field(4, b"MatMul")].concat();
    let graph = [field(1, &node), field(5, &weights.concat()), field(11, &input), field(12, &field(1, b"y"))].concat();
    field(7, &graph)
}

#[test]
fn what_cannot_be_translated_is_named_with_a_remedy() {
    let prefix = format!("{}/", directory().display());
    let mut files: Vec<String> = fs::read_dir(directory())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n.starts_with("bad-"))
        .collect();
    files.sort();
    let message =
        |file: &String| load(file.trim_end_matches(".onnx"), &[]).unwrap_err().to_string().replace(&prefix, "");
    let messages: Vec<String> = files.iter().map(message).collect();
    insta::assert_snapshot!(messages.join("\n"), @r"
    bad-asymmetric.onnx: node `q` (QuantizeLinear): uint8 with a zero point of 128.0; the accelerator has int8 without zero points: quantise activations symmetrically to int8, or measure their ranges anew (--requantise)
    bad-channels.onnx: node `conv` (Conv): 1 groups of 5 channels and 4 outputs do not fit 3 input channels; check the model
    bad-domain.onnx: node `fused` (FusedMatMul): the operator set `com.microsoft`; export with the standard operators, without the runtime's fusions
    bad-inner.onnx: node `product` (MatMul): operands [2, 8] and [9, 8]; the inner sizes must agree
    bad-operator.onnx: node `recurrent` (LSTM): this operator; the importer's documentation lists what is translated; split the model before this node
    bad-qlinear.onnx: 2 nodes are not supported:
      DequantizeLinear (2 nodes: `product`, `product`): a scale computed at run time; export with fixed shapes and constant folding
    bad-several.onnx: 3 nodes are not supported:
      GRU (2 nodes: `forward`, `backward`): this operator; the importer's documentation lists what is translated; split the model before this node
      GridSample (1 node: `warp`): this operator; the importer's documentation lists what is translated; split the model before this node
    bad-undefined.onnx: node `relu` (Relu): its operand `nothing` is missing from the file
    bad-zero-point.onnx: node `quantise` (QuantizeLinear): uint8 with a zero point of 128.0; the accelerator has int8 without zero points: quantise activations symmetrically to int8, or measure their ranges anew (--requantise)
    ");
}

#[test]
fn a_named_dimension_needs_a_size() {
    let error = load("flat", &[]).unwrap_err().to_string();
    let expected = "input `image`: axis 0 (`batch`) has no fixed size; give it one, for example --dimension batch=1";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn files_that_are_no_models_are_refused() {
    let message = |bytes: &[u8]| GraphModel::from_onnx(bytes, &ImportOptions::default()).unwrap_err().to_string();
    assert_eq!(message(b""), "not a valid ONNX model: it has no graph; it may be truncated, export it again");
    assert!(message(b"GGUF, perhaps").starts_with("not a valid ONNX model: "));
    let error = GraphModel::load_onnx("no/such.onnx", &ImportOptions::default()).unwrap_err().to_string();
    assert_eq!(error, "no/such.onnx: No such file or directory (os error 2)");
}

/// The same cases in every run.
fn same_cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(5), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(same_cases(300))]

    #[test]
    fn damaged_files_never_panic(file in 0usize..5, at in 0usize..40_000, value: u8, length in 0usize..40_000) {
        let name = ["bert", "gpt2", "block", "convolutions", "qdq"][file];
        let mut bytes = fs::read(directory().join(format!("{name}.onnx"))).unwrap();
        let at = at % bytes.len();
        bytes[at] = value;
        let _ = GraphModel::from_onnx(&bytes, &ImportOptions::default());
        bytes.truncate(length % bytes.len());
        let _ = GraphModel::from_onnx(&bytes, &ImportOptions::default());
    }
}
