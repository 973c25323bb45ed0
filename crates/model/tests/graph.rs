//! Graphs: published figures of the model families, agreement with the float32 models, and every error.

use std::collections::BTreeMap;
use std::path::Path;

use pollux_model::bert::{BertConfig, BertModel};
use pollux_model::decoder::QuantisedDecoder;
use pollux_model::gpt2::{Gpt2Config, Gpt2Model, Positions};
use pollux_model::graph::families::{ResNetConfig, bert, gpt2, resnet};
use pollux_model::graph::operator::{Conv2d, ConvKind, Window};
use pollux_model::graph::{Array, Element, Node, Operator, Quantisation, Source, evaluate};
use pollux_model::layer::Encoding;
use pollux_model::quality::Quality;
use pollux_model::quantise::{QuantiseOptions, QuantisedModel};
use pollux_model::{Graph, GraphBuilder, GraphModel};
use proptest::prelude::*;
use safetensors::SafeTensors;

fn bert_config(hidden: usize, layers: usize, heads: usize, positions: usize) -> BertConfig {
    BertConfig {
        model_type: "bert".into(),
        hidden_size: hidden,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        intermediate_size: 4 * hidden,
        vocab_size: 60,
        max_position_embeddings: positions,
        type_vocab_size: 2,
        layer_norm_eps: 1e-12,
        hidden_act: "gelu".into(),
        position_embedding_type: "absolute".into(),
    }
}

fn gpt2_config() -> Gpt2Config {
    Gpt2Config { n_embd: 24, n_layer: 2, n_head: 3, vocab_size: 40, n_positions: 16, ..Gpt2Config::small() }
}

/// 10^9 multiply-accumulates counted as two operations, of the nodes whose name ends in one of `parts`.
fn gflops(graph: &Graph, parts: &[&str]) -> f64 {
    let ids = graph.topological_order().unwrap();
    let chosen = ids.into_iter().filter(|&id| parts.iter().any(|p| graph.node(id).name.ends_with(p)));
    chosen.map(|id| graph.work(id).macs as f64).sum::<f64>() * 2e-9
}

/// Floating-point operations of BERT-Base by Kim et al., arXiv 2302.14017, Table 3.
#[test]
fn bert_base_has_the_published_operation_counts() {
    for (tokens, projections, attention, feed_forward) in
        [(128, 7.25, 0.60, 14.50), (512, 28.99, 9.62, 57.98), (4096, 231.93, 616.02, 463.86)]
    {
        let graph = bert(&bert_config(768, 12, 12, 4096), tokens).unwrap();
        let close = |parts: &[&str], published: f64| {
            let count = gflops(&graph, parts);
            // The table has two decimals, and counts softmax with the products of attention.
            assert!((count / published - 1.0).abs() < 0.01, "{parts:?} at {tokens}: {count}, published {published}");
        };
        close(&["query", "key", "value", "attention_output"], projections);
        close(&["context"], attention);
        close(&["intermediate", "ffn_output"], feed_forward);
    }
}

/// The same paper's Table 12 (rows with 3x3 kernels), and torchvision's 4.09 G multiply-accumulates.
#[test]
fn resnet_50_has_the_published_operation_counts() {
    let graph = resnet(&ResNetConfig::resnet50()).unwrap();
    assert_eq!(graph.name, "resnet-50");
    assert_eq!(format!("{:.2}", graph.total_work().macs as f64 * 1e-9), "4.09");
    for (stage, published) in [("1", 0.69), ("2", 0.92), ("3", 1.39), ("4", 0.69)] {
        let ids = graph.topological_order().unwrap();
        let threes = ids.into_iter().filter(|&id| {
            let name = &graph.node(id).name;
            name.starts_with(&format!("layer{stage}.")) && name.ends_with("conv2")
        });
        let count = threes.map(|id| graph.work(id).macs as f64).sum::<f64>() * 2e-9;
        assert!((count - published).abs() < 0.006, "stage {stage}: {count}");
    }
    assert_eq!(graph.edge(graph.outputs[0]).shape, [1, 1000]);
    // 25.56 M parameters by torchvision; the folded normalisations leave one bias a channel instead of two values.
    assert_eq!(graph.total_work().weights, 25_530_472);
}

#[test]
fn gpt2_small_has_its_published_size() {
    let graph = gpt2(&Gpt2Config::small(), Positions::prefill(1024)).unwrap();
    let weights: usize = graph.constants().map(|e| graph.edge(e).elements()).sum();
    assert_eq!(weights, 124_439_808);
}

#[test]
fn a_bert_graph_computes_what_the_model_computes() {
    let model = BertModel::synthetic(bert_config(24, 2, 3, 20), 4).unwrap();
    let ids = [5, 17, 42, 8, 3];
    let graph = GraphModel::from_bert(&model, ids.len()).unwrap();
    let inputs = BTreeMap::from([("ids", Array::new(&[5], ids.iter().map(|&i| i as f32).collect()))]);
    let values = evaluate(&graph, &inputs).unwrap();
    let expected = model.pool(&model.encode(&ids).unwrap());
    let quality = Quality::of(&values[&graph.graph.outputs[0]].data, &expected);
    assert!(quality.max_error < 1e-5, "{quality:?}");
}

#[test]
fn a_gpt2_graph_computes_what_the_model_computes_with_and_without_cache() {
    let model = Gpt2Model::synthetic(gpt2_config(), 4).unwrap();
    let ids = [5, 17, 39, 8, 3, 30];
    let as_input = |ids: &[u32]| Array::new(&[ids.len()], ids.iter().map(|&i| i as f32).collect());
    let mut cache = model.cache();
    let all = model.decode(&ids, &mut cache).unwrap();
    let expected = model.logits(all.row(5));
    let check = |graph: &GraphModel, inputs: &BTreeMap<&str, Array>| {
        let values = evaluate(graph, inputs).unwrap();
        let logits = &values[&graph.graph.outputs[0]].data;
        let quality = Quality::of(&logits[logits.len() - 40..], &expected);
        assert!(quality.max_error < 1e-4, "{quality:?}");
    };
    let prefill = GraphModel::from_gpt2(&model, Positions::prefill(6)).unwrap();
    check(&prefill, &BTreeMap::from([("ids", as_input(&ids))]));

    let mut cache = model.cache();
    model.decode(&ids[..4], &mut cache).unwrap();
    let names: Vec<(String, String)> =
        (0..2).map(|l| (format!("layer.{l}.key_cache"), format!("layer.{l}.value_cache"))).collect();
    let mut inputs = BTreeMap::from([("ids", as_input(&ids[4..]))]);
    for (layer, (key, value)) in names.iter().enumerate() {
        inputs.insert(key, Array::new(&[4, 24], cache.keys[layer].data.clone()));
        inputs.insert(value, Array::new(&[4, 24], cache.values[layer].data.clone()));
    }
    check(&GraphModel::from_gpt2(&model, Positions { tokens: 2, past: 4 }).unwrap(), &inputs);
}

fn tiny_resnet() -> ResNetConfig {
    ResNetConfig {
        images: 2,
        image: 32,
        stem: 6,
        widths: vec![2, 3],
        blocks: vec![2, 1],
        classes: 5,
        stride_in_3x3: true,
    }
}

/// `tiny-resnet` has torchvision's names; `expected.safetensors` an image, channels last, and PyTorch's result.
#[test]
fn a_resnet_from_safetensors_computes_what_pytorch_computes() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tiny-resnet");
    let model = GraphModel::load_resnet(&directory, &tiny_resnet()).unwrap();
    let bytes = std::fs::read(directory.join("expected.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let expected = |name: &str| -> Vec<f32> {
        let data = file.tensor(name).unwrap().data().to_vec();
        data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let image = Array::new(&[2, 32, 32, 3], expected("image"));
    let values = evaluate(&model, &BTreeMap::from([("image", image)])).unwrap();
    let quality = Quality::of(&values[&model.graph.outputs[0]].data, &expected("output"));
    assert!(quality.max_error < 1e-4, "{quality:?}");
}

#[test]
fn a_resnet_directory_of_another_shape_is_explained() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tiny-resnet");
    let message = |config: ResNetConfig| {
        let error = GraphModel::load_resnet(&directory, &config).unwrap_err().to_string();
        error.replace(&format!("{}/", directory.display()), "")
    };
    let messages = [
        message(ResNetConfig { stem: 8, ..tiny_resnet() }),
        message(ResNetConfig { blocks: vec![2, 2], ..tiny_resnet() }),
        message(ResNetConfig { image: 0, ..tiny_resnet() }),
    ];
    insta::assert_snapshot!(messages.join("\n"), @r"
    model.safetensors: tensor `conv1.weight` has shape [6, 3, 7, 7], but the configuration implies [8, 3, 7, 7]
    model.safetensors: tensor `layer2.1.conv1.weight` is missing (the configuration asks for it; the file has 62 tensors)
    node `conv1` (conv2d): an operand of shape [2, 0, 0, 3] is empty
    ");
}

#[test]
fn quantised_models_note_their_number_formats() {
    let config = bert_config(24, 2, 3, 20);
    let model = BertModel::synthetic(config.clone(), 4).unwrap();
    let quantised = QuantisedModel::build(model, &[(0..20).collect()], &QuantiseOptions::default()).unwrap();
    let mut graph = bert(&config, 5).unwrap();
    graph.quantise_bert(&quantised).unwrap();
    let formats = |graph: &Graph| {
        let of = |n: &Node| graph.edge(n.output).quantisation.as_ref().map_or("float32".into(), ToString::to_string);
        graph.nodes.iter().filter(|n| n.layer != Some(1)).map(|n| format!("{} {}", n.name, of(n))).collect::<Vec<_>>()
    };
    insta::assert_snapshot!(formats(&graph).join("\n"), @r"
    embeddings float32
    embeddings.norm int8 x24
    layer.0.query int8 x24
    layer.0.key int8 x24
    layer.0.value int8 x24
    layer.0.context int8 x24
    layer.0.attention_output int8 x24
    layer.0.attention_residual float32
    layer.0.attention_norm int8 x24
    layer.0.intermediate int8 x96
    layer.0.gelu int8 x96
    layer.0.ffn_output int8 x24
    layer.0.ffn_residual float32
    layer.0.output int8 x24
    embedding float32
    ");

    let model = Gpt2Model::synthetic(gpt2_config(), 4).unwrap();
    let sequence = (0..16).collect();
    let quantised = QuantisedDecoder::build(model, &[sequence], &QuantiseOptions::default()).unwrap();
    let mut graph = gpt2(&gpt2_config(), Positions::step(3)).unwrap();
    graph.quantise_gpt2(&quantised).unwrap();
    insta::assert_snapshot!(formats(&graph).join("\n"), @r"
    embeddings int32 3.342e-4
    entry_norm int8 x24
    layer.0.query int8 x24
    layer.0.key int8 x24
    layer.0.value int8 x24
    layer.0.context int8 x24
    layer.0.attention_output int8 x24
    layer.0.attention_residual int32 3.342e-4
    layer.0.attention_norm int8 x24
    layer.0.intermediate int8 x96
    layer.0.gelu int8 x96
    layer.0.ffn_output int8 x24
    layer.0.ffn_residual int32 3.342e-4
    layer.0.output int8 x24
    logits float32
    ");
    assert_eq!(
        graph.quantise_bert(&quantised_bert()).unwrap_err().to_string(),
        "the graph has no edge `embeddings.norm`"
    );
}

fn quantised_bert() -> QuantisedModel {
    let model = BertModel::synthetic(bert_config(24, 1, 3, 20), 4).unwrap();
    QuantisedModel::build(model, &[(0..20).collect()], &QuantiseOptions::default()).unwrap()
}

#[test]
fn convolutions_are_told_apart() {
    let kind =
        |kernel, padding, groups| Conv2d { window: Window::square(kernel, 1, padding), groups, bias: false }.kind(8);
    assert_eq!(kind(1, 0, 1), ConvKind::Pointwise);
    assert_eq!(kind(3, 1, 1), ConvKind::Dense);
    assert_eq!(kind(3, 1, 8), ConvKind::Depthwise);
    assert_eq!(kind(3, 1, 2), ConvKind::Grouped);
}

#[test]
fn a_graph_is_printed_as_a_table() {
    let mut graph = bert(&bert_config(24, 1, 3, 20), 5).unwrap();
    graph.quantise_edge("layer.0.query", Quantisation::int8(Encoding::scaled(vec![0.025]))).unwrap();
    graph.quantise_edge("layer.0.value", Quantisation::int8(Encoding::scaled(vec![0.5; 24]))).unwrap();
    insta::assert_snapshot!(graph, @r"
    bert-1x24
    node                        operator           inputs            output   MACs  format
    embeddings                  embedding          5                 5x24        -  float32
    embeddings.norm             layer_norm         5x24              5x24        -  float32
    layer.0.query               matmul             5x24              5x24     2880  int8 2.500e-2
    layer.0.key                 matmul             5x24              5x24     2880  float32
    layer.0.value               matmul             5x24              5x24     2880  int8 x24
    layer.0.context             attention 3 heads  5x24, 5x24, 5x24  5x24     1200  float32
    layer.0.attention_output    matmul             5x24              5x24     2880  float32
    layer.0.attention_residual  add                5x24, 5x24        5x24        -  float32
    layer.0.attention_norm      layer_norm         5x24              5x24        -  float32
    layer.0.intermediate        matmul             5x24              5x96    11520  float32
    layer.0.gelu                gelu               5x96              5x96        -  float32
    layer.0.ffn_output          matmul             5x96              5x24    11520  float32
    layer.0.ffn_residual        add                5x24, 5x24        5x24        -  float32
    layer.0.output              layer_norm         5x24              5x24        -  float32
    embedding                   pooling            5x24              24          -  float32
    15 nodes, 35760 MACs, 9240 weights
    ");
}

#[test]
fn a_graph_survives_json_and_is_checked() {
    let mut graph = bert(&bert_config(24, 1, 3, 20), 5).unwrap();
    let scales = Encoding::scaled(vec![0.5; 24]);
    graph.quantise_edge("layer.0.value", Quantisation { element: Element::Int8, encoding: scales }).unwrap();
    graph.check().unwrap();
    let json = serde_json::to_string(&graph).unwrap();
    let back: Graph = serde_json::from_str(&json).unwrap();
    back.check().unwrap();
    assert_eq!(back, graph);
}

#[test]
fn operators_refuse_wrong_shapes_and_name_the_node() {
    let mut b = GraphBuilder::new("test");
    let x = b.input("x", &[5, 24]).unwrap();
    let w = b.constant("w", &[25, 8]).unwrap();
    let y = b.input("y", &[5, 23]).unwrap();
    let image = b.input("image", &[1, 4, 4, 3]).unwrap();
    let kernel = b.constant("kernel", &[7, 7, 3, 8]).unwrap();
    let mut refuse =
        |name: &str, operator: Operator, inputs: &[_]| b.node(name, operator, inputs).unwrap_err().to_string();
    let messages = [
        refuse("product", Operator::MatMul { transpose_b: false, bias: false }, &[x, w]),
        refuse("sum", Operator::Add, &[x, y]),
        refuse("attend", Operator::Attention { heads: 5, scale: 1.0, causal: false, cached: false }, &[x, x, x]),
        refuse(
            "conv",
            Operator::Conv2d(Conv2d { window: Window::square(7, 1, 1), groups: 1, bias: false }),
            &[image, kernel],
        ),
        refuse("pool", Operator::MaxPool(Window::square(2, 2, 0)), &[x]),
        refuse("flat", Operator::Reshape { shape: vec![7] }, &[x]),
        refuse("norm", Operator::LayerNorm { epsilon: 0.0 }, &[x]),
        refuse("x", Operator::Relu, &[x]),
    ];
    insta::assert_snapshot!(messages.join("\n"), @r"
    node `product` (matmul): the inner sizes must agree (24 and 25), found [5, 24] and [25, 8]
    node `sum` (add): both operands must have one shape, found [5, 24] and [5, 23]
    node `attend` (attention): 5 heads do not divide a width of 24
    node `conv` (conv2d): a window of 7 does not fit an image of 6 (padding included)
    node `pool` (max_pool): an image is [images, height, width, channels], found [5, 24]
    node `flat` (reshape): [5, 24] and [7] have different numbers of elements
    node `norm` (layer_norm): 1 operands given, 3 needed
    the name `x` occurs twice; node and edge names must be unique
    ");
}

#[test]
fn damaged_graphs_are_explained() {
    let graph = bert(&bert_config(24, 1, 3, 20), 5).unwrap();
    let damage = |from: &str, to: &str| {
        let json = serde_json::to_string(&graph).unwrap();
        assert!(json.contains(from), "{json}");
        serde_json::from_str::<Graph>(&json.replacen(from, to, 1)).unwrap().check().unwrap_err().to_string()
    };
    let messages = [
        damage("\"inputs\":[0,1,2,3]", "\"inputs\":[0,1,2,9999]"),
        damage("\"inputs\":[0,1,2,3]", "\"inputs\":[0,1,3,2]"),
        damage("\"outputs\":[36]", "\"outputs\":[99]"),
        damage("\"heads\":3", "\"heads\":7"),
        damage("\"shape\":[5,96]", "\"shape\":[5,18446744073709551615]"),
        damage("\"shape\":[5,96]", "\"shape\":[5,95]"),
        damage("\"name\":\"layer.0.key\"", "\"name\":\"layer.0.query\""),
        damage("{\"node\":0}", "{\"node\":1}"),
    ];
    insta::assert_snapshot!(messages.join("\n"), @r"
    `embeddings` refers to edge 9999, but the graph has 37; the file is damaged
    node `embeddings` (embedding): 5 positions needed, the table has 2
    `outputs` refers to edge 99, but the graph has 37; the file is damaged
    node `layer.0.context` (attention): 7 heads do not divide a width of 24
    edge `layer.0.intermediate`: shape [5, 18446744073709551615] needs 320.0 EiB in float32; at most 4.0 GiB are allowed: choose smaller dimensions
    node `layer.0.intermediate` (matmul): the result has shape [5, 96], but its edge says [5, 95]
    the name `layer.0.query` occurs twice; node and edge names must be unique
    edge `embeddings`: its source is not the node that writes it; every edge has exactly one source
    ");
}

#[test]
fn a_cycle_is_found() {
    let mut b = GraphBuilder::new("test");
    let x = b.input("x", &[2, 2]).unwrap();
    let y = b.node("y", Operator::Add, &[x, x]).unwrap();
    let z = b.node("z", Operator::Relu, &[y]).unwrap();
    let mut graph = b.finish();
    graph.nodes[0].inputs[1] = z;
    assert_eq!(
        graph.check().unwrap_err().to_string(),
        "node `y` depends on its own result; a graph must have no cycle"
    );
}

#[test]
fn evaluation_names_missing_values() {
    let graph = bert(&bert_config(24, 1, 3, 20), 5).unwrap();
    let model = GraphModel { graph, constants: BTreeMap::new() };
    let error = evaluate(&model, &BTreeMap::new()).unwrap_err().to_string();
    assert_eq!(error, "edge `ids` of shape [5] needs 5 values, found 0");
    let model = GraphModel::from_bert(&BertModel::synthetic(bert_config(24, 1, 3, 20), 1).unwrap(), 1).unwrap();
    let error = evaluate(&model, &BTreeMap::from([("ids", Array::new(&[1], vec![77.0]))])).unwrap_err().to_string();
    assert_eq!(error, "node `embeddings`: index 77 is outside the table of 60 rows");
}

proptest! {
    #[test]
    fn every_node_comes_after_what_it_reads(seed in proptest::collection::vec((0usize..100, 0usize..100), 1..40)) {
        // Nodes added in a random order of dependencies, then numbered backwards.
        let mut b = GraphBuilder::new("random");
        let mut edges = vec![b.input("x", &[2, 2]).unwrap()];
        for (i, (p, q)) in seed.iter().enumerate() {
            let operands = [edges[p % edges.len()], edges[q % edges.len()]];
            edges.push(b.node(&format!("n{i}"), Operator::Add, &operands).unwrap());
        }
        let graph = b.finish();
        let json = serde_json::to_value(&graph).unwrap();
        let last = graph.nodes.len() - 1;
        let mut reversed = json.clone();
        reversed["nodes"].as_array_mut().unwrap().reverse();
        for edge in reversed["edges"].as_array_mut().unwrap() {
            if let Some(node) = edge["source"].get("node").and_then(serde_json::Value::as_u64) {
                edge["source"]["node"] = (last - node as usize).into();
            }
        }
        let reversed: Graph = serde_json::from_value(reversed).unwrap();
        reversed.check().unwrap();
        for graph in [&graph, &reversed] {
            let order = graph.topological_order().unwrap();
            prop_assert_eq!(order.len(), graph.nodes.len());
            for (at, &id) in order.iter().enumerate() {
                for &input in &graph.node(id).inputs {
                    if let Source::Node(producer) = graph.edge(input).source {
                        prop_assert!(order[..at].contains(&producer));
                    }
                }
            }
        }
    }

    #[test]
    fn a_convolution_with_one_pixel_kernels_is_a_product(
        n in 1usize..3, size in 1usize..5, inputs in 1usize..6, outputs in 1usize..6, seed in 0u32..1000,
    ) {
        let values = |count: usize, salt: u32| -> Vec<f32> {
            (0..count as u32).map(|i| ((i * 37 + seed * 11 + salt) % 17) as f32 - 8.0).collect()
        };
        let mut b = GraphBuilder::new("both");
        let image = b.input("image", &[n, size, size, inputs]).unwrap();
        let kernel = b.constant("kernel", &[1, 1, inputs, outputs]).unwrap();
        let matrix = b.constant("matrix", &[inputs, outputs]).unwrap();
        let conv = Conv2d { window: Window::square(1, 1, 0), groups: 1, bias: false };
        let conv = b.node("conv", Operator::Conv2d(conv), &[image, kernel]).unwrap();
        let product = b.node("product", Operator::MatMul { transpose_b: false, bias: false }, &[image, matrix]).unwrap();
        let weights = values(inputs * outputs, 5);
        let model = GraphModel {
            graph: b.finish(),
            constants: BTreeMap::from([(kernel, weights.clone()), (matrix, weights)]),
        };
        let pixels = Array::new(&[n, size, size, inputs], values(n * size * size * inputs, 0));
        let out = evaluate(&model, &BTreeMap::from([("image", pixels)])).unwrap();
        prop_assert_eq!(&out[&conv], &out[&product]);
    }
}
