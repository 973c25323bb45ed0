//! Decoders against an integer reference written from the description of the block, and generation with shortcuts.

use pollux_compiler::decoder::{
    BigLittle, Decoder, DecoderLayerParams, DecoderParams, EarlyExit, generate, generate_big_little,
};
use pollux_compiler::execute::CycleSetup;
use pollux_compiler::plan::{Placement, Plan};
use pollux_compiler::synthetic::Shape;
use pollux_isa::GemminiConfig;
use pollux_kernels::diagonal::DiagonalOperand;
use pollux_kernels::encoder::Linear;
use pollux_kernels::{Activation, DiagonalSum};
use pollux_model::Matrix;
use pollux_model::layer::{GeluConstants, SoftmaxConstants};
use pollux_model::layer_reference::{gelu, layer_norm_row, scale_to_int8, softmax_row};

fn params(layers: usize) -> DecoderParams {
    DecoderParams::synthetic(&Shape::new("test", 32, layers, 2, 48), 40, 24, 11).unwrap()
}

fn decoder(params: &DecoderParams, plan: &Plan, setup: Option<CycleSetup>) -> Decoder {
    Decoder::new(GemminiConfig::norm16(), plan, params.clone(), setup).unwrap()
}

fn sums(a: &Matrix<i8>, linear: &Linear) -> Matrix<i32> {
    Matrix::from_fn(a.rows, linear.outputs, |r, c| {
        let product = |k: usize| i32::from(a.at(r, k)) * i32::from(linear.weights[k * linear.outputs + c]);
        linear.bias[c] + (0..linear.inputs).map(product).sum::<i32>()
    })
}

fn dense(a: &Matrix<i8>, linear: &Linear) -> Matrix<i8> {
    let sums = sums(a, linear);
    Matrix::from_fn(sums.rows, sums.cols, |r, c| scale_to_int8(sums.at(r, c), linear.scale))
}

fn diagonal(sum: &DiagonalSum, branch: &Matrix<i8>, residual: &Matrix<i8>) -> Matrix<i8> {
    let scale = |c: usize| sum.groups.iter().find(|g| g.columns.contains(&c)).unwrap().scale;
    let mut out = Matrix::zeros(branch.rows, branch.cols);
    for r in 0..branch.rows {
        let element = |c: usize| {
            sum.bias[c]
                + sum
                    .terms
                    .iter()
                    .map(|term| {
                        let operand = if term.operand == DiagonalOperand::Branch { branch } else { residual };
                        i32::from(operand.at(r, c)) * i32::from(term.diagonal[c])
                    })
                    .sum::<i32>()
        };
        let row: Vec<i32> = (0..branch.cols).map(element).collect();
        let row: Vec<i8> = match sum.activation {
            Activation::LayerNorm => layer_norm_row(&row, scale),
            Activation::Gelu(g) => {
                let constants = GeluConstants { qb: g.qb, qc: g.qc };
                row.iter().enumerate().map(|(c, &q)| scale_to_int8(gelu(q, constants), scale(c))).collect()
            }
            _ => row.iter().enumerate().map(|(c, &q)| scale_to_int8(q, scale(c))).collect(),
        };
        out.row_mut(r).copy_from_slice(&row);
    }
    out
}

fn block(layer: &DecoderLayerParams, x: &Matrix<i8>) -> Matrix<i8> {
    let normalized = diagonal(&layer.attention_norm, x, x);
    let [q, k, v] = [&layer.query, &layer.key, &layer.value].map(|w| dense(&normalized, &w.linear));
    let a = &layer.attention;
    let s = a.softmax;
    let constants = SoftmaxConstants { qln2: s.qln2, qln2_inv: s.qln2_inv, qb: s.qb, qc: s.qc };
    let mut context = Matrix::zeros(x.rows, q.cols);
    for head in 0..a.heads {
        let columns = head * a.head_size..(head + 1) * a.head_size;
        for t in 0..x.rows {
            // Only the keys so far: a token's result must not depend on what follows.
            let score = |key: usize| columns.clone().map(|c| i32::from(q.at(t, c)) * i32::from(k.at(key, c))).sum();
            let scores: Vec<i32> = (0..=t).map(score).collect();
            let p = softmax_row(&scores, constants, a.probability_scale[head]);
            for c in columns.clone() {
                let sum = p.iter().enumerate().map(|(key, &p)| i32::from(p) * i32::from(v.at(key, c))).sum();
                context.row_mut(t)[c] = scale_to_int8(sum, a.context_scale[head]);
            }
        }
    }
    let branch = dense(&context, &layer.attention_output.linear);
    let middle = diagonal(&layer.attention_residual, &branch, x);
    let inner = dense(&diagonal(&layer.ffn_norm, &middle, &middle), &layer.intermediate.linear);
    let branch = dense(&diagonal(&layer.gelu, &inner, &inner), &layer.ffn_output.linear);
    diagonal(&layer.ffn_residual, &branch, &middle)
}

/// Logits of every position.
fn reference(params: &DecoderParams, tokens: &[u32]) -> Vec<Vec<i32>> {
    let h = params.hidden;
    let embed =
        |t: usize, c: usize| params.embedding[tokens[t] as usize * h + c].saturating_add(params.position[t * h + c]);
    let mut x = Matrix::from_fn(tokens.len(), h, embed);
    for layer in &params.layers {
        x = block(layer, &x);
    }
    let logits = sums(&diagonal(&params.final_norm, &x, &x), &params.head);
    (0..logits.rows).map(|r| logits.row(r).to_vec()).collect()
}

const TOKENS: [u32; 19] = [5, 1, 33, 7, 7, 0, 12, 39, 28, 3, 21, 8, 30, 2, 17, 11, 25, 6, 9];

#[test]
fn a_prefill_equals_the_reference_on_both_models() {
    let params = params(2);
    let expected = reference(&params, &TOKENS);
    for setup in [None, Some(CycleSetup::default())] {
        let pass = decoder(&params, &Plan::default(), setup).forward(&TOKENS).unwrap();
        assert_eq!(pass.logits, expected);
        assert_eq!(pass.cycles > 0, setup.is_some());
    }
}

#[test]
fn token_by_token_equals_the_prefill() {
    let params = params(2);
    let expected = reference(&params, &TOKENS);
    let mut decoder = decoder(&params, &Plan::default(), None);
    assert_eq!(decoder.forward(&TOKENS[..3]).unwrap().logits, expected[..3]);
    for (index, token) in TOKENS.iter().enumerate().skip(3) {
        assert_eq!(decoder.forward(&[*token]).unwrap().logits, expected[index..index + 1], "token {index}");
    }
    decoder.truncate(4);
    assert_eq!(decoder.forward(&TOKENS[4..9]).unwrap().logits, expected[4..9], "after taking tokens back");
}

#[test]
fn normalization_by_the_host_does_not_change_a_decoder() {
    let params = params(1);
    let plan = Plan { normalization: Placement::Host, ..Plan::default() };
    let pass = decoder(&params, &plan, None).forward(&TOKENS).unwrap();
    assert_eq!(pass.logits, reference(&params, &TOKENS));
}

#[test]
fn an_early_exit_gives_the_logits_of_the_shorter_model_and_leaves_a_full_cache() {
    let params = params(3);
    let mut early = decoder(&params, &Plan::default(), None);
    let never = EarlyExit { every: 1, confidence: 2.0 };
    let always = EarlyExit { every: 1, confidence: 0.0 };
    assert_eq!(early.forward_early(&TOKENS, never).unwrap().logits, reference(&params, &TOKENS));
    early.truncate(0);
    let pass = early.forward_early(&TOKENS[..5], always).unwrap();
    assert_eq!(pass.layers, 1);
    assert_eq!(pass.logits, reference(&params.first_layers(1).unwrap(), &TOKENS[..5]));
    // The next token attends to keys in every block; without them the functional model would read unwritten rows.
    assert_eq!(early.forward(&TOKENS[5..6]).unwrap().layers, 3);
    assert_eq!(early.len(), 6);
}

#[test]
fn big_little_decoding_gives_the_big_models_tokens() {
    let params = params(3);
    let prompt = &TOKENS[..4];
    let alone = generate(&mut decoder(&params, &Plan::default(), None), prompt, 14, None).unwrap();
    for (layers, confidence) in [(1, 0.0), (2, 0.9), (3, 0.0)] {
        let mut big = decoder(&params, &Plan::default(), None);
        let mut little = decoder(&params.first_layers(layers).unwrap(), &Plan::default(), None);
        let policy = BigLittle { draft: 3, confidence };
        let run = generate_big_little(&mut big, &mut little, prompt, 14, policy).unwrap();
        assert_eq!(run.tokens, alone.tokens, "little model of {layers} blocks");
        assert!(layers < 3 || run.accepted >= 9, "a little model that is the big one is always right");
    }
}

#[test]
fn wrong_tokens_and_a_full_cache_are_refused() {
    let params = params(1);
    let mut decoder = decoder(&params, &Plan::default(), None);
    let message = decoder.forward(&[40]).unwrap_err().to_string();
    assert_eq!(message, "decoder: token 40 is outside the vocabulary of 40");
    let message = decoder.forward(&[0; 25]).unwrap_err().to_string();
    assert_eq!(message, "decoder: 25 tokens, but the cache has room for 1 to 24 more");
    assert!(params.first_layers(2).unwrap_err().to_string().contains("take 1 to 1"));
}
