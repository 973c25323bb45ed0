//! The encoder layer against the naive reference.

mod common;

use common::{
    Dense, Random, assert_same_buffers, configs, gelu_constants, product, read_i8, read_out, read_out_all, run,
    run_cycles, softmax_constants,
};
use pollux_asm::program::ElementType;
use pollux_kernels::diagonal::DiagonalOperand;
use pollux_kernels::encoder::{AttentionParams, EncoderLayerParams, Linear, Mask};
use pollux_kernels::{Activation, ColumnGroup, DiagonalSum, DiagonalTerm, ProgramBuilder};

#[derive(Clone, Copy, Debug)]
struct Sizes {
    tokens: usize,
    heads: usize,
    head_size: usize,
    ffn: usize,
    /// Columns of a group of GELU's read-out.
    group: usize,
}

fn linear(random: &mut Random, inputs: usize, outputs: usize) -> Linear {
    Linear {
        inputs,
        outputs,
        weights: random.i8s(inputs * outputs),
        bias: random.i32s(outputs, 20_000),
        scale: 1.0 / (inputs as f32).sqrt() / 150.0,
    }
}

fn norm(random: &mut Random, columns: usize, outliers: usize) -> DiagonalSum {
    // Small factors: LayerNorm's sum of squares must not wrap.
    let term = |random: &mut Random, operand| {
        let diagonal = random.i8s(columns).into_iter().map(|factor| factor / 8).collect();
        DiagonalTerm { operand, diagonal }
    };
    let split = columns - outliers;
    let groups = [(0..split, 30.0), (split..columns, 9.5)];
    DiagonalSum {
        terms: vec![
            term(random, DiagonalOperand::Branch),
            term(random, DiagonalOperand::Branch),
            term(random, DiagonalOperand::Residual),
        ],
        bias: random.i32s(columns, 3000),
        activation: Activation::LayerNorm,
        groups: groups
            .into_iter()
            .filter(|(columns, _)| !columns.is_empty())
            .map(|(columns, scale)| ColumnGroup { columns, scale })
            .collect(),
    }
}

fn gelu(random: &mut Random, columns: usize, group: usize) -> DiagonalSum {
    let groups = (0..columns).step_by(group).map(|start| ColumnGroup {
        columns: start..(start + group).min(columns),
        scale: -1.0 / (1 << (24 + random.below(3))) as f32,
    });
    DiagonalSum {
        groups: groups.collect(),
        terms: vec![DiagonalTerm { operand: DiagonalOperand::Branch, diagonal: random.i8s(columns) }],
        bias: random.i32s(columns, 500),
        activation: Activation::Gelu(gelu_constants(0.004)),
    }
}

fn params(random: &mut Random, sizes: &Sizes) -> EncoderLayerParams {
    let hidden = sizes.heads * sizes.head_size;
    EncoderLayerParams {
        query: linear(random, hidden, hidden),
        key: linear(random, hidden, hidden),
        value: linear(random, hidden, hidden),
        attention: AttentionParams {
            heads: sizes.heads,
            head_size: sizes.head_size,
            softmax: softmax_constants(0.0011),
            mask_bias: -(1 << 24),
            probability_scale: (0..sizes.heads).map(|h| 1.0 - h as f32 / 16.0).collect(),
            context_scale: (0..sizes.heads).map(|h| (1.0 + h as f32 / 8.0) / 127.0).collect(),
        },
        attention_output: linear(random, hidden, hidden),
        attention_norm: norm(random, hidden, 0),
        intermediate: linear(random, hidden, sizes.ffn),
        gelu: gelu(random, sizes.ffn, sizes.group),
        ffn_output: linear(random, sizes.ffn, hidden),
        output_norm: norm(random, hidden, 4),
    }
}

fn reference_linear(linear: &Linear, input: &Dense<i8>) -> Dense<i8> {
    let weights = Dense::new(linear.inputs, linear.outputs, linear.weights.clone());
    let sums = product(input, &weights, |_, c| linear.bias[c]);
    read_out_all(&sums, &Activation::None, linear.scale)
}

fn reference_sum(sum: &DiagonalSum, branch: &Dense<i8>, residual: &Dense<i8>) -> Dense<i8> {
    let mut out = Vec::new();
    for r in 0..branch.rows {
        let row: Vec<i32> = (0..branch.cols)
            .map(|c| {
                let term = |t: &DiagonalTerm| {
                    let operand = if t.operand == DiagonalOperand::Branch { branch } else { residual };
                    i32::from(operand.at(r, c)) * i32::from(t.diagonal[c])
                };
                sum.bias[c] + sum.terms.iter().map(term).sum::<i32>()
            })
            .collect();
        for group in &sum.groups {
            out.extend_from_slice(&read_out(&row, &sum.activation, group.scale)[group.columns.clone()]);
        }
    }
    Dense::new(branch.rows, branch.cols, out)
}

/// All heads: probabilities and context.
fn reference_attention(a: &AttentionParams, q: &Dense<i8>, k: &Dense<i8>, v: &Dense<i8>, mask: Mask) -> [Dense<i8>; 2] {
    let allowed = |query: usize, key: usize| match mask {
        Mask::Full => true,
        Mask::Padding { valid } => key < valid,
        Mask::Causal => key <= query + k.rows - q.rows,
    };
    let mut probabilities = Vec::new();
    let mut context = vec![0; q.rows * q.cols];
    for head in 0..a.heads {
        let columns = head * a.head_size..(head + 1) * a.head_size;
        let [qh, kh, vh] = [q, k, v].map(|m| m.columns(columns.clone()));
        let scores = product(&qh, &kh.transposed(), |r, c| if allowed(r, c) { 0 } else { a.mask_bias });
        let p = read_out_all(&scores, &Activation::Softmax(a.softmax), a.probability_scale[head]);
        let out = read_out_all(&product(&p, &vh, |_, _| 0), &Activation::None, a.context_scale[head]);
        for r in 0..q.rows {
            context[r * q.cols..][columns.clone()].copy_from_slice(out.row(r));
        }
        probabilities.extend(p.data);
    }
    [Dense::new(a.heads * q.rows, k.rows, probabilities), Dense::new(q.rows, q.cols, context)]
}

/// The layer's tensors on both models, and in the reference.
fn check(config: pollux_isa::GemminiConfig, sizes: Sizes, mask: Mask, seed: u64) {
    let random = &mut Random::new(seed);
    let layer = params(random, &sizes);
    let hidden = sizes.heads * sizes.head_size;
    let input = Dense::new(sizes.tokens, hidden, random.i8s(sizes.tokens * hidden));

    let mut builder = ProgramBuilder::new(config).unwrap();
    let view = builder.buffer_i8("input", sizes.tokens, hidden, &input.data).unwrap();
    let placed = layer.place(&mut builder, "layer").unwrap();
    let buffers = placed.lower(&mut builder, "layer0", &view, mask).unwrap();
    let statistics = builder.statistics().total();
    let program = builder.finish().unwrap();
    let (memory, counts) = run(&program);
    assert_eq!(statistics.commands, counts.host_commands);
    assert_eq!(statistics.macs, counts.macs);
    assert_eq!((statistics.bytes_in, statistics.bytes_out), (counts.bytes_in, counts.bytes_out));
    // A pass of the execute controller has at least four rows, which a 2 x 2 array never counts (`total_rows`).
    if program.config.dim() > 2 {
        assert_same_buffers(&program, &memory, &run_cycles(&program).0);
    }

    let [query, key, value] = [&layer.query, &layer.key, &layer.value].map(|l| reference_linear(l, &input));
    let [probabilities, context] = reference_attention(&layer.attention, &query, &key, &value, mask);
    let attention_output = reference_linear(&layer.attention_output, &context);
    let attention_norm = reference_sum(&layer.attention_norm, &attention_output, &input);
    let intermediate = reference_linear(&layer.intermediate, &attention_norm);
    let activated = reference_sum(&layer.gelu, &intermediate, &intermediate);
    let ffn_output = reference_linear(&layer.ffn_output, &activated);
    let output = reference_sum(&layer.output_norm, &ffn_output, &attention_norm);
    for (what, view, expected) in [
        ("query", buffers.query, query),
        ("key", buffers.key, key),
        ("value", buffers.value, value),
        ("probabilities", buffers.probabilities, probabilities),
        ("context", buffers.context, context),
        ("attention_output", buffers.attention_output, attention_output),
        ("attention_norm", buffers.attention_norm, attention_norm),
        ("intermediate", buffers.intermediate, intermediate),
        ("gelu", buffers.gelu, activated),
        ("ffn_output", buffers.ffn_output, ffn_output),
        ("output", buffers.output, output),
    ] {
        let saturated = expected.data.iter().filter(|x| x.unsigned_abs() >= 127).count();
        assert!(
            2 * saturated < expected.data.len() || expected.data.len() < 50,
            "{what} is mostly saturated: a weak test"
        );
        assert!(read_i8(&memory, &view) == expected, "{what} differs");
    }
}

fn exact(config: &pollux_isa::GemminiConfig) -> bool {
    // The reference has the released exponential.
    config.softmax_exp == pollux_isa::config::ExpVariant::Released
}

#[test]
fn an_encoder_layer_of_whole_tiles_equals_the_reference() {
    let sizes = Sizes { tokens: 32, heads: 2, head_size: 32, ffn: 128, group: 16 };
    for config in configs().into_iter().filter(exact) {
        check(config, sizes, Mask::Full, 1);
    }
}

#[test]
fn the_size_of_the_array_does_not_matter() {
    let sizes = Sizes { tokens: 37, heads: 3, head_size: 12, ffn: 77, group: 24 };
    for dim in [4, 8, 32, 64] {
        let config = pollux_isa::GemminiConfig {
            softmax_exp: pollux_isa::config::ExpVariant::Released,
            ..pollux_isa::GemminiConfig::with_dim(dim).unwrap().into_inner()
        };
        check(config, sizes, Mask::Causal, 5);
    }
}

#[test]
fn a_ragged_encoder_layer_with_masks_equals_the_reference() {
    let sizes = Sizes { tokens: 21, heads: 3, head_size: 12, ffn: 77, group: 24 };
    for config in configs().into_iter().filter(exact) {
        check(config.clone(), sizes, Mask::Padding { valid: 13 }, 2);
        check(config, sizes, Mask::Causal, 3);
    }
}

#[test]
fn rows_of_scores_wider_than_the_accumulator_go_through_main_memory() {
    // 258 blocks of 4 columns; the accumulator of 1024 rows holds 256 blocks of 4 rows.
    let config = pollux_isa::GemminiConfig {
        softmax_exp: pollux_isa::config::ExpVariant::Released,
        ..pollux_isa::GemminiConfig::small4()
    };
    let (queries, keys) = (9, 1029);
    let r = &mut Random::new(4);
    let layer = params(r, &Sizes { tokens: queries, heads: 3, head_size: 2, ffn: 4, group: 4 }).attention;
    let mut matrix = |rows: usize| Dense::new(rows, 6, r.i8s(rows * 6));
    let (q, k, v) = (matrix(queries), matrix(keys), matrix(keys));
    let mask = Mask::Padding { valid: 1000 };
    let [expected, _] = reference_attention(&layer, &q, &k, &v, mask);
    let mut builder = ProgramBuilder::new(config).unwrap();
    builder.begin("scores_softmax");
    let [query, key] =
        [("query", &q), ("key", &k)].map(|(name, m)| builder.buffer_i8(name, m.rows, 6, &m.data).unwrap());
    let out = builder.buffer("probabilities", 3 * queries, keys, ElementType::I8).unwrap();
    let addend = layer.place_mask(&mut builder, "mask", mask, queries, keys).unwrap();
    layer.lower_probabilities(&mut builder, &query, &key, &addend, &out).unwrap();
    let program = builder.finish().unwrap();
    assert!(program.buffer("scores_softmax.sums1").is_some() && program.buffer("scores_softmax.sums2").is_none());
    let (memory, _) = run(&program);
    assert!(read_i8(&memory, &out) == expected);
    assert_same_buffers(&program, &memory, &run_cycles(&program).0);
}

/// One attention of `tokens` queries in parts, each part behind the keys and values of the earlier ones in a cache.
fn cached_attention(
    config: &pollux_isa::GemminiConfig,
    params: &AttentionParams,
    qkv: [&Dense<i8>; 3],
    parts: &[usize],
) -> Dense<i8> {
    let [q, k, v] = qkv;
    let mut builder = ProgramBuilder::new(config.clone()).unwrap();
    let [query, key, value] = [("query", q), ("key_cache", k), ("value_cache", v)]
        .map(|(name, m)| builder.buffer_i8(name, m.rows, m.cols, &m.data).unwrap());
    let context = builder.buffer("context", q.rows, q.cols, ElementType::I8).unwrap();
    let mut done = 0;
    for (step, &len) in parts.iter().enumerate() {
        let (queries, keys) = (done..done + len, 0..done + len);
        let name = |part: &str| format!("step{step}.{part}");
        let out = builder.buffer(&name("probabilities"), params.heads * len, done + len, ElementType::I8).unwrap();
        let mask = params.place_mask(&mut builder, &name("mask"), Mask::Causal, len, done + len).unwrap();
        builder.begin(&name("scores_softmax"));
        let (q, k) = (query.rows(queries.clone()).unwrap(), key.rows(keys.clone()).unwrap());
        params.lower_probabilities(&mut builder, &q, &k, &mask, &out).unwrap();
        builder.fence();
        builder.begin(&name("context"));
        let (v, c) = (value.rows(keys).unwrap(), context.rows(queries).unwrap());
        params.lower_context(&mut builder, &out, &v, &c).unwrap();
        builder.fence();
        done += len;
    }
    let program = builder.finish().unwrap();
    let (memory, _) = run(&program);
    assert_same_buffers(&program, &memory, &run_cycles(&program).0);
    read_i8(&memory, &context)
}

#[test]
fn causal_attention_over_a_cache_gives_the_same_in_one_part_and_token_by_token() {
    let config = pollux_isa::GemminiConfig::norm16();
    let r = &mut Random::new(9);
    let sizes = Sizes { tokens: 21, heads: 2, head_size: 24, ffn: 16, group: 16 };
    let layer = params(r, &sizes).attention;
    let mut matrix = || Dense::new(21, 48, r.i8s(21 * 48));
    let (q, k, v) = (matrix(), matrix(), matrix());
    let [_, expected] = reference_attention(&layer, &q, &k, &v, Mask::Causal);
    assert!(cached_attention(&config, &layer, [&q, &k, &v], &[21]) == expected, "prefill");
    let parts = [&[9][..], &[1; 12]].concat();
    assert!(cached_attention(&config, &layer, [&q, &k, &v], &parts) == expected, "prefill, then token by token");
}
