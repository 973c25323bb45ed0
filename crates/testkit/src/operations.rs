//! Which operation a gene stands for.

use pollux_isa::StreamItem;

use crate::builder::{ARENA, ARENA_BYTES, Builder};
use crate::random::Random;
use crate::words::Words;
use crate::{loops, moves, normalize, products};

type Operation = fn(&mut Builder<'_>, &mut Words<'_>);

/// Operations by weight: a gene chooses one line of this table.
const ALL: &[(u32, Operation)] = &[
    (1, pause),
    (5, moves::load),
    (5, moves::store),
    (6, products::chain),
    (2, moves::configure_load),
    (2, moves::configure_store),
    (2, products::configure),
    (1, moves::pooled_store),
    (1, moves::one_dimensional_store),
    (1, fence),
    (1, front_end_command),
    (1, host_write),
    (1, normalize::layer_norm),
    (1, normalize::softmax),
    (1, normalize::gelu_constants),
    (1, loops::matmul),
    (1, loops::convolution),
];

/// The same for streams that meet in few places: without the operations that need a fence.
const DENSE: &[(u32, Operation)] = &[
    (1, pause),
    (8, moves::load),
    (4, moves::store),
    (9, products::chain),
    (1, moves::configure_load),
    (1, moves::configure_store),
    (1, products::configure),
    (1, moves::pooled_store),
];

/// Appends the operation of a gene.
pub fn apply(builder: &mut Builder<'_>, words: &mut Words<'_>) {
    let operations = if builder.dense { DENSE } else { ALL };
    let total = operations.iter().map(|(weight, _)| weight).sum();
    let mut choice = words.below(total);
    for (weight, operation) in operations {
        match choice.checked_sub(*weight) {
            Some(left) => choice = left,
            None => return operation(builder, words),
        }
    }
}

/// No command for some cycles.
fn pause(builder: &mut Builder<'_>, words: &mut Words<'_>) {
    let cycles = words.below(200);
    if cycles > 0 {
        builder.push_item(StreamItem::Wait(cycles.into()));
    }
}

fn fence(builder: &mut Builder<'_>, _: &mut Words<'_>) {
    builder.fence();
}

/// FLUSH, COUNTER or CLKGATE_EN: no effect on memory.
fn front_end_command(builder: &mut Builder<'_>, words: &mut Words<'_>) {
    match words.below(3) {
        0 => builder.push("flush", &[("skip", words.below(2).into())]),
        1 if builder.config.num_counter > 0 => {
            let index = words.below(builder.config.num_counter.min(8)).into();
            let configure = u64::from(words.one_in(2));
            builder.push("counter", &[("index", index), ("configure", configure), ("event", words.below(45).into())]);
        }
        _ => builder.push("clkgate_en", &[]),
    }
}

/// The processor writes to memory while the accelerator is idle.
fn host_write(builder: &mut Builder<'_>, words: &mut Words<'_>) {
    builder.fence();
    let bytes = u64::from(words.up_to(64));
    let address = ARENA + u64::from(words.below((ARENA_BYTES - bytes) as u32));
    let bytes = Random::new(words.below(1 << 16).into()).noise(bytes as usize);
    builder.push_item(StreamItem::Write { address, bytes });
}
