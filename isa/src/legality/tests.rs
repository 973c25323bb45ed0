use super::*;

/// Checks commands written `mnemonic operand=value ...` (values decimal or 0x...), one a line; returns the messages.
fn messages_in(cfg: &GemminiConfig, program: &str) -> Vec<String> {
    let mut checker = Checker::new(cfg);
    let lines = program.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.flat_map(|line| checker.check(assemble(cfg, line))).map(|found| found.to_string()).collect()
}

fn messages(program: &str) -> Vec<String> {
    messages_in(&GemminiConfig::default16(), program)
}

fn assemble(cfg: &GemminiConfig, line: &str) -> RoccCommand {
    let mut words = line.split(' ');
    let mnemonic = words.next().unwrap();
    let operands: Vec<(&str, u64)> = words
        .map(|operand| {
            let (name, value) = operand.split_once('=').unwrap();
            let value = match value.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16).unwrap(),
                None => value.parse().unwrap(),
            };
            (name, value)
        })
        .collect();
    Command::from_operands(cfg, mnemonic, &operands).unwrap().encode(cfg).unwrap()
}

const CONFIGURED: &str = "
    config_ex dataflow=1
    config_ld stride=64
    config_ld stride=64 state_id=1
    config_ld stride=64 state_id=2
    config_st stride=64
";

fn configured(program: &str) -> Vec<String> {
    messages(&format!("{CONFIGURED}{program}"))
}

const LOOP: &str = "
    loop_ws_config_bounds i=4 j=4 k=4
    loop_ws_config_addrs_ab a=0x1000 b=0x2000
    loop_ws_config_addrs_dc d=0 c=0x3000
    loop_ws_config_strides_ab a_stride=64 b_stride=64
    loop_ws_config_strides_dc d_stride=64 c_stride=64
";

const CONV: &str = "
    loop_conv_ws_config_1 batch_size=1 in_row_dim=6 in_channels=16 out_channels=16 out_row_dim=6 pool_out_row_dim=6 out_col_dim=6 stride=1
    loop_conv_ws_config_2 pool_out_col_dim=6 kernel_dim=3 pochs=16 pocols=6 porows=6 batches=1
    loop_conv_ws_config_3 kchs=16 kcols=3 krows=3 in_col_dim=6 lpad=1 rpad=1 upad=1 dpad=1
    loop_conv_ws_config_4 orows=6 ocols=6 out_stride=16 weight_stride=16 in_stride=16
    loop_conv_ws_config_5 weights=0x1000 output=0x2000
    loop_conv_ws_config_6 bias=0x3000 input=0x4000
";

#[test]
fn legal_programs_have_no_messages() {
    let program = format!(
        "mvin dram=0x1000 local=0 cols=64 rows=16
         mvin3 dram=0 local=0x80000000 cols=16 rows=16
         preload d=16 c=0x80000000
         compute_preloaded a=0
         preload c=0xc0000010
         compute_accumulated a=0 bd=32
         mvout dram=0x2000 local=0x80000000 cols=16 rows=16
         mvout dram=0x2000 local=0xa0000000 cols=16 rows=16
         flush
         counter index=3
         {LOOP}
         loop_ws
         {LOOP}
         loop_ws is_resadd=1
         {CONV}
         loop_conv_ws no_pool=1"
    );
    assert_eq!(configured(&program), [""; 0]);
}

#[test]
fn undecodable_commands_are_illegal() {
    let mut checker = Checker::new(&GemminiConfig::default16());
    let found = checker.check(RoccCommand { funct: 77, rs1: 0, rs2: 0 });
    assert_eq!(found[0].to_string(), "funct 77 is not an instruction: the functions are 0 to 25 and 126");
    assert_eq!(found[0].effect(), "runs as a load with channel 0");
    let found = checker.check(RoccCommand { funct: 0, rs1: 0x19, rs2: 0 });
    assert_eq!(found[0].to_string(), "config_ld: state_id = 3 is not allowed: it must be 0 to 2");
}

#[test]
fn moves_of_nothing_are_illegal() {
    assert_eq!(
        configured(
            "mvin dram=64 local=0 cols=16 rows=0
             mvin2 dram=64 local=0 cols=0 rows=4
             mvout dram=64 local=0 cols=16 rows=0
             mvout dram=64 local=0 cols=0 rows=1"
        ),
        [
            "mvin: rows is 0: a move has at least one row and one column",
            "mvin2: cols is 0: a move has at least one row and one column",
            "mvout: rows is 0: a move has at least one row and one column",
            "mvout: cols is 0: a move has at least one row and one column",
        ]
    );
}

#[test]
fn stores_of_several_blocks_must_be_plain_and_scaled() {
    assert_eq!(
        configured(
            "mvout dram=64 local=0xa0000000 cols=17 rows=1
             config_st stride=16 pool_stride=2 pool_size=2 porows=2 pocols=2 orows=4 ocols=4
             mvout dram=64 local=0x80000000 cols=17 rows=0
             config_st stride=16 pool_size=1 orows=4 ocols=4
             mvout dram=64 local=0x80000000 cols=17 rows=0"
        ),
        [
            "mvout: 17 columns in a full-width store: it can move one block of DIM = 16 columns",
            "mvout: 17 columns in a pooled store: it can move one block of DIM = 16 columns",
            "mvout: 17 columns in a 1-D store: it can move one block of DIM = 16 columns",
        ]
    );
}

#[test]
fn pooled_and_1d_stores_need_their_geometry() {
    assert_eq!(
        configured(
            "config_st stride=16 pool_stride=1 porows=2 orows=4 ocols=4
             mvout dram=64 local=0x80000000 cols=16 rows=0
             config_st stride=16 pool_size=1 ocols=4
             mvout dram=64 local=0x80000000 cols=16 rows=0"
        ),
        [
            "mvout: the store is pooled, but config_st set pool_size to 0",
            "mvout: the store is pooled, but config_st set pocols to 0",
            "mvout: the store is 1-D, but config_st set orows to 0",
        ]
    );
    // Without pooling hardware the stride selects nothing and the size selects 1-D.
    let no_pool = GemminiConfig::norm16();
    let program = "config_st stride=16 pool_size=1 pool_stride=1
                   mvout dram=64 local=0 cols=16 rows=1";
    assert_eq!(
        messages_in(&no_pool, program),
        [
            "config_st: pooling does not exist in this configuration: it needs has_max_pool = true",
            "mvout: the store is 1-D, but config_st set orows to 0",
            "mvout: the store is 1-D, but config_st set ocols to 0",
        ]
    );
}

#[test]
fn the_pooling_geometry_keeps_its_value_while_pooling_is_off() {
    assert_eq!(
        configured(
            "config_st stride=16 pool_stride=1 pool_size=1 porows=2 pocols=2 orows=4 ocols=4
             config_st stride=16
             config_st stride=16 pool_size=1 orows=2 ocols=2
             mvout dram=64 local=0x80000000 cols=16 rows=0"
        ),
        [""; 0]
    );
}

#[test]
fn loads_need_their_channel_and_room_between_blocks() {
    assert_eq!(
        messages(
            "mvin dram=64 local=0 cols=16 rows=4
             config_ld stride=64 state_id=1 block_stride=8 pixel_repeats=2
             mvin2 dram=64 local=0 cols=32 rows=9
             mvin2 dram=64 local=0 cols=16 rows=9
             mvin2 dram=64 local=0x80000000 cols=16 rows=8
             mvin2 dram=0 local=0x80000000 cols=16 rows=8
             config_ld stride=64 state_id=1 block_stride=8 pixel_repeats=2 shrink=1
             mvin2 dram=64 local=0x80000000 cols=16 rows=8
             mvin3 dram=64 local=0 cols=16 rows=4"
        ),
        [
            "mvin: there was no config_ld state_id=0 before: its registers have no defined value",
            "mvin2: 2 blocks of 9 rows with block_stride 8: the block stride must be at least the rows",
            "mvin2: pixel_repeats is 2, but the destination is the accumulator: repeats need the scratchpad",
            "mvin2: pixel_repeats is 2, but the destination is the accumulator: repeats need the scratchpad",
            "mvin3: there was no config_ld state_id=2 before: its registers have no defined value",
        ]
    );
}

#[test]
fn extents_of_garbage_and_of_nothing_do_not_matter() {
    let garbage = |funct, rs1: u64, rs2: u64| RoccCommand { funct, rs1, rs2 };
    let mut checker = Checker::new(&GemminiConfig::default16());
    checker.check(assemble(&GemminiConfig::default16(), "config_ex dataflow=1"));
    let [rows, all, zeros] = [0x10_0010_0000_0000, u64::MAX, 0xffff_ffff];
    for command in [
        garbage(6, rows, rows | 0x8000_0000),
        garbage(4, rows, zeros),
        // The compute before has been followed, so that this preload has one.
        garbage(6, zeros, rows | 0x8000_0000),
        garbage(5, rows, all),
        garbage(6, all, all),
        garbage(5, rows, all),
        // Rows of nothing are zeros, and so is a garbage A without columns.
        garbage(6, 0x10_0000_0000, 0x10_0000_0000 | 0x8000_0000),
        garbage(4, zeros, 0x10_0000_0000),
    ] {
        assert_eq!(checker.check(command), [], "{command:?}");
    }
    // A command with a field that does not fit counts as executed all the same.
    checker.check(assemble(&GemminiConfig::default16(), "preload d=0 c=0"));
    assert_eq!(checker.check(garbage(4, 0x1f_0010_0000_0000, zeros)).len(), 1);
    assert_eq!(checker.check(assemble(&GemminiConfig::default16(), "preload d=0 c=0")), []);
}

#[test]
fn rows_without_columns_are_read_and_never_taken() {
    let untaken = |mnemonic: &str, operand: &str| {
        format!(
            "{mnemonic}: {operand} has rows but no columns: the rows are read and never taken \
             (ExecuteController.scala, unpadded_cols); for zeros, give it no rows or the garbage address"
        )
    };
    assert_eq!(
        configured(
            "preload d=0 d_cols=0 c=0x80000000 c_cols=0
             compute_preloaded a=0 a_cols=0 bd=16 bd_cols=0
             config_ex dataflow=1 a_transpose=1
             preload d=0 c=0x80000000
             compute_preloaded a=0 a_cols=0
             preload d=0 c=0x80000000
             compute_preloaded a=0 a_rows=0"
        ),
        [
            untaken("preload", "d"),
            untaken("compute_preloaded", "a"),
            untaken("compute_preloaded", "bd"),
            untaken("compute_preloaded", "a"),
        ]
    );
}

#[test]
fn results_of_an_output_stationary_product_lie_before_their_last_row() {
    let pair = |c: &str| format!("config_ex dataflow=0 c_stride=2\npreload d=0 c={c}\ncompute_preloaded a=0 bd=0");
    assert_eq!(configured(&pair("15")), [""; 0]);
    assert_eq!(configured(&pair("0x8000000f")), [""; 0]);
    assert_eq!(configured(&pair("14")), ["preload: c uses scratchpad rows 16383 to 16413: the last one is 16383"]);
    assert_eq!(configured(&pair("16370")), ["preload: c uses scratchpad rows 16370 to 16385: the last one is 16383"]);
}

#[test]
fn a_row_at_the_garbage_address_is_stored_as_zeros() {
    assert_eq!(
        configured(
            "mvout dram=64 local=0xffffffff cols=16 rows=1
             mvout dram=64 local=0xffffffff cols=16 rows=2"
        ),
        ["mvout: local uses accumulator rows 16383 to 16384: the last one is 1023"]
    );
}

#[test]
fn a_pooled_store_reads_only_what_its_windows_cover() {
    let pooled = |rows: u32, cols: u32| {
        format!(
            "config_st stride=16 pool_stride=2 pool_size=2 porows=4 pocols=4 orows={rows} ocols={cols}
             mvout dram=64 local=0x80000000 cols=16 rows=0"
        )
    };
    for (rows, cols) in [(8, 8), (0, 0), (200, 8), (64, 16)] {
        assert_eq!(configured(&pooled(rows, cols)), [""; 0]);
    }
    assert_eq!(configured(&pooled(8, 200)), ["mvout: local uses accumulator rows 0 to 1407: the last one is 1023"]);
}

#[test]
fn bounds_and_places_of_parts_that_do_nothing_may_be_anything() {
    let bounds = |i, j, k| LOOP.replace("i=4 j=4 k=4", &format!("i={i} j={j} k={k}"));
    let stores = "loop_ws skip_lda=1 skip_ldb=1 skip_ldd=1 skip_ex=1";
    assert_eq!(configured(&format!("{}\n{stores}", bounds(4, 4, 0))), [""; 0]);
    assert_eq!(configured(&format!("{}\n{stores}", bounds(8, 8, 1000))), [""; 0]);
    let loads = "loop_ws skip_ldb=1 skip_ldd=1 skip_ex=1 skip_stc=1";
    assert_eq!(configured(&format!("{}\n{loads}", bounds(4, 0, 16))), [""; 0]);
    assert_eq!(
        configured(&format!("{}\n{loads}", bounds(0, 0, 0))),
        ["i", "k"].map(|bound| format!("loop_ws: the loop bound {bound} is 0: it must be at least 1"))
    );
}

#[test]
fn a_result_has_no_more_rows_than_its_product() {
    let pair = |c_rows: u32, a_rows: u32, bd: &str| {
        format!("preload d=0 c=0x80000000 c_rows={c_rows}\ncompute_preloaded a=0 a_rows={a_rows} bd={bd}")
    };
    let ws = |pair: String| configured(&format!("config_ex dataflow=1\n{pair}"));
    assert_eq!(
        ws(pair(16, 5, "0xffffffff")),
        [
            "compute_preloaded: the result has 16 rows, but a and bd make only 5 (ExecuteController.scala, total_rows): the \
          rows behind are written only if the next preload comes in time; give a, bd or the result as many rows"
        ]
    );
    for legal in [pair(16, 5, "64"), pair(4, 1, "0xffffffff"), pair(3, 16, "0xffffffff")] {
        assert_eq!(ws(legal), [""; 0]);
    }
    assert_eq!(configured(&format!("config_ex dataflow=0\n{}", pair(16, 5, "64"))), [""; 0]);
    assert_eq!(configured(&format!("config_ex dataflow=1 a_transpose=1\n{}", pair(16, 5, "0xffffffff"))), [""; 0]);
}

#[test]
fn a_must_be_real_rows() {
    let pair = |a: &str| format!("config_ex dataflow=1\npreload d=0\ncompute_preloaded a={a}");
    assert_eq!(configured(&pair("0")), [""; 0]);
    let found = configured(&pair("0xffffffff"));
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("compute_preloaded: a is at the garbage address: only d and bd are zeros then"));
}

#[test]
fn garbage_weights_may_only_be_kept_out_of_use() {
    let pair = |flip: &str| {
        format!("preload d=0\ncompute_preloaded a=0\npreload d=0xffffffff c=0x80000000\n{flip} a=0 bd=0xffffffff")
    };
    assert_eq!(configured(&format!("config_ex dataflow=1\n{}", pair("compute_accumulated"))), [""; 0]);
    assert_eq!(configured(&format!("config_ex dataflow=0\n{}", pair("compute_preloaded"))), [""; 0]);
    assert_eq!(configured(&format!("config_ex dataflow=1 a_transpose=1\n{}", pair("compute_preloaded"))), [""; 0]);
    let found = configured(&format!("config_ex dataflow=1\n{}", pair("compute_preloaded")));
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("compute_preloaded: the weights of its preload are at the garbage address"));
}

#[test]
fn a_compute_goes_on_only_from_weights_in_use_or_sums_in_the_array() {
    let pair = |c: &str, flip: &str| format!("preload d=0 c={c}\n{flip} a=0 bd=0\n");
    let [fresh, on] = ["compute_preloaded", "compute_accumulated"];
    let [ws, os] = ["config_ex dataflow=1\n", "config_ex dataflow=0\n"].map(str::to_owned);
    let inside = |flip| pair("0xffffffff", flip);
    let out = |flip| pair("0x80000000", flip);
    for legal in [
        ws.clone() + &out(fresh) + &out(on) + &out(on),
        os.clone() + &inside(fresh) + &inside(on) + &out(on),
        os.clone() + &out(fresh) + &ws + &out(fresh) + &ws + &out(on),
    ] {
        assert_eq!(configured(&legal), [""; 0], "{legal}");
    }
    for (illegal, reason) in [
        (ws.clone() + &out(on), "there are no weights in use"),
        (os.clone() + &out(fresh) + &ws + &out(on), "there are no weights in use"),
        (os.clone() + &inside(on), "there are no sums in the array"),
        (os.clone() + &out(fresh) + &out(on), "there are no sums in the array"),
        (ws + &out(fresh) + &os + &inside(on), "there are no sums in the array"),
    ] {
        let found = configured(&illegal);
        assert_eq!(found.len(), 1, "{illegal}");
        assert!(found[0].starts_with(&format!("compute_accumulated: {reason}")), "{}", found[0]);
    }
}

#[test]
fn zeros_go_into_the_accumulator_only_at_its_own_width() {
    assert_eq!(
        configured(
            "config_ld stride=64 state_id=1 shrink=1
             mvin dram=0 local=0x80000000 cols=16 rows=4
             mvin2 dram=0 local=0 cols=16 rows=4
             mvin2 dram=0 local=0x80000000 cols=16 rows=4"
        ),
        ["mvin2: zeros into the accumulator on a channel with shrink=1: more bytes are reported than were asked for \
             (LoadController.scala, Scratchpad.scala); use a channel with shrink=0"]
    );
}

#[test]
fn rows_must_lie_in_the_memory() {
    assert_eq!(
        configured(
            "mvin dram=64 local=16383 cols=16 rows=1
             mvin dram=64 local=16320 cols=64 rows=16
             mvin dram=64 local=16321 cols=64 rows=16
             mvin dram=64 local=0xffffffff cols=16 rows=1
             mvout dram=64 local=0x80000400 cols=16 rows=1
             config_ex dataflow=1 a_stride=2 c_stride=4
             preload d=16380 d_rows=5 c=0x800003f0 c_rows=5
             compute_preloaded a=16353
             config_st stride=16 pool_size=1 orows=32 ocols=33
             mvout dram=64 local=0x80000000 cols=16 rows=0"
        ),
        [
            "mvin: local uses scratchpad rows 16321 to 16384: the last one is 16383",
            "mvin: local uses accumulator rows 16383 to 16383: the last one is 1023",
            "mvout: local uses accumulator rows 1024 to 1024: the last one is 1023",
            "preload: d uses scratchpad rows 16380 to 16384: the last one is 16383",
            "preload: c uses accumulator rows 1008 to 1024: the last one is 1023",
            "mvout: local uses accumulator rows 0 to 1055: the last one is 1023",
        ]
    );
}

#[test]
fn a_transposed_operand_occupies_as_many_rows_as_it_has_columns() {
    assert_eq!(
        configured(
            "config_ex dataflow=1 a_transpose=1
             preload c=0x80000000
             compute_preloaded a=16380 a_rows=16 a_cols=4
             preload c=0x80000000
             compute_preloaded a=16380 a_rows=4 a_cols=16"
        ),
        ["compute_preloaded: a uses scratchpad rows 16380 to 16395: the last one is 16383"]
    );
}

#[test]
fn two_operands_cannot_pass_the_transposer() {
    assert_eq!(
        messages(
            "config_ex dataflow=0 b_transpose=1
             config_ex dataflow=0 b_transpose=1 a_transpose=1
             config_ex dataflow=1 b_transpose=1 a_transpose=1
             config_ex dataflow=1 b_transpose=1 a_transpose=1 set_only_strides=1
             config_ex dataflow=1 b_transpose=1"
        ),
        [
            "config_ex: os with b_transpose and without a_transpose: only one operand can pass the transposer",
            "config_ex: ws with a_transpose and b_transpose: only one operand can pass the transposer",
        ]
    );
    // A weight-stationary build ignores the dataflow bit.
    assert_eq!(messages_in(&GemminiConfig::lean(), "config_ex dataflow=0 b_transpose=1"), [""; 0]);
}

#[test]
fn execute_operands_cannot_come_from_the_accumulator() {
    assert_eq!(
        configured(
            "preload d=0x80000000 c=0
             compute_preloaded a=0x80000000 bd=0x80000000"
        ),
        ["d", "a", "bd"].map(|operand| {
            let mnemonic = if operand == "d" { "preload" } else { "compute_preloaded" };
            format!(
                "{mnemonic}: {operand} is in the accumulator: the execute controller's reads from it are never answered"
            )
        })
    );
}

#[test]
fn features_must_be_built() {
    let lean = GemminiConfig::lean();
    assert_eq!(
        messages_in(
            &lean,
            "config_ex dataflow=1
             config_st stride=1 activation=3
             preload d=0 c=0
             compute_preloaded a=0 bd=0x80000000
             mvout dram=64 local=0xa0000000 cols=16 rows=1
             mvout_spad dst=0x80000000 local=0 cols=16 rows=1"
        ),
        [
            "config_st: this activation function does not exist in this configuration: it needs has_normalizations = true",
            "preload: a result in the scratchpad does not exist in this configuration: it needs ex_write_to_spad = true",
            "mvout: a full-width accumulator store does not exist in this configuration: it needs acc_read_full_width = true",
            "mvout_spad: a store into the scratchpad does not exist in this configuration: it needs an external scratchpad \
             (use_tl_ext_mem), which is not modelled",
            "mvout_spad: the destination is in the accumulator: it must be in the scratchpad",
        ]
    );
    let bare = GemminiConfig {
        has_nonlinear_activations: false,
        acc_read_small_width: false,
        ex_read_from_spad: false,
        ex_write_to_acc: false,
        ..GemminiConfig::default16()
    };
    assert_eq!(
        messages_in(
            &bare,
            "config_ex dataflow=0
             config_st stride=1 activation=1
             preload c=0x80000000
             compute_preloaded a=0
             mvout dram=64 local=0x80000000 cols=16 rows=1"
        ),
        [
            "config_st: an activation function does not exist in this configuration: it needs has_nonlinear_activations = true",
            "preload: a result in the accumulator does not exist in this configuration: it needs ex_write_to_acc = true",
            "compute_preloaded: an operand in the scratchpad does not exist in this configuration: it needs ex_read_from_spad = true",
            "mvout: a scaled accumulator store does not exist in this configuration: it needs acc_read_small_width = true",
        ]
    );
}

#[test]
fn convolution_features_must_be_built() {
    let cfg = GemminiConfig { has_dw_convs: false, has_first_layer_optimizations: false, ..GemminiConfig::norm16() };
    let program = format!("config_ex dataflow=1\n{CONV}\nloop_conv_ws wrot180=1 dw=1 max_pixels_per_row=2 no_pool=0");
    let needs = |what: &str, requires: &str| {
        format!("loop_conv_ws: {what} does not exist in this configuration: it needs {requires} = true")
    };
    assert_eq!(
        messages_in(&cfg, &program),
        [
            needs("wrot180", "has_training_convs"),
            needs("dw", "has_dw_convs"),
            needs("max_pixels_per_row above 1", "has_first_layer_optimizations"),
            needs("pooling", "has_max_pool"),
        ]
    );
}

#[test]
fn preloads_and_computes_come_in_pairs() {
    assert_eq!(
        configured(
            "compute_preloaded a=0
             preload d=0 c=0
             preload d=0 c=0
             compute_preloaded a=0
             compute_accumulated a=0"
        ),
        [
            "compute_preloaded: there was no preload since the last compute, so it has no destination",
            "preload: there was no compute since the last preload",
            "compute_accumulated: there was no preload since the last compute, so it has no destination",
        ]
    );
    assert_eq!(
        messages("preload c=0\ncompute_preloaded a=0"),
        [
            "preload: there was no config_ex before: its registers have no defined value",
            "compute_preloaded: there was no config_ex before: its registers have no defined value",
        ]
    );
}

#[test]
fn the_dataflow_cannot_change_over_a_result_in_the_array() {
    let left_in_array = "config_ex dataflow=0
                         preload
                         compute_preloaded a=0 bd=16";
    let change = "config_ex dataflow=1";
    assert_eq!(
        messages(&format!("{left_in_array}\n{change}")),
        [
            "config_ex: the dataflow changes, but the last output-stationary result was preloaded with a garbage destination \
          and is still in the array: preload a real destination first"
        ]
    );
    let pushed_out = "preload c=0\ncompute_preloaded a=0 bd=16";
    assert_eq!(messages(&format!("{left_in_array}\n{pushed_out}\n{change}")), [""; 0]);
    assert_eq!(messages(&format!("{left_in_array}\nconfig_ex dataflow=1 set_only_strides=1")), [""; 0]);
}

#[test]
fn loops_need_their_configuration() {
    let unconfigured = |mnemonic: &str, needs: &str| {
        format!("{mnemonic}: there was no {needs} before: its registers have no defined value")
    };
    assert_eq!(
        messages(&format!("{LOOP}\nloop_ws")),
        [
            unconfigured("loop_ws", "config_ex"),
            unconfigured("loop_ws", "config_ld state_id=0"),
            unconfigured("loop_ws", "config_ld state_id=1"),
        ]
    );
    assert_eq!(messages(&format!("{LOOP}\nloop_ws skip_lda=1 skip_ldb=1 skip_ex=1")), [""; 0]);
    assert_eq!(
        messages(&format!("config_ex dataflow=0\n{CONV}\nloop_conv_ws no_pool=1")),
        ["loop_conv_ws: the dataflow is os: the unroller's commands need config_ex dataflow=ws"]
    );
    // A convolution loop configures the channels for what follows.
    let program = format!("config_ex dataflow=1\n{CONV}\nloop_conv_ws no_pool=1\nmvin dram=64 local=0 cols=16 rows=4");
    assert_eq!(messages(&program), [""; 0]);
}

#[test]
fn loops_that_never_end_or_transpose_twice_are_illegal() {
    assert_eq!(
        configured(&format!(
            "{LOOP}
             loop_ws a_transpose=1 b_transpose=1
             {LOOP}
             loop_ws skip_lda=1 skip_ldb=1 skip_ldd=1 skip_ex=1 skip_stc=1"
        )),
        [
            "loop_ws: a_transpose and b_transpose are both set: only one operand can pass the transposer",
            "loop_ws: all five parts are skipped: the loop would never finish",
        ]
    );
}

#[test]
fn loop_bounds_must_not_be_zero_except_k_of_a_residual_addition() {
    let zero_k = LOOP.replace("k=4", "k=0");
    assert_eq!(configured(&format!("{zero_k}\nloop_ws")), ["loop_ws: the loop bound k is 0: it must be at least 1"]);
    assert_eq!(configured(&format!("{zero_k}\nloop_ws is_resadd=1")), [""; 0]);
    // The second loop runs in the other slot, which nothing has configured.
    assert_eq!(
        configured(&format!("{LOOP}\nloop_ws\nloop_ws")),
        ["i", "j", "k"].map(|bound| format!("loop_ws: the loop bound {bound} is 0: it must be at least 1"))
    );
    let no_columns = CONV.replace("kcols=3", "kcols=0").replace("porows=6", "porows=0");
    assert_eq!(
        configured(&format!("{no_columns}\nloop_conv_ws no_pool=1")),
        ["loop_conv_ws: the loop bound kcols is 0: it must be at least 1"]
    );
    assert_eq!(
        configured(&format!("{no_columns}\nloop_conv_ws"))[1],
        "loop_conv_ws: the loop bound porows is 0: it must be at least 1"
    );
}

#[test]
fn loops_must_fit_the_memories() {
    let bounds = |i, j, k| LOOP.replace("i=4 j=4 k=4", &format!("i={i} j={j} k={k}"));
    assert_eq!(configured(&format!("{}\nloop_ws", bounds(8, 8, 32))), [""; 0]);
    assert_eq!(
        configured(&format!("{}\nloop_ws", bounds(8, 8, 33))),
        ["loop_ws: A and B together needs 8448 scratchpad rows, but 8192 are free for it"]
    );
    assert_eq!(
        configured(&format!("{}\nloop_ws", bounds(13, 5, 1))),
        ["loop_ws: C needs 1040 accumulator rows, but 1024 are free for it"]
    );
    // A from the upper half, B up to the end of the lower half.
    assert_eq!(
        configured(&format!("{}\nloop_ws a_spad_id=2 b_spad_id=1", bounds(8, 7, 65))),
        ["loop_ws: A needs 8320 scratchpad rows, but 8192 are free for it"]
    );
    let placed = format!("{}\nloop_ws_config_spad_ab a_start=100 b_end=200\nloop_ws", bounds(4, 4, 1));
    assert_eq!(configured(&placed), ["loop_ws: A and B together needs 128 scratchpad rows, but 100 are free for it"]);
    let deep = CONV.replace("kchs=16", "kchs=1024");
    assert_eq!(
        configured(&format!("{deep}\nloop_conv_ws no_pool=1")),
        ["loop_conv_ws: A and B together needs 13312 scratchpad rows, but 8192 are free for it"]
    );
    let wide = CONV.replace("orows=6 ocols=6", "orows=33 ocols=32");
    assert_eq!(
        configured(&format!("{wide}\nloop_conv_ws no_pool=1")),
        ["loop_conv_ws: C needs 1056 accumulator rows, but 1024 are free for it"]
    );
}

#[test]
fn the_input_of_a_dilated_convolution_is_counted_as_the_unroller_does() {
    // Along one axis (6 + 3 - 1 - 2 pads + 1) / 2 = 3 pixels of the image, and each pad of one half-pixel makes one.
    let image = 5 * 5;
    let deep = CONV.replace("kchs=16", "kchs=1024");
    assert_eq!(
        configured(&format!("{deep}\nloop_conv_ws no_pool=1 input_dilated=1")),
        [format!(
            "loop_conv_ws: A and B together needs {} scratchpad rows, but 8192 are free for it",
            1024 / 16 * image + 9 * 1024
        )]
    );
}
