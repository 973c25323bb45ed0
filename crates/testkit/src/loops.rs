//! Unrolled loops: LOOP_WS and LOOP_CONV_WS, with everything they need configured, between fences.

use pollux_isa::config::{CONCURRENT_LOOPS, Dataflow};

use crate::builder::{ARENA, ARENA_BYTES, Builder, load_scale, scale};
use crate::products::configure;
use crate::words::Words;

/// Weight-stationary, without transposes inside the execute controller beyond those given.
fn configure_execute(
    builder: &mut Builder<'_>,
    words: &mut Words<'_>,
    a_transpose: bool,
    b_transpose: bool,
    a_stride: u32,
) -> bool {
    if builder.config.dataflow == Dataflow::Os {
        return false;
    }
    if builder.result_inside {
        // Pushes the result out, as it changes the dataflow or not.
        configure(builder, words);
        if builder.result_inside {
            return false;
        }
    }
    let operands = [
        ("dataflow", 1),
        ("a_transpose", a_transpose.into()),
        ("b_transpose", b_transpose.into()),
        ("a_stride", a_stride.into()),
    ];
    builder.config_ex(&operands);
    true
}

/// One LOOP_WS, or two in a row that add up.
pub fn matmul(builder: &mut Builder<'_>, words: &mut Words<'_>) {
    let (dim, layout) = (builder.dim, builder.layout);
    builder.fence();
    let (a_transpose, b_transpose) = words.pick(&[(false, false), (false, false), (true, false), (false, true)]);
    let (i, j, k) = (words.up_to(3), words.up_to(3), words.up_to(3));
    let half = |rows: u32| rows / CONCURRENT_LOOPS;
    if i * k * dim > half(layout.sp_rows) || k * j * dim > half(layout.sp_rows) || i * j * dim > half(layout.acc_rows) {
        return;
    }
    let pad = |words: &mut Words<'_>| if words.one_in(2) { words.below(dim) } else { 0 };
    let (pad_i, pad_j, pad_k) = (pad(words), pad(words), pad(words));
    let bias = words.one_in(2);
    let full_c = builder.config.acc_read_full_width && (words.one_in(3) || !builder.config.acc_read_small_width);
    let low_d = words.one_in(2);
    let activation = words.pick(&[0u64, 1, 0, if builder.config.has_normalizations { 3 } else { 0 }]);
    let activation = builder.activation(activation);
    let element = |wide: bool| if wide { 4u32 } else { 1 };
    let (c_bytes, d_bytes) = (element(full_c), element(!low_d));
    let (a_cols, a_rows) = if a_transpose { (i * dim, k * dim) } else { (k * dim, i * dim) };
    let (b_cols, b_rows) = if b_transpose { (k * dim, j * dim) } else { (j * dim, k * dim) };
    if !configure_execute(builder, words, a_transpose, b_transpose, 1) {
        return;
    }
    let block = u64::from(dim);
    builder.config_ld(0, &[("block_stride", block), ("stride", a_cols.into()), ("scale", load_scale(builder, words))]);
    builder.config_ld(1, &[("block_stride", block), ("stride", b_cols.into()), ("scale", load_scale(builder, words))]);
    let d_stride = u64::from(j * dim * d_bytes);
    builder.config_ld(2, &[("block_stride", block), ("stride", d_stride), ("shrink", low_d.into())]);
    let c_stride = u64::from(j * dim * c_bytes);
    builder.config_st(&[("activation", activation & 3), ("stride", c_stride), ("acc_scale", scale(words))]);
    let loops = words.up_to(2);
    for number in 0..loops {
        let last = number + 1 == loops;
        let a = builder.loop_place(words, (a_cols * a_rows).into(), 1);
        let b = builder.loop_place(words, (b_cols * b_rows).into(), 1);
        let d = builder.loop_place(words, (i * dim * j * dim * d_bytes).into(), 4);
        let (Some(a), Some(b), Some(d)) = (a, b, d) else { return };
        // The result goes where the loops do not read.
        let c = ARENA + ARENA_BYTES;
        builder.push(
            "loop_ws_config_bounds",
            &[
                ("pad_i", pad_i.into()),
                ("pad_j", pad_j.into()),
                ("pad_k", pad_k.into()),
                ("i", i.into()),
                ("j", j.into()),
                ("k", k.into()),
            ],
        );
        builder.push("loop_ws_config_addrs_ab", &[("a", a), ("b", b)]);
        let d = if bias && number == 0 { d } else { 0 };
        builder.push("loop_ws_config_addrs_dc", &[("d", d), ("c", if last { c } else { 0 })]);
        builder.push("loop_ws_config_strides_ab", &[("a_stride", a_cols.into()), ("b_stride", b_cols.into())]);
        builder.push("loop_ws_config_strides_dc", &[("d_stride", (j * dim).into()), ("c_stride", (j * dim).into())]);
        builder.push(
            "loop_ws",
            &[
                ("ex_accumulate", (bias || number > 0).into()),
                ("full_c", full_c.into()),
                ("low_d", low_d.into()),
                ("act", activation),
                ("a_transpose", a_transpose.into()),
                ("b_transpose", b_transpose.into()),
            ],
        );
    }
    builder.fence();
}

/// One LOOP_CONV_WS.
pub fn convolution(builder: &mut Builder<'_>, words: &mut Words<'_>) {
    let dim = builder.dim;
    if !(builder.config.has_loop_conv && builder.config.acc_read_small_width) {
        return;
    }
    builder.fence();
    let (batches, edge) = (words.up_to(2), 2 + words.below(5));
    let (in_channels, out_channels) = (words.up_to(2 * dim), words.up_to(2 * dim));
    let kernel = words.up_to(edge.min(3));
    let (stride, padding) = (words.up_to(2), words.below(kernel));
    let out = (edge + 2 * padding - kernel) / stride + 1;
    let pooled = builder.config.has_max_pool && out >= 2 && words.one_in(2);
    let (pool_size, pool_stride) = if pooled { (2, words.up_to(2)) } else { (1, 1) };
    let pool_out = (out - pool_size) / pool_stride + 1;
    let (bias, relu) = (words.one_in(2), words.one_in(2) && builder.config.has_nonlinear_activations);
    let (in_blocks, out_blocks) = (in_channels.div_ceil(dim), out_channels.div_ceil(dim));
    let touched = (edge + 2 * padding).max(out * stride + kernel);
    let input_rows = batches * touched * touched * in_blocks;
    let weight_rows = kernel * kernel * in_channels * out_blocks;
    let half = |rows: u32| rows / CONCURRENT_LOOPS;
    let output_rows = batches * out * out * out_blocks;
    let layout = builder.layout;
    if input_rows + weight_rows > half(layout.sp_rows) || output_rows > half(layout.acc_rows) {
        return;
    }
    if !configure_execute(builder, words, false, false, stride) {
        return;
    }
    builder.config_st(&[("activation", relu.into()), ("stride", out_channels.into()), ("acc_scale", scale(words))]);
    let size = |n: u32| u64::from(n);
    let input = builder.loop_place(words, size(batches * edge * edge * in_channels), 1);
    let weights = builder.loop_place(words, size(kernel * kernel * in_channels * out_channels), 1);
    let bias_address = builder.loop_place(words, size(4 * out_channels), 4);
    let (Some(input), Some(weights), Some(bias_address)) = (input, weights, bias_address) else { return };
    let output = ARENA + ARENA_BYTES;
    builder.push(
        "loop_conv_ws_config_1",
        &[
            ("batch_size", size(batches)),
            ("in_row_dim", size(edge)),
            ("in_channels", size(in_channels)),
            ("out_channels", size(out_channels)),
            ("out_row_dim", size(out)),
            ("pool_out_row_dim", size(pool_out)),
            ("out_col_dim", size(out)),
            ("stride", size(stride)),
            ("padding", size(padding)),
        ],
    );
    builder.push(
        "loop_conv_ws_config_2",
        &[
            ("pool_stride", size(pool_stride)),
            ("pool_size", size(pool_size)),
            ("pool_out_col_dim", size(pool_out)),
            ("kernel_dim", size(kernel)),
            ("pochs", size(out_channels)),
            ("pocols", size(pool_out)),
            ("porows", size(pool_out)),
            ("batches", size(batches)),
        ],
    );
    // Rows and columns of the padded input that the kernels touch, less those that exist.
    let beyond = ((out - 1) * stride + kernel).saturating_sub(edge + padding);
    builder.push(
        "loop_conv_ws_config_3",
        &[
            ("lpad", size(padding)),
            ("kchs", size(in_channels)),
            ("kcols", size(kernel)),
            ("krows", size(kernel)),
            ("in_col_dim", size(edge)),
            ("dpad", size(beyond)),
            ("upad", size(padding)),
            ("rpad", size(beyond)),
        ],
    );
    // Before pooling.
    let plain = (pool_out - 1) * pool_stride + pool_size;
    builder.push(
        "loop_conv_ws_config_4",
        &[
            ("orows", size(plain)),
            ("ocols", size(plain)),
            ("out_stride", size(out_channels)),
            ("weight_stride", size(out_channels)),
            ("in_stride", size(in_channels)),
        ],
    );
    builder.push("loop_conv_ws_config_5", &[("weights", weights), ("output", output)]);
    builder.push("loop_conv_ws_config_6", &[("bias", bias_address), ("input", input)]);
    builder.push(
        "loop_conv_ws",
        &[("no_bias", (!bias).into()), ("no_pool", (!pooled).into()), ("activation", relu.into())],
    );
    builder.fence();
    // The loop has changed the channels.
    builder.configure_all();
}
