//! Configurations end to end: one verdict for every command, names, headers and what a file gives.

mod common;

use common::Workspace;

const PROGRAM: &str = "config_ld stride=16\nmvin dram=0x80000000 local=spad(0) cols=16 rows=16\nfence\n";

/// What `default16` is refused for after a change, and the words that say so.
const REFUSED: [(&str, &str); 14] = [
    ("reservation_station_entries_st = 2", "(ReservationStation.scala:441)"),
    ("aligned_to = 4", "(Scratchpad.scala:381)"),
    (
        "acc_scale_args = { multiplicand = \"Float<8, 24>\", latency = 2, units = 2, identity = 1.0 }",
        "(AccumulatorScale.scala:231)",
    ),
    ("acc_capacity = \"1024 KiB\"", "(GemminiConfigs.scala:257)"),
    ("acc_latency = 1", "(AccumulatorMem.scala:111)"),
    ("tlb_size = 2", "(FrontendTLB.scala:46)"),
    ("max_in_flight_mem_reqs = 1", "it never ends: DMA.scala:513"),
    ("reservation_station_entries_ex = 1", "it never ends: ReservationStation.scala:398"),
    (
        "input_type = \"SInt<16>\"\nweight_type = \"SInt<16>\"\nspatial_array_input_type = \"SInt<16>\"\nspatial_array_weight_type = \"SInt<16>\"",
        "`input_type` is SInt<16>",
    ),
    ("clock_gate = true", "`clock_gate` is on"),
    ("sp_banks = 64", "`sp_banks` is 64: it must be at most 32"),
    ("max_in_flight_mem_reqs = 128", "`max_in_flight_mem_reqs` is 128: it must be at most 64"),
    ("dma_maxbytes = 512", "`dma_maxbytes` is 512: it must be at most 256"),
    (
        "mesh_rows = 2\nmesh_columns = 2\nsp_capacity = \"32 KiB\"\nacc_capacity = \"8 KiB\"",
        "it never ends: MeshWithDelays.scala:98",
    ),
];

#[test]
fn every_command_has_the_same_verdict_on_a_configuration() {
    let workspace = Workspace::new();
    workspace.write("program.pasm", PROGRAM);
    for (change, words) in REFUSED {
        workspace.write("mine.toml", format!("base = \"default16\"\n{change}\n"));
        let verdict = workspace.pollux("config mine.toml --check");
        assert_eq!(verdict.code, 3, "{change}: {}", verdict.stdout);
        assert!(verdict.stderr.contains(words), "{change}: {}", verdict.stderr);
        for command in [
            "run program.pasm --config mine.toml",
            "run program.pasm --cycles --config mine.toml",
            "lower matmul --m 4 --n 4 --k 4 --config mine.toml",
            "asm program.pasm --config mine.toml -o program.pbin",
        ] {
            let other = workspace.pollux(command);
            assert_eq!((other.code, &other.stderr), (3, &verdict.stderr), "{command}: {change}");
        }
    }
}

#[test]
fn what_is_valid_runs_on_both_models() {
    let workspace = Workspace::new();
    workspace.write("program.pasm", format!("buffer A: i8[16, 16] at 0x80000000\n{PROGRAM}"));
    for change in ["reservation_station_entries_ld = 4", "acc_latency = 3", "tlb_size = 8", "dma_maxbytes = 256"] {
        workspace.write("mine.toml", format!("base = \"default16\"\n{change}\n"));
        for command in [
            "config mine.toml --check",
            "run program.pasm --config mine.toml",
            "run program.pasm --cycles --config mine.toml",
        ] {
            let run = workspace.pollux(command);
            assert_eq!(run.code, 0, "{command}: {change}: {}", run.stderr);
        }
    }
}

#[test]
fn a_published_configuration_warns() {
    let workspace = Workspace::new();
    let check = workspace.pollux("config survey_rebalanced --check");
    assert_eq!(check.code, 0);
    assert!(check.stdout.contains("warning: the scratchpad holds 256 matrices"), "{}", check.stdout);
    let document = workspace.pollux("config survey_rebalanced --check --json").json();
    assert_eq!((&document["valid"], document["warnings"].as_array().map(Vec::len)), (&true.into(), Some(1)));
}

#[test]
fn every_configuration_has_its_own_name_and_programs_carry_it() {
    let workspace = Workspace::new();
    workspace.write("deep.toml", "base = \"default16\"\nld_queue_length = 16\n");
    workspace.write("gemmini_params.h", include_str!("gemmini_params.h"));
    let name =
        |file: &str| workspace.pollux(&format!("config {file} --json")).json()["name"].as_str().unwrap().to_owned();
    let (deep, header) = (name("deep.toml"), name("gemmini_params.h"));
    assert!(deep.starts_with("deep-"), "{deep}");
    assert!(header.starts_with("gemmini_params-"), "{header}");
    workspace.write("program.pasm", PROGRAM);
    let asm = workspace.pollux("asm program.pasm --config deep.toml -o program.pbin --json").json();
    assert_eq!(asm["config"], deep.as_str());
    assert!(workspace.pollux("dis program.pbin").stdout.contains(&deep));
}

#[test]
fn a_file_says_what_it_gives_and_what_is_assumed() {
    let workspace = Workspace::new();
    workspace.write("gemmini_params.h", include_str!("gemmini_params.h"));
    let document = workspace.pollux("config gemmini_params.h --json").json();
    let fields = |key: &str| -> Vec<String> { serde_json::from_value(document[key].clone()).unwrap() };
    assert!(fields("read").contains(&"sp_capacity".to_owned()));
    assert!(fields("assumed").contains(&"acc_banks".to_owned()));
    let text = workspace.pollux("config gemmini_params.h").stdout;
    assert!(text.contains("# Read from the file: ") && text.contains("# Assumed: "), "{text}");
}

#[test]
fn headers_with_expressions_are_read_and_placeholders_are_named() {
    let workspace = Workspace::new();
    let header =
        include_str!("gemmini_params.h").replace("#define BANK_ROWS 4096", "#define BANK_ROWS (1024 * 4) // rows");
    workspace.write("params.h", format!("\u{feff}{}", header.replace('\n', "\r\n")));
    assert_eq!(workspace.pollux("config params.h --json").json()["derived"]["scratchpad_rows"], 16384);
    let cases = [
        ("link.h", "../include/gemmini_params.h", "link.h: this is a symbolic link as git stores it"),
        ("lfs.h", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "lfs.h: this is a pointer of Git LFS"),
        ("only.h", "#include \"gemmini_params_16.h\"\n", "only.h: this is a header that only includes another one"),
        ("bad.toml", "base = \"norm16\"\n\nsp_banks = \"four\"\n", "bad.toml: line 3: `sp_banks`: invalid type"),
        ("bad.toml", "base = \"norm16\"\nsp_bank = 4\n", "bad.toml: line 2: `sp_bank`: unknown field"),
        ("bad.toml", "base = 16\n", "bad.toml: `base` is 16"),
    ];
    for (name, text, expected) in cases {
        workspace.write(name, text);
        let run = workspace.pollux(&format!("config {name}"));
        assert_eq!(run.code, 3);
        assert!(run.stderr.contains(expected), "{}", run.stderr);
    }
}

#[test]
fn an_address_beyond_the_port_is_told_with_what_the_hardware_does() {
    let workspace = Workspace::new();
    let program =
        "config small4\nconfig_ld stride=0x100000000\nmvin dram=0x80000000 local=spad(0) cols=4 rows=2\nfence\n";
    workspace.write("beyond.pasm", program);
    let run = workspace.pollux("run beyond.pasm");
    assert_eq!(run.code, 4, "{}", run.stdout);
    let expected = "4 bytes at 0x180000000, but the memory port has 32 address bits (paddr_bits): the hardware cuts the \
                    address to 0x80000000";
    assert!(run.stderr.contains(expected), "{}", run.stderr);
    assert_eq!(workspace.pollux("run beyond.pasm --policy warn").code, 0);
}
