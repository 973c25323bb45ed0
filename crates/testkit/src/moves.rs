//! Loads, stores and their configuration.

use pollux_isa::LocalAddr;

use crate::builder::{Builder, load_scale, scale};
use crate::hazards::{Access, AccumulatorUse, Rows};
use crate::words::Words;

const CHANNELS: [&str; 3] = ["mvin", "mvin2", "mvin3"];

/// CONFIG_LD of one channel.
pub fn configure_load(builder: &mut Builder<'_>, words: &mut Words<'_>) {
    let dim = builder.dim;
    let channel = words.below(3) as usize;
    let stride = match words.below(6) {
        0 => 4 * dim,
        1 => 0,
        2 => dim,
        3 => 64,
        4 => 4 * words.up_to(100),
        _ => words.up_to(300),
    };
    let block_stride = words.pick(&[dim, dim, dim + 1, (dim / 2).max(1), 2 * dim]);
    let repeats = if builder.config.has_first_layer_optimizations && words.one_in(8) { 2 + words.below(3) } else { 1 };
    let operands = [
        ("shrink", u64::from(words.one_in(3))),
        ("pixel_repeats", repeats.min(dim).into()),
        ("block_stride", block_stride.into()),
        ("scale", load_scale(builder, words)),
        ("stride", stride.into()),
    ];
    builder.config_ld(channel, &operands);
}

/// One MVIN: to the scratchpad or the accumulator, of data or zeros.
pub fn load(builder: &mut Builder<'_>, words: &mut Words<'_>) {
    let (dim, config) = (builder.dim, builder.config);
    let channel = words.below(3) as usize;
    let f = builder.load[channel];
    let repeats = u32::from(f.repeats());
    let to_acc = repeats == 1 && words.one_in(3);
    let element: u32 = if to_acc && !f.shrink { config.acc_type.bytes() } else { config.input_type.bytes() };
    let widest = (config.dma_maxbytes / element).max(dim);
    let cols = match words.below(4) {
        _ if repeats > 1 => words.up_to((dim / repeats).max(1)),
        0 => dim.min(widest),
        1 => words.up_to(dim),
        _ => words.up_to(widest),
    };
    let block_stride = u32::from(f.block_stride);
    let rows = words.up_to(dim);
    // One block has no distance to another.
    let rows = if cols > dim { rows.min(block_stride) } else { rows };
    let cols = builder.fitting_cols(cols, rows, block_stride, to_acc);
    let blocks = cols.div_ceil(dim);
    let span = (blocks - 1) * block_stride + rows;
    let accumulate = to_acc && words.one_in(2);
    let zeros = words.one_in(8) && !(to_acc && f.shrink);
    let local = if to_acc { builder.accumulator_place(words, span) } else { builder.scratchpad_place(words, span) };

    // An element that comes in two requests is scaled, or added, in two parts.
    let stride = f.stride;
    let whole = to_acc && element > 1 && (accumulate || config.mvin_scale_acc_args.is_some());
    let align = if whole { u64::from(element) } else { 1 };
    if !stride.is_multiple_of(align) && rows > 1 {
        return;
    }
    let bytes = stride * u64::from(rows - 1) + u64::from(cols * element);
    let place = if zeros { Some(0) } else { builder.move_place(words, bytes, align) };
    let Some(address) = place else { return };
    let memory = address..address + bytes;

    // Repeated pixels go to the rows below, down to the middle of the scratchpad or its beginning. The reservation station
    // moves the range down by as many rows, so that it misses those at the end.
    let (row, half) = (local.memory_row(builder.layout), builder.layout.sp_rows / 2);
    let below = (repeats - 1).min(if row > half { row - half } else { row });
    let first = if to_acc { local } else { LocalAddr::scratchpad(row - below) };
    let all = Rows { tracked: span, ..Rows::consecutive(first, span + below) };
    let used = AccumulatorUse {
        load: to_acc && !zeros,
        zeros: to_acc && zeros,
        accumulating_load: accumulate,
        accumulating_product: false,
    };
    let hazards = &mut builder.hazards;
    if hazards.conflicts(Access::Load, &all)
        || hazards.accumulator_conflicts(used)
        || (!zeros && hazards.memory_conflicts(&memory, false))
    {
        builder.fence();
    }
    builder.hazards.note(Access::Load, &all);
    builder.hazards.note_accumulator(used);
    if !zeros {
        builder.hazards.note_memory(memory, false);
    }
    let local = if accumulate { local.with_accumulate() } else { local };
    let operands = [("dram", address), ("local", local.0.into()), ("cols", cols.into()), ("rows", rows.into())];
    builder.push(CHANNELS[channel], &operands);
}

/// CONFIG_ST without pooling.
pub fn configure_store(builder: &mut Builder<'_>, words: &mut Words<'_>) {
    let dim = builder.dim;
    let stride = match words.below(5) {
        0 => 4 * dim,
        1 => dim,
        2 => 64,
        _ => words.up_to(300),
    };
    let activation = words.pick(&[0, 1, 0, if builder.config.has_normalizations { 3 } else { 1 }]);
    let activation = builder.activation(activation);
    builder.config_st(&[("activation", activation), ("stride", stride.into()), ("acc_scale", scale(words))]);
}

/// One MVOUT from the scratchpad or the accumulator, as elements of either width.
pub fn store(builder: &mut Builder<'_>, words: &mut Words<'_>) {
    let (dim, config) = (builder.dim, builder.config);
    let from_acc = words.one_in(2);
    let full = from_acc && config.acc_read_full_width && (words.one_in(3) || !config.acc_read_small_width);
    let element = if full { config.acc_type.bytes() } else { config.input_type.bytes() };
    let widest = if full { dim } else { (config.dma_maxbytes / element).max(dim) };
    let cols = match words.below(4) {
        0 => dim,
        1 => words.up_to(dim),
        _ => words.up_to(widest),
    };
    let rows = words.up_to(dim);
    let cols = builder.fitting_cols(cols, rows, dim, from_acc);
    let span = (cols.div_ceil(dim) - 1) * dim + rows;
    let local = if from_acc { builder.accumulator_place(words, span) } else { builder.scratchpad_place(words, span) };
    let bytes = u64::from(builder.store_stride) * u64::from(rows - 1) + u64::from(cols * element);
    let Some(address) = builder.move_place(words, bytes, 1) else { return };
    let memory = address..address + bytes;
    let read = Rows::consecutive(local, span);
    prepare_store(builder, &read, memory);
    let local = if full { local.with_full() } else { local };
    let operands = [("dram", address), ("local", local.0.into()), ("cols", cols.into()), ("rows", rows.into())];
    builder.push("mvout", &operands);
}

/// Fences if a store would not be in order, and notes it.
pub fn prepare_store(builder: &mut Builder<'_>, read: &Rows, memory: std::ops::Range<u64>) {
    if builder.hazards.conflicts(Access::Store, read) || builder.hazards.memory_conflicts(&memory, true) {
        builder.fence();
    }
    builder.hazards.note(Access::Store, read);
    builder.hazards.note_memory(memory, true);
}

/// A store of `cols` columns and `rows` rows as its own configuration says, which plain stores then find changed back.
fn configured_store(
    builder: &mut Builder<'_>,
    config: &[(&str, u64)],
    read: &Rows,
    memory: std::ops::Range<u64>,
    [cols, rows]: [u32; 2],
) {
    let (address, dim) = (memory.start, u64::from(builder.dim));
    prepare_store(builder, read, memory);
    builder.config_st(config);
    let operands = [("dram", address), ("local", read.start.0.into()), ("cols", cols.into()), ("rows", rows.into())];
    builder.push("mvout", &operands);
    builder.config_st(&[("stride", 4 * dim)]);
}

/// A pooled store of an image in one accumulator bank, with its own configuration.
pub fn pooled_store(builder: &mut Builder<'_>, words: &mut Words<'_>) {
    if !(builder.config.has_max_pool && builder.config.acc_read_small_width) {
        return;
    }
    let (size, step) = (1 + words.below(3), 1 + words.below(2));
    let (upad, lpad) = (words.below(size), words.below(size));
    let (orows, ocols) = (words.up_to(5), words.up_to(5));
    let outputs = |pad: u32, extent: u32| (pad + extent).checked_sub(size).map_or(0, |room| room / step + 1);
    let (porows, pocols) = (outputs(upad, orows), outputs(lpad, ocols));
    let pixels = orows * ocols;
    let bank_rows = builder.layout.acc_rows / builder.config.acc_banks;
    if porows == 0 || pocols == 0 || pixels > bank_rows {
        return;
    }
    let bank = words.below(builder.config.acc_banks);
    let row = bank * bank_rows + words.below(4 * builder.dim).min(bank_rows - pixels);
    let channels = words.up_to(builder.dim);
    let stride = builder.dim.max(channels) + words.below(8);
    let pitch = pocols + words.below(3);
    let bytes = u64::from(((porows - 1) * pitch + pocols - 1) * stride + channels);
    let Some(address) = builder.move_place(words, bytes, 1) else { return };
    let read = Rows::consecutive(LocalAddr::accumulator(row), pixels);
    let config = [
        ("activation", builder.activation(words.below(2).into())),
        ("pool_stride", step.into()),
        ("pool_size", size.into()),
        ("upad", upad.into()),
        ("lpad", lpad.into()),
        ("pool_out_dim", pitch.into()),
        ("porows", porows.into()),
        ("pocols", pocols.into()),
        ("orows", orows.into()),
        ("ocols", ocols.into()),
        ("stride", stride.into()),
        ("acc_scale", scale(words)),
    ];
    configured_store(builder, &config, &read, address..address + bytes, [channels, 1]);
}

/// A store in the 1-D form, with its own configuration: an image with a pixel a row. The reservation station takes the
/// command's row count, which the store does not use, for the number of rows.
pub fn one_dimensional_store(builder: &mut Builder<'_>, words: &mut Words<'_>) {
    let (orows, ocols) = (words.up_to(5), words.up_to(6));
    let (pitch, channels) = (ocols + words.below(3), words.up_to(builder.dim));
    let stride = channels + words.below(8);
    let pixels = orows * ocols;
    let from_acc = words.one_in(2) && builder.config.acc_read_small_width;
    let local =
        if from_acc { builder.accumulator_place(words, pixels) } else { builder.scratchpad_place(words, pixels) };
    let bytes = u64::from(((orows - 1) * pitch + ocols - 1) * stride + channels);
    let Some(address) = builder.move_place(words, bytes, 1) else { return };
    let rows = pixels.min(builder.dim);
    let read = Rows { tracked: rows, ..Rows::consecutive(local, pixels) };
    let config = [
        ("activation", builder.activation(words.below(2).into())),
        ("pool_size", 1),
        ("pool_out_dim", pitch.into()),
        ("orows", orows.into()),
        ("ocols", ocols.into()),
        ("stride", stride.into()),
        ("acc_scale", scale(words)),
    ];
    configured_store(builder, &config, &read, address..address + bytes, [channels, rows]);
}
