//! Products in both dataflows.

use pollux_isa::LocalAddr;
use pollux_isa::config::Dataflow;

use crate::builder::{Builder, scale};
use crate::hazards::{Access, AccumulatorUse, Rows};
use crate::words::Words;

/// CONFIG_EX: dataflow, transposes, strides, activation, shift.
pub fn configure(builder: &mut Builder<'_>, words: &mut Words<'_>) {
    let weight_stationary = match builder.config.dataflow {
        Dataflow::Both => !words.one_in(3),
        Dataflow::Ws => true,
        Dataflow::Os => false,
    };
    if builder.result_inside && weight_stationary != builder.weight_stationary() {
        push_result_out(builder, words);
        if builder.result_inside {
            return;
        }
    }
    let (a_transpose, b_transpose) = match (weight_stationary, words.below(4)) {
        (_, 0 | 1) => (false, false),
        (_, 2) => (true, false),
        (true, _) => (false, true),
        (false, _) => (true, true),
    };
    let wide = |words: &mut Words<'_>| if words.one_in(4) { 2u64 } else { 1 };
    // Accumulating into every other row would keep one sub-bank of a single-ported accumulator reading, and its queue of
    // writes would overflow.
    let c_stride = if weight_stationary && !builder.config.acc_singleported { wide(words) } else { 1 };
    let operands = [
        ("dataflow", u64::from(weight_stationary)),
        ("activation", builder.activation(words.one_in(2).into())),
        ("a_transpose", a_transpose.into()),
        ("b_transpose", b_transpose.into()),
        ("a_stride", wide(words)),
        ("c_stride", c_stride),
        ("in_shift", u64::from(if weight_stationary { 0 } else { words.below(6) })),
        ("acc_scale", scale(words)),
    ];
    builder.config_ex(&operands);
}

/// Sizes and places of a product.
struct Product {
    /// Rows of A and C, columns of A and rows of B, columns of B and C.
    m: u32,
    k: u32,
    j: u32,
    a: Rows,
    b: Option<Rows>,
    d: Option<Rows>,
    c: Option<Rows>,
    c_rows: u32,
    accumulate: bool,
    flip: bool,
    /// Rows and columns of operands at the garbage address, which mean nothing.
    garbage_extents: [u32; 2],
}

/// Some pairs of PRELOAD and COMPUTE.
pub fn chain(builder: &mut Builder<'_>, words: &mut Words<'_>) {
    let pairs = words.up_to(3);
    for pair in 0..pairs {
        // In OS one destination stands at the end of a chain of products.
        let keeps = !builder.weight_stationary() && pair + 1 < pairs;
        let product = choose(builder, words, keeps);
        emit(builder, &product);
    }
}

/// A result with a destination, so that none stays in the array.
fn push_result_out(builder: &mut Builder<'_>, words: &mut Words<'_>) {
    let mut product = choose(builder, words, false);
    if product.c.is_none() {
        let to_acc = !builder.config.ex_write_to_spad;
        let (words, m) = (&mut *words, product.m);
        let start = if to_acc { builder.accumulator_place(words, m) } else { builder.scratchpad_place(words, m) };
        let rows = Rows::consecutive(start, m);
        (product.c, product.c_rows, product.accumulate) = (Some(rows), product.m, false);
    }
    emit(builder, &product);
}

/// An operand in the scratchpad: `rows` rows in memory, of which the reservation station sees `tracked`.
fn operand(builder: &Builder<'_>, words: &mut Words<'_>, rows: u32, stride: u32, tracked: u32) -> Rows {
    let start = builder.scratchpad_place(words, (rows - 1) * stride + 1);
    Rows { start, count: rows, stride, tracked }
}

fn choose(builder: &Builder<'_>, words: &mut Words<'_>, keeps: bool) -> Product {
    let dim = builder.dim;
    let f = builder.execute;
    let weight_stationary = builder.weight_stationary();
    let extent = |words: &mut Words<'_>| if words.one_in(2) { words.up_to(dim) } else { dim };
    let (m, k, j) = (extent(words), extent(words), extent(words));
    let stride = u32::from(f.a_stride);
    let a_rows = if f.a_transpose { k } else { m };
    let a = operand(builder, words, a_rows, stride, a_rows * stride);
    // With a transposed B the station takes the rows of the transposed matrix for those in memory.
    let b_rows = if f.b_transpose { j } else { k };
    let b_garbage = words.one_in(if weight_stationary { 6 } else { 16 });
    let b = (!b_garbage).then(|| operand(builder, words, b_rows, 1, k));
    let has_d = !builder.config.hardcode_d_to_garbage_addr && !words.one_in(3);
    let d = has_d.then(|| operand(builder, words, m, 1, m));
    // Weights at the garbage address replace the old ones only if the pass has DIM rows, as with a transposed operand.
    let whole = !weight_stationary || f.a_transpose || f.b_transpose;
    let flip = !(builder.may_accumulate && (words.one_in(2) || (b.is_none() && !whole)));
    let b = b.or_else(|| (flip && !whole).then(|| operand(builder, words, b_rows, 1, k)));

    let c_stride = u32::from(f.c_stride);
    let c_rows = m;
    let span = (c_rows - 1) * c_stride + 1;
    let to_acc = !builder.config.ex_write_to_spad || (builder.config.ex_write_to_acc && !words.one_in(3));
    let start = if to_acc { builder.accumulator_place(words, span) } else { builder.scratchpad_place(words, span) };
    let c = Rows { start, count: c_rows, stride: c_stride, tracked: c_rows * c_stride };
    let discarded = keeps || words.one_in(12);
    let accumulate = to_acc && words.one_in(2);
    let garbage_extents = [words.pick(&[dim, 0, 1]), words.pick(&[dim, 0, 1])];
    Product { m, k, j, a, b, d, c: (!discarded).then_some(c), c_rows, accumulate, flip, garbage_extents }
}

/// A result must not overwrite an operand of its own product that has not been read, unless row by row.
fn overwrites_itself(product: &Product) -> bool {
    let Some(c) = &product.c else { return false };
    let range = |rows: &Rows| {
        let first = rows.start.0 & 0x03ff_ffff;
        first..first + (rows.count - 1) * rows.stride + 1
    };
    let meets = |other: &Rows| {
        let (c_range, other_range) = (range(c), range(other));
        let same = c.start.0 == other.start.0 && c.stride == other.stride;
        !c.start.is_acc() && !same && c_range.start < other_range.end && other_range.start < c_range.end
    };
    meets(&product.a) || [&product.b, &product.d].into_iter().flatten().any(meets)
}

fn emit(builder: &mut Builder<'_>, product: &Product) {
    if overwrites_itself(product) {
        return;
    }
    let used = AccumulatorUse { accumulating_product: product.accumulate, ..AccumulatorUse::default() };
    let operands = [Some(&product.a), product.b.as_ref(), product.d.as_ref()];
    let hazards = &mut builder.hazards;
    let reads = operands.into_iter().flatten().any(|rows| hazards.conflicts(Access::Operand, rows));
    let writes = product.c.as_ref().is_some_and(|rows| hazards.conflicts(Access::Result, rows));
    if reads || writes || hazards.accumulator_conflicts(used) {
        builder.fence();
    }
    for rows in operands.into_iter().flatten() {
        builder.hazards.note(Access::Operand, rows);
    }
    if let Some(rows) = &product.c {
        builder.hazards.note(Access::Result, rows);
        builder.hazards.note_accumulator(used);
    }
    let garbage = LocalAddr::GARBAGE;
    let address = |rows: &Option<Rows>| u64::from(rows.as_ref().map_or(garbage, |rows| rows.start).0);
    let c =
        product.c.as_ref().map_or(garbage, |c| if product.accumulate { c.start.with_accumulate() } else { c.start });
    let &Product { m, k, j, ref a, ref b, ref d, c_rows, flip, .. } = product;
    let (m, k, j) = (u64::from(m), u64::from(k), u64::from(j));
    let weight_stationary = builder.weight_stationary();
    // WS preloads the weights and adds D, OS preloads D and multiplies with B.
    let (preloaded, preloaded_rows, other, other_rows) = if weight_stationary { (b, k, d, m) } else { (d, m, b, k) };
    let extents = |operand: &Option<Rows>, rows: u64| match operand {
        Some(_) => [rows, j],
        None => product.garbage_extents.map(u64::from),
    };
    let [[d_rows, d_cols], [c_rows, c_cols], [bd_rows, bd_cols]] =
        [extents(preloaded, preloaded_rows), extents(&product.c, c_rows.into()), extents(other, other_rows)];
    let operands = [
        ("d", address(preloaded)),
        ("d_cols", d_cols),
        ("d_rows", d_rows),
        ("c", c.0.into()),
        ("c_cols", c_cols),
        ("c_rows", c_rows),
    ];
    builder.push("preload", &operands);
    let operands = [
        ("a", a.start.0.into()),
        ("a_cols", k),
        ("a_rows", m),
        ("bd", address(other)),
        ("bd_cols", bd_cols),
        ("bd_rows", bd_rows),
    ];
    builder.push(if flip { "compute_preloaded" } else { "compute_accumulated" }, &operands);
    builder.result_inside = !weight_stationary && product.c.is_none();
    // OS: sums can go on only while they are in the array.
    builder.may_accumulate = weight_stationary || product.c.is_none();
}
