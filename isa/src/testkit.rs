//! Strategies for property tests over configurations (feature `testkit`).

use std::fmt;

use proptest::prelude::*;
use proptest::sample::select;

use crate::config::{Capacity, Dataflow, ExpVariant, GemminiConfig, ScaleArgs, ScaleUnits, ValidConfig, log2_ceil};

/// Any configuration that the generator builds and Pollux models, with memories of a size that tests can fill: DIM from 4
/// to 64 in tiles of every shape, queues, station, banks, DMA, TLB, scaling units, dataflows and optional units.
///
/// Left out is what keeps correct programs from their end or their result in the hardware itself: a shared TLB
/// without register filters, accumulators that take longer than a pass or have one port and one sub-bank, and execute
/// queues too short for transposed weights.
pub fn valid_config() -> impl Strategy<Value = ValidConfig> {
    let dim = prop_oneof![6 => Just(4u32), 4 => Just(8u32), 4 => Just(16u32), 1 => Just(32u32), 1 => Just(64u32)];
    dim.prop_flat_map(|dim| {
        let parts = (array(dim), front_end(), memories(dim), port(), scaling(dim), units());
        parts.prop_map(|(array, front_end, memories, port, scaling, units)| {
            let mut config = GemminiConfig::default16();
            for part in [array, front_end, memories, port, units, scaling] {
                (part.0)(&mut config);
            }
            config.name = format!("random-{:08x}", config.digest() >> 32);
            config.validated().expect("every part keeps the rules")
        })
    })
}

/// What a part of a configuration sets.
struct Part(Box<dyn Fn(&mut GemminiConfig)>);

/// The configuration as a whole is what a failing test shows.
impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Part")
    }
}

fn part(set: impl Fn(&mut GemminiConfig) + 'static) -> Part {
    Part(Box::new(set))
}

fn array(dim: u32) -> impl Strategy<Value = Part> {
    let tile = move || select([1u32, 2, 4].into_iter().filter(|tile| dim.is_multiple_of(*tile)).collect::<Vec<_>>());
    let shifter = select(vec![1, 2, dim]);
    let dataflows = vec![Dataflow::Os, Dataflow::Ws, Dataflow::Both];
    (tile(), tile(), shifter, 0u32..2, 0u32..3, any::<bool>(), select(dataflows)).prop_map(
        move |(rows, columns, shifter, latency, delay, tree, dataflow)| {
            part(move |c| {
                (c.tile_rows, c.mesh_rows) = (rows, dim / rows);
                (c.tile_columns, c.mesh_columns) = (columns, dim / columns);
                (c.shifter_banks, c.tile_latency, c.mesh_output_delay) = (shifter, latency, delay);
                (c.use_tree_reduction_if_possible, c.dataflow) = (tree, dataflow);
            })
        },
    )
}

fn front_end() -> impl Strategy<Value = Part> {
    let tables = prop_oneof![
        6 => (select(vec![1u32, 4, 8, 16]), select(vec![1u32, 4, 8]), select(vec![4u32, 8, 16, 32])),
        1 => Just((2, 2, 2)),
    ];
    (1u32..17, 1u32..9, 5u32..17, tables, select(vec![0u32, 1, 3, 8])).prop_map(|(ld, st, ex, tables, counters)| {
        part(move |c| {
            (c.ld_queue_length, c.st_queue_length, c.ex_queue_length) = (ld, st, ex);
            c.reservation_station_entries_ld = tables.0;
            c.reservation_station_entries_st = tables.1;
            c.reservation_station_entries_ex = tables.2;
            c.num_counter = counters;
        })
    })
}

fn memories(dim: u32) -> impl Strategy<Value = Part> {
    let banks = (select(vec![1u32, 2, 4, 8]), select(vec![1u32, 2, 4]));
    // Matrices of a bank as a power of two.
    let sizes = (0u32..5, 0u32..3);
    let sub_banks = prop_oneof![3 => Just(None), 1 => Just(Some(2u32)), 1 => Just(Some(4u32))];
    (banks, sizes, 1u32..9, any::<bool>(), 2u32..4, sub_banks).prop_map(
        move |((sp_banks, acc_banks), (sp, acc), delay, singleported, latency, sub_banks)| {
            let acc_matrices = acc_banks << acc;
            // At least two matrices more than the accumulator.
            let needed = log2_ceil(u64::from((acc_matrices + 2).div_ceil(sp_banks)));
            let sp_matrices = sp_banks << sp.max(needed);
            let sub_banks = sub_banks.map(|n: u32| n.min(dim));
            part(move |c| {
                (c.sp_banks, c.acc_banks) = (sp_banks, acc_banks);
                (c.sp_capacity, c.acc_capacity) = (Capacity::Matrices(sp_matrices), Capacity::Matrices(acc_matrices));
                (c.spad_read_delay, c.sp_singleported) = (delay, singleported);
                (c.acc_singleported, c.acc_sub_banks) = (sub_banks.is_some(), sub_banks);
                c.acc_latency = if sub_banks.is_some() { 2 } else { latency };
            })
        },
    )
}

fn port() -> impl Strategy<Value = Part> {
    let sizes = (select(vec![64u32, 128, 256]), select(vec![64u32, 128]));
    let tlb = (select(vec![4u32, 8, 16]), select(vec![(true, true), (false, true), (false, false)]));
    (sizes, prop_oneof![2u32..9, select(vec![16u32, 32, 64])], tlb).prop_map(
        |((bus, request), requests, (entries, (shared, filter)))| {
            part(move |c| {
                (c.dma_buswidth, c.dma_maxbytes, c.max_in_flight_mem_reqs) = (bus, request, requests);
                (c.tlb_size, c.use_shared_tlb, c.use_tlb_register_filter) = (entries, shared, filter);
            })
        },
    )
}

fn scaling(dim: u32) -> impl Strategy<Value = Part> {
    let units = |largest| prop_oneof![Just(ScaleUnits::PerColumn), (1..=largest).prop_map(ScaleUnits::Count)];
    let largest = (3 * dim).min(8);
    let mvin = || proptest::option::of((1u32..6, units(largest)));
    let acc = (1u32..9, prop_oneof![Just(ScaleUnits::PerColumn), (4u32..=8).prop_map(ScaleUnits::Count)]);
    (mvin(), mvin(), proptest::option::weighted(0.9, acc)).prop_map(|(mvin, mvin_acc, acc)| {
        let args = |(latency, units)| ScaleArgs { latency, units, ..crate::config::FLOAT32_SCALE };
        part(move |c| {
            (c.mvin_scale_args, c.mvin_scale_acc_args) = (mvin.map(args), mvin_acc.map(args));
            c.acc_scale_args = acc.map(args);
            if let Some(args) = &mut c.acc_scale_args
                && !c.has_normalizations
            {
                // The generator shares multipliers only in builds with normalizations.
                args.units = ScaleUnits::PerColumn;
            }
        })
    })
}

fn units() -> impl Strategy<Value = Part> {
    let reads = select(vec![(true, true), (true, true), (true, false), (false, true)]);
    let exponential = select(vec![ExpVariant::Polynomial8c3f992, ExpVariant::Released]);
    (any::<[bool; 8]>(), reads, exponential).prop_map(|(has, (full, small), exponential)| {
        let [training, pool, nonlinear, depthwise, normalizations, first_layer, loop_conv, lean] = has;
        part(move |c| {
            (c.has_training_convs, c.has_max_pool, c.has_nonlinear_activations) = (training, pool, nonlinear);
            (c.has_dw_convs, c.has_normalizations) = (depthwise, normalizations);
            (c.has_first_layer_optimizations, c.has_loop_conv) = (first_layer, loop_conv);
            (c.acc_read_full_width, c.acc_read_small_width) = (full, small);
            c.softmax_exp = exponential;
            if lean && c.dataflow == Dataflow::Ws {
                // Operands from the scratchpad, results to the accumulator (`leanConfig`).
                (c.ex_read_from_acc, c.ex_write_to_spad, c.hardcode_d_to_garbage_addr) = (false, false, true);
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest! {
        #[test]
        fn texts_of_any_configuration_are_read_back(config in valid_config()) {
            let text = config.to_toml_string().expect("it is written");
            prop_assert_eq!(GemminiConfig::from_toml_str(&text).expect("it is read"), config);
        }
    }
}
