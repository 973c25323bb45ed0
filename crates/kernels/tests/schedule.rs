//! Gemmini's tile rule, legality of schedules, and their text.

use pollux_isa::GemminiConfig;
use pollux_kernels::{Axis, Dataflow, Emission, MatmulShape, Schedule, ScheduleError, Tile};

/// 16384 scratchpad rows and 1024 accumulator rows; the rule does not look at anything else.
fn large_scratchpad() -> GemminiConfig {
    GemminiConfig::survey_baseline()
}

/// 4096 rows each.
fn large_accumulator() -> GemminiConfig {
    GemminiConfig::survey_rebalanced()
}

fn shape(i: usize, j: usize, k: usize, whole_rows: bool) -> MatmulShape {
    MatmulShape { whole_rows, ..MatmulShape::new(i, j, k) }
}

/// Shape, whole rows; then for each memory: tile, loop counts, scratchpad rows, accumulator rows.
type Row = ((usize, usize, usize, bool), [([usize; 3], [usize; 3], usize, usize); 2]);

/// Derived by hand from the rule of `tiled_matmul_auto` (gemmini-rocc-tests, commit 180c468).
const TILE_CHOICES: [Row; 13] = [
    ((128, 768, 768, false), [([5, 5, 48], [2, 10, 1], 7680, 400), ([8, 13, 6], [1, 4, 8], 2016, 1664)]),
    ((128, 128, 64, true), [([4, 8, 4], [2, 1, 1], 768, 512), ([8, 8, 4], [1, 1, 1], 1024, 1024)]),
    ((128, 64, 128, false), [([8, 4, 8], [1, 1, 1], 1536, 512), ([8, 4, 8], [1, 1, 1], 1536, 512)]),
    ((128, 3072, 768, false), [([5, 5, 48], [2, 39, 1], 7680, 400), ([8, 13, 6], [1, 15, 8], 2016, 1664)]),
    ((128, 768, 3072, false), [([5, 5, 51], [2, 10, 4], 8160, 400), ([8, 13, 6], [1, 4, 32], 2016, 1664)]),
    ((128, 512, 512, false), [([5, 6, 32], [2, 6, 1], 5632, 480), ([8, 13, 6], [1, 3, 6], 2016, 1664)]),
    ((128, 128, 128, true), [([4, 8, 8], [2, 1, 1], 1536, 512), ([8, 8, 8], [1, 1, 1], 2048, 1024)]),
    ((128, 128, 128, false), [([5, 6, 8], [2, 2, 1], 1408, 480), ([8, 8, 8], [1, 1, 1], 2048, 1024)]),
    ((128, 1024, 512, false), [([5, 6, 32], [2, 11, 1], 5632, 480), ([8, 13, 6], [1, 5, 6], 2016, 1664)]),
    ((128, 512, 1024, false), [([5, 5, 51], [2, 7, 2], 8160, 400), ([8, 13, 6], [1, 3, 11], 2016, 1664)]),
    ((512, 512, 512, false), [([5, 6, 32], [7, 6, 1], 5632, 480), ([11, 11, 5], [3, 3, 7], 1760, 1936)]),
    ((64, 64, 64, false), [([4, 4, 4], [1, 1, 1], 512, 256), ([4, 4, 4], [1, 1, 1], 512, 256)]),
    ((512, 512, 64, true), [([1, 32, 4], [32, 1, 1], 2112, 512), ([4, 32, 3], [8, 1, 2], 1728, 2048)]),
];

#[test]
fn the_default_schedule_has_the_tiles_of_gemminis_software() {
    for ((i, j, k, whole_rows), memories) in TILE_CHOICES {
        let shape = shape(i, j, k, whole_rows);
        for (config, (tile, loops, scratchpad, accumulator)) in
            [large_scratchpad(), large_accumulator()].iter().zip(memories)
        {
            let schedule = Schedule::gemmini_default(config, &shape, Dataflow::Ws);
            let Tile { i: ti, j: tj, k: tk } = schedule.tile;
            assert_eq!([ti, tj, tk], tile, "{shape:?} on {}", config.name);
            let tiles = schedule.tiles(config, &shape);
            assert_eq!([tiles.i, tiles.j, tiles.k], loops, "{shape:?} on {}", config.name);
            assert_eq!(((ti * tk + tk * tj) * 16, ti * tj * 16), (scratchpad, accumulator));
            assert_eq!(schedule.check(config, &shape), Ok(()));
        }
    }
}

#[test]
fn layernorm_of_768_columns_fits_only_the_larger_accumulator() {
    let shape = shape(128, 768, 768, true);
    let small = Schedule::gemmini_default(&large_scratchpad(), &shape, Dataflow::Ws);
    assert_eq!(small.tile, Tile { i: 1, j: 48, k: 10 });
    assert_eq!(
        small.check(&large_scratchpad(), &shape),
        Err(ScheduleError::Accumulator { needed: 768, available: 512 })
    );
    let large = Schedule::gemmini_default(&large_accumulator(), &shape, Dataflow::Ws);
    assert_eq!((large.tile, large.check(&large_accumulator(), &shape)), (Tile { i: 2, j: 48, k: 2 }, Ok(())));
    // norm16 has 2048 rows.
    let norm16 = GemminiConfig::norm16();
    assert_eq!(Schedule::gemmini_default(&norm16, &shape, Dataflow::Ws).check(&norm16, &shape), Ok(()));
}

#[test]
fn the_output_stationary_default_uses_whole_memories() {
    // m = 8, mk = 64 in the rule, before the tile grows.
    let config = large_scratchpad();
    let shape = MatmulShape::new(2048, 2048, 2048);
    let schedule = Schedule::gemmini_default(&config, &shape, Dataflow::Os);
    assert_eq!(
        (schedule.tile, schedule.double_buffer, schedule.emission),
        (Tile { i: 8, j: 8, k: 64 }, false, Emission::Commands)
    );
    assert_eq!(schedule.check(&config, &shape), Ok(()));
}

#[test]
fn auto_leaves_the_unroller_when_rows_need_more_than_half_the_accumulator() {
    let config = large_scratchpad();
    let shape = shape(128, 768, 768, true);
    let schedule = Schedule::auto(&config, &shape, Dataflow::Ws).unwrap();
    assert_eq!((schedule.double_buffer, schedule.emission, schedule.tile.j), (false, Emission::Commands, 48));
    assert!(Schedule::auto(&config, &self::shape(128, 1040, 64, true), Dataflow::Ws).is_err());
}

#[test]
fn every_broken_rule_says_what_would_be_right() {
    let config = GemminiConfig::default16();
    let shape = MatmulShape::new(256, 256, 256);
    let good = Schedule::gemmini_default(&config, &shape, Dataflow::Ws);
    let message = |schedule: Schedule, shape: MatmulShape| schedule.check(&config, &shape).unwrap_err().to_string();
    let tile = |i, j, k| Schedule { tile: Tile { i, j, k }, ..good };
    let commands = Schedule { emission: Emission::Commands, ..good };
    let kji = [Axis::K, Axis::J, Axis::I];
    let messages = [
        message(tile(17, 1, 1), shape),
        message(tile(1, 0, 1), shape),
        message(tile(16, 2, 32), MatmulShape { k: 1024, ..shape }),
        message(tile(16, 16, 16), shape),
        message(
            Schedule { double_buffer: false, ..commands },
            MatmulShape { a_transpose: true, b_transpose: true, ..shape },
        ),
        message(Schedule { tile: Tile { i: 4, j: 9, k: 1 }, ..commands }, shape),
        message(Schedule { order: [Axis::I, Axis::I, Axis::K], ..good }, shape),
        message(Schedule { order: kji, ..good }, shape),
        message(Schedule { order: kji, tile: Tile { i: 5, j: 5, k: 1 }, ..commands }, shape),
        message(Schedule { order: kji, ..commands }, MatmulShape { whole_rows: true, ..shape }),
        message(tile(1, 4, 4), MatmulShape { whole_rows: true, ..shape }),
        message(Schedule { dataflow: Dataflow::Os, ..good }, shape),
        message(Schedule { dataflow: Dataflow::Os, ..commands }, MatmulShape { b_transpose: true, ..shape }),
        message(Schedule { double_buffer: false, ..good }, shape),
        message(good, MatmulShape { k: 0, ..shape }),
        GemminiConfig::lean().name
            + ": "
            + &good.check(&GemminiConfig::lean(), &MatmulShape { full_c: true, ..shape }).unwrap_err().to_string(),
        Schedule { dataflow: Dataflow::Os, ..commands }.check(&GemminiConfig::chip(), &shape).unwrap_err().to_string(),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn a_schedule_prints_as_a_loop_nest() {
    let config = GemminiConfig::default16();
    let shape = MatmulShape::new(100, 300, 200);
    let ws = Schedule::gemmini_default(&config, &shape, Dataflow::Ws);
    let os = Schedule::gemmini_default(&config, &shape, Dataflow::Os);
    let jik = Schedule { order: [Axis::J, Axis::I, Axis::K], emission: Emission::Commands, ..ws };
    let texts = [ws, os, jik].map(|schedule| schedule.loop_nest(&config, &shape).to_string());
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn a_schedule_survives_a_file() {
    let config = GemminiConfig::default16();
    let schedule = Schedule::gemmini_default(&config, &MatmulShape::new(100, 300, 200), Dataflow::Ws);
    let text = toml::to_string(&schedule).unwrap();
    assert_eq!(toml::from_str::<Schedule>(&text).unwrap(), schedule);
    insta::assert_snapshot!(text);
    let error = toml::from_str::<Schedule>(&text.replace("double_buffer", "double")).unwrap_err();
    assert!(error.to_string().contains("unknown field `double`"), "{error}");
}
