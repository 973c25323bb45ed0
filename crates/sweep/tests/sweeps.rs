//! Sweeps by the library: points, rows, shards, and what is refused.

use std::path::{Path, PathBuf};
use std::process::Command;

use pollux_sweep::{Folder, Format, Manifest, Outcome, Row, ShardState, SweepError, Value, evaluate, read};

const SMALL: &str = include_str!("manifests/small.toml");

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn manifest(text: &str) -> Manifest {
    Manifest::parse(text, folder()).unwrap_or_else(|error| panic!("{error}"))
}

fn rows(manifest: &Manifest) -> Vec<Row> {
    evaluate(manifest, 0..manifest.points().len(), &|_| {}, &|| false).unwrap()
}

fn cell<'r>(manifest: &Manifest, row: &'r Row, column: &str) -> &'r Value {
    &row.0[manifest.schema().position(column).unwrap_or_else(|| panic!("a column {column}"))]
}

/// Runs a manifest into a folder, and merges.
fn sweep(manifest: &Manifest, path: &Path, shards: usize, jobs: usize) -> pollux_sweep::Merged {
    let shards = manifest.shards(Some(shards)).unwrap();
    let folder = Folder::open(path, manifest, shards, Format::DEFAULT).unwrap();
    let wanted: Vec<usize> = (0..shards.count()).collect();
    folder.run_all(manifest, &wanted, jobs, &|_| {}, &|| false).unwrap();
    folder.merge().unwrap()
}

#[test]
fn a_point_is_one_entry_of_each_axis_and_exclusions_take_some_away() {
    let manifest = manifest(SMALL);
    // 2 builds x 2 sizes x 2 mappings x 2 memories, less those of small4 behind the narrow memory.
    assert_eq!(manifest.points().len(), 12);
    let ids: std::collections::BTreeSet<&str> = manifest.points().iter().map(|point| point.id()).collect();
    assert_eq!(ids.len(), 12);
    assert!(manifest.points().iter().all(|p| p.names()[1] != "small4" || p.names()[2] == "bench"));
    let shards = manifest.shards(Some(5)).unwrap();
    let covered: Vec<usize> = (0..5).flat_map(|shard| shards.range(shard)).collect();
    assert_eq!(covered, (0..12).collect::<Vec<_>>());
}

#[test]
fn an_id_is_of_what_is_run_not_of_its_name_or_place() {
    let one = manifest("configs = 'norm16'\n[[work]]\noperation = 'matmul'\nm = 8\nn = 8\nk = 8");
    let other = manifest(
        "configs = ['small4', 'norm16']\nmemories = 'bench:latency=1'\n[[work]]\nname = 'it'\noperation = 'matmul'\nm = 8\nn = 8\nk = 8",
    );
    let default =
        manifest("configs = ['small4', 'norm16']\n[[work]]\nname = 'it'\noperation = 'matmul'\nm = 8\nn = 8\nk = 8");
    assert_eq!(one.points()[0].id(), default.points()[1].id());
    assert_ne!(one.points()[0].id(), other.points()[1].id());
}

#[test]
fn rows_have_the_cycles_of_the_emulator_and_right_results() {
    let manifest = manifest(SMALL);
    for (point, row) in manifest.points().iter().zip(rows(&manifest)) {
        assert_eq!(row.outcome(), Outcome::Ok, "{:?}", point.names());
        let [_, config, memory, _] = point.names();
        let config = pollux::config(&config).unwrap();
        let Value::Text(schedule) = cell(&manifest, &row, "schedule") else { panic!("a schedule") };
        let mapping = serde_json::from_str(schedule).unwrap();
        let Value::Int(m) = cell(&manifest, &row, "m") else { panic!("m") };
        let problem = pollux_mapper::Problem::matmul(*m as usize, 16, 24);
        let around = pollux_mapper::Surroundings { memory: memory.parse().unwrap(), interval: 1 };
        let cycles = pollux_mapper::emulate::cycles(&config, &problem, &mapping, &around, u64::MAX).unwrap();
        assert_eq!(*cell(&manifest, &row, "cycles"), Value::from(cycles));
        assert_eq!(*cell(&manifest, &row, "match"), Value::Bool(true));
        let parts = ["mesh_busy", "mesh_stalled", "mesh_draining", "mesh_idle"];
        let sum: i64 =
            parts.iter().map(|part| if let Value::Int(n) = cell(&manifest, &row, part) { *n } else { 0 }).sum();
        assert!(sum >= cycles as i64, "{sum} of {cycles}");
        assert_eq!(*cell(&manifest, &row, "energy_pj"), Value::Null);
    }
}

#[test]
fn replayed_rows_are_those_of_simulated_ones() {
    let axes = "configs = 'norm16'\nmemories = ['bench', 'bandwidth:bytes=8', 'dram']\n[[work]]\noperation = 'matmul'\nm = [64, 96]\nn = 48\nk = 64\n\
                [[work]]\noperation = 'conv'\nrows = 6\ncols = 6\nchannels = 8\nout_channels = 16\nkernel = 3\npadding = [0, 1]\n\
                [[work]]\nlist = '../../programs/parity/global_average.toml'\n";
    let (cycles, all) = (manifest(axes), manifest(&format!("measure = ['causes', 'energy', 'match']\n{axes}")));
    for (replayed, simulated) in rows(&cycles).iter().zip(rows(&all)) {
        for column in ["outcome", "cycles", "macs", "commands", "read_bytes", "written_bytes", "schedule"] {
            assert_eq!(cell(&cycles, replayed, column), cell(&all, &simulated, column), "{column}");
        }
        assert_eq!(*cell(&all, &simulated, "match"), Value::Bool(true));
        assert!(matches!(cell(&all, &simulated, "energy_pj"), Value::Float(pj) if *pj > 0.0));
    }
}

#[test]
fn a_transformers_cycles_are_those_of_its_report() {
    // The second build normalizes on the host.
    let manifest = manifest(
        "configs = 'norm16'\n[[config]]\nbase = 'norm16'\nhas_normalizations = false\n\
         [[work]]\noperation = 'transformer'\nshape = 'minilm-l6'\ntokens = 8",
    );
    let rows = rows(&manifest);
    use pollux_compiler::{CycleSetup, Plan, encoder, synthetic, time_cycles};
    let shape = synthetic::Shape { layers: 1, ..synthetic::Shape::by_name("minilm-l6").unwrap() };
    let layers = synthetic::encoder(&shape, 8, 1).unwrap();
    let input = synthetic::input(&shape, 8, 2);
    for (row, has_normalizations) in rows.iter().zip([true, false]) {
        let norm16 = pollux::config("norm16").unwrap().into_inner();
        let config = pollux_isa::GemminiConfig { has_normalizations, ..norm16 };
        let mask = pollux_kernels::Mask::Full;
        let compiled =
            encoder::compile_parameters(config, &Plan::default(), &layers, &input, mask, &Default::default());
        let compiled = compiled.unwrap().compiled;
        assert_eq!(compiled.needs_host(), !has_normalizations);
        let memory = compiled.program.initial_memory();
        let run = time_cycles(&compiled, memory, &CycleSetup::default(), &mut |_| {}).unwrap();
        assert_eq!(*cell(&manifest, row, "cycles"), Value::from(run.cycles));
    }
}

#[test]
fn points_that_cannot_be_have_rows_that_say_why() {
    let manifest = manifest(
        "configs = ['small4', 'norm16']\nlimit = 200\n[[work]]\nprogram = '../../programs/softmax.pasm'\n\
         [[work]]\noperation = 'matmul'\nm = 64\nn = 64\nk = 64\n[[mapping]]\nrandom = 2",
    );
    let rows = rows(&manifest);
    let of = |row: &Row| (row.outcome(), cell(&manifest, row, "error").to_string());
    let (outcome, error) = of(&rows[0]);
    assert!(outcome == Outcome::Refused && error.contains("norm16"), "{error}");
    let (outcome, error) = of(&rows[1]);
    assert!(outcome == Outcome::Stopped && error.contains("limit of 200 cycles"), "{error}");
    assert_eq!(*cell(&manifest, &rows[1], "cycles"), Value::Null);
}

#[test]
fn drawn_mappings_differ_and_an_exhausted_space_says_so() {
    let text = "configs = 'norm16'\n[[work]]\noperation = 'matmul'\nm = 16\nn = 16\nk = 16\n[[mapping]]\nrandom = 40\nemission = 'unroller'";
    let manifest = manifest(text);
    let rows = rows(&manifest);
    let drawn: Vec<&Row> = rows.iter().filter(|row| row.outcome() == Outcome::Ok).collect();
    let schedules: std::collections::BTreeSet<String> =
        drawn.iter().map(|row| cell(&manifest, row, "schedule").to_string()).collect();
    assert_eq!(schedules.len(), drawn.len());
    let last = rows.last().unwrap();
    assert_eq!(last.outcome(), Outcome::Refused);
    assert_eq!(cell(&manifest, last, "error").to_string(), "the space has no 40 different mappings");
}

#[test]
fn a_search_is_a_mapping_too() {
    let text = "configs = 'norm16'\n[[work]]\noperation = 'matmul'\nm = 48\nn = 48\nk = 48\n[[mapping]]\nrule = 'gemmini'\n[[mapping]]\nsearch = 'random'\nbudget = 1\nemission = 'unroller'";
    let manifest = manifest(text);
    let rows = rows(&manifest);
    let cycles: Vec<i64> =
        rows.iter().map(|row| if let Value::Int(n) = cell(&manifest, row, "cycles") { *n } else { -1 }).collect();
    assert!(cycles[1] > 0 && cycles[1] <= cycles[0], "{cycles:?}");
}

#[test]
fn a_table_does_not_depend_on_shards_and_jobs_and_finished_shards_are_not_repeated() {
    let manifest = manifest(SMALL);
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let merged = [(1, 1), (5, 2), (12, 3)]
        .iter()
        .zip(&folders)
        .map(|((shards, jobs), folder)| sweep(&manifest, folder.path(), *shards, *jobs))
        .collect::<Vec<_>>();
    assert!(merged.iter().all(|one| one.hash == merged[0].hash && one.table.rows == merged[0].table.rows));
    let again = Folder::open(folders[1].path(), &manifest, manifest.shards(Some(5)).unwrap(), Format::DEFAULT).unwrap();
    std::fs::remove_file(again.shard(3)).unwrap();
    std::fs::write(folders[1].path().join(".shard-x.tmp"), "half of a sh").unwrap();
    let before = std::fs::read(again.shard(2)).unwrap();
    assert_eq!(again.missing(), [3]);
    let states = again.run_all(&manifest, &[2, 3], 1, &|_| {}, &|| false).unwrap();
    assert_eq!(states, [ShardState::Skipped, ShardState::Written]);
    assert_eq!(std::fs::read(again.shard(2)).unwrap(), before);
    assert_eq!(again.merge().unwrap().hash, merged[0].hash);
    assert!(!folders[1].path().join(".shard-x.tmp").exists(), "what nobody needs any more is removed");
}

#[test]
fn a_cancelled_sweep_leaves_whole_shards_only() {
    let manifest = manifest(SMALL);
    let folder = tempfile::tempdir().unwrap();
    let shards = manifest.shards(Some(12)).unwrap();
    let sweep = Folder::open(folder.path(), &manifest, shards, Format::DEFAULT).unwrap();
    let done = std::sync::atomic::AtomicUsize::new(0);
    let count = |points| {
        done.fetch_add(points, std::sync::atomic::Ordering::Relaxed);
    };
    let wanted: Vec<usize> = (0..12).collect();
    let result = sweep.run_all(&manifest, &wanted, 1, &count, &|| done.load(std::sync::atomic::Ordering::Relaxed) >= 4);
    assert!(matches!(result, Err(SweepError::Cancelled)));
    assert_eq!(sweep.missing(), (4..12).collect::<Vec<_>>());
    let message = sweep.merge().unwrap_err().to_string();
    assert!(message.contains("8 of 12 shards are missing, the first is 4: run the sweep again"), "{message}");
}

/// Replaces a shard by another file, and merges.
fn merge_with(shard: usize, change: impl FnOnce(&Folder, &Path)) -> String {
    let manifest = manifest(SMALL);
    let path = tempfile::tempdir().unwrap();
    sweep(&manifest, path.path(), 4, 2);
    let folder = Folder::existing(path.path()).unwrap();
    change(&folder, &folder.shard(shard));
    let message = folder.merge().unwrap_err().to_string();
    message.replace(&format!("{}/", path.path().display()), "").replace(&format!("{}", path.path().display()), "DIR")
}

#[test]
fn a_merge_refuses_gaps_duplicates_and_mixtures() {
    let rewrite = |path: &Path, change: &dyn Fn(&mut pollux_sweep::Table)| {
        let mut table = read(path).unwrap();
        change(&mut table);
        std::fs::write(path, pollux_sweep::write(&table, Format::DEFAULT).unwrap()).unwrap();
    };
    let messages = [
        merge_with(1, |_, path| std::fs::remove_file(path).unwrap()),
        merge_with(1, |folder, path| {
            std::fs::copy(folder.shard(2), path).unwrap();
        }),
        merge_with(1, |_, path| rewrite(path, &|table| drop(table.rows.pop()))),
        merge_with(1, |_, path| rewrite(path, &|table| table.rows.push(table.rows[0].clone()))),
        merge_with(1, |_, path| {
            rewrite(path, &|table| {
                table
                    .metadata
                    .iter_mut()
                    .filter(|(key, _)| key == "pollux.version")
                    .for_each(|(_, v)| *v = "0.0.9".to_owned());
            });
        }),
        merge_with(1, |_, path| rewrite(path, &|table| table.rows[0].0[1] = Value::Text("0".repeat(32)))),
        merge_with(1, |folder, path| {
            let name = folder.shard(0).file_name().unwrap().to_string_lossy().replace("-of-4", "-of-8");
            std::fs::copy(path, path.with_file_name(name)).unwrap();
        }),
    ];
    insta::assert_snapshot!(messages.join("\n").replace(Format::DEFAULT.extension(), "EXT"));
}

#[test]
fn a_folder_of_another_sweep_is_refused() {
    let path = tempfile::tempdir().unwrap();
    let small = manifest(SMALL);
    let open = |manifest: &Manifest, shards| {
        Folder::open(path.path(), manifest, manifest.shards(Some(shards)).unwrap(), Format::DEFAULT)
    };
    open(&small, 4).unwrap();
    open(&small, 4).unwrap();
    assert!(open(&small, 3).unwrap_err().to_string().contains("it has the number of shards 4, not 3"));
    let other = manifest(&SMALL.replace("k = 24", "k = 32"));
    let message = open(&other, 4).unwrap_err().to_string();
    assert!(message.contains("another manifest: choose another folder, or remove this one"), "{message}");
}

#[test]
fn what_is_wrong_is_told_with_line_and_key() {
    let work = "[[work]]\noperation = 'matmul'\nm = 8\nn = 8\nk = 8\n";
    let texts = [
        "configs = ['norm16'".to_owned(),
        work.to_owned(),
        "configs = 'norm16'".to_owned(),
        format!("configs = ['norm16', 'norm17']\n{work}"),
        format!("configs = 'norm16'\nmemories = ['bench', 'sram']\n{work}"),
        format!("configs = 'norm16'\nmeasure = ['watts']\n{work}"),
        format!("configs = 'norm16'\nenergy = {{ table = 'dosa40' }}\n{work}"),
        format!("configs = 'norm16'\nmeasure = ['energy']\nenergy = {{ table = 'dosa41' }}\n{work}"),
        format!("configs = 'norm16'\nspeed = 1\n{work}"),
        format!("configs = 'norm16'\ndivisors = 'not_zero'\n{work}"),
        format!("configs = 'norm16'\ndivisors = 'not_zero'\nmeasure = ['causes']\n{work}"),
        format!("configs = 'norm16'\nlimit = 0\n{work}"),
        format!("configs = 'norm16'\nmemories = []\n{work}"),
        format!("configs = 'norm16'\n{}", work.replace("m = 8", "m = [8, 0]")),
        format!("configs = 'norm16'\n{}", work.replace("m = 8\n", "")),
        format!("configs = 'norm16'\n{work}relu = 1\n"),
        format!("configs = 'norm16'\n{work}stride = 1\n"),
        format!("configs = 'norm16'\n{}", work.replace("matmul", "matmull")),
        format!("configs = 'norm16'\n{work}{work}"),
        "configs = 'norm16'\n[[work]]\nprogram = 'nothing.pbin'\n".to_owned(),
        "configs = 'norm16'\n[[work]]\nname = 'x'\n".to_owned(),
        "configs = 'norm16'\n[[work]]\noperation = 'transformer'\nshape = 'bert'\ntokens = 8\n".to_owned(),
        format!("[[config]]\nbase = 'norm16'\nsp_bankz = 4\n{work}"),
        format!("[[config]]\nbase = 'norm16'\nsp_banks = ['four']\n{work}"),
        format!("[[config]]\nbase = 'norm16'\nmesh_rows = [16, 8]\n{work}"),
        format!("configs = 'norm16'\n{work}[[mapping]]\nrandom = 3\nsearch = 'auto'\n"),
        format!("configs = 'norm16'\n{work}[[mapping]]\nsearch = 'best'\n"),
        format!("configs = 'norm16'\n{work}[[exclude]]\nconfig = 'small4'\n"),
        format!("configs = 'norm16'\n{work}[[exclude]]\ncolour = 'red'\n"),
        format!("configs = 'norm16'\n{work}[[exclude]]\nm = 8\n"),
        format!("configs = ['norm16', 'norm16']\n{work}"),
    ];
    let message = |text: &String| match Manifest::parse(text, folder()) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error.to_string().replace(&folder().display().to_string(), "FOLDER"),
    };
    insta::assert_snapshot!(texts.iter().map(message).collect::<Vec<_>>().join("\n\n"));
}

#[test]
fn configurations_of_a_grid_that_cannot_be_built_are_refused_or_skipped_and_named() {
    let grid = "[[config]]\nbase = 'norm16'\ndim = [8, 16, 12]\n[[work]]\noperation = 'matmul'\nm = 8\nn = 8\nk = 8\n";
    let message = Manifest::parse(grid, folder()).unwrap_err().to_string();
    assert!(message.starts_with("line 1: config: ") && message.contains("norm16 dim=12"), "{message}");
    let skipped = manifest(&format!("invalid_configs = 'skip'\n{grid}"));
    assert_eq!((skipped.points().len(), skipped.left_out().len()), (2, 1));
    assert_eq!(skipped.points()[1].names()[1], "norm16 dim=16");
    assert!(rows(&skipped).iter().all(|row| row.outcome() == Outcome::Ok));
}

/// A Python that has this package, if there is one.
fn python_with(package: &str) -> Option<PathBuf> {
    let candidates = [std::env::var_os("POLLUX_PYTHON").map(PathBuf::from), Some(PathBuf::from("python3"))];
    candidates.into_iter().flatten().find(|python| {
        let import = Command::new(python).args(["-c", &format!("import {package}")]).output();
        import.is_ok_and(|output| output.status.success())
    })
}

#[cfg(feature = "parquet")]
#[test]
fn another_reader_reads_the_parquet_file() {
    let path = tempfile::tempdir().unwrap();
    let manifest = manifest(SMALL);
    let merged = sweep(&manifest, path.path(), 3, 2);
    let file = path.path().join("sweep.parquet");
    std::fs::write(&file, pollux_sweep::write(&merged.table, Format::Parquet).unwrap()).unwrap();
    let readers = [
        (
            "pyarrow",
            "import pyarrow.parquet as pq, sys; t = pq.read_table(sys.argv[1]); print(t.num_rows, sum(t['cycles'].to_pylist()), t.schema.field('match').type, t.schema.field('work').type)",
        ),
        (
            "duckdb",
            "import duckdb, sys; print(*duckdb.sql(f\"select count(*), sum(cycles), 'bool', 'string' from '{sys.argv[1]}'\").fetchall()[0])",
        ),
    ];
    let cycles: i64 =
        merged.table.column("cycles").unwrap().map(|value| if let Value::Int(n) = value { *n } else { 0 }).sum();
    for (package, script) in readers {
        let Some(python) = python_with(package) else {
            println!("skipped: no Python with {package} (POLLUX_PYTHON names one)");
            continue;
        };
        let output = Command::new(python).args(["-c", script]).arg(&file).output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert_eq!(stdout.trim(), format!("12 {cycles} bool string"), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
