//! The operand formats: one table row per field, from which the struct, its extraction and its encoding come.
//!
//! `from_regs` is the hardware's view: it takes the bits that the hardware keeps and nothing can go wrong. Whether the
//! dropped bits were zero and the values are legal is a matter of [`crate::Command::decode`].
//! The layouts are the bundles of `GemminiISA.scala`, and the `rs1(hi, lo)` of `LoopMatmul.scala`, `LoopConv.scala`,
//! `Controller.scala` and `CounterFile.scala`.

use crate::config::GemminiConfig;
use crate::local_addr::LocalAddr;
use crate::table::FieldKind::{DramAddress, Float32, LocalAddress, Signed};
use crate::table::Quantity::{
    AccBits, AccScaleBits, BlockStrideBits, CoreAddrBits, CounterIndexBits, Dim, DimCountBits, DimLess1, Fixed,
    InShiftBits, LastCounter, MoveCols, MoveColsBits, MvinScaleBits, PixelRepeats, PixelRepeatsBits, SpEndBits,
    SpRowBits, SpRows,
};
use crate::table::{FieldSpec, Influence, Register};
use crate::values::{Activation, Bits, DataflowMode, Scale};

/// An operand format: the fields of a struct in the two registers.
pub trait Format: Sized + Copy {
    /// The fields, in the order of the struct.
    const FIELDS: &'static [FieldSpec];

    /// What the hardware keeps of the registers.
    fn from_regs(cfg: &GemminiConfig, rs1: u64, rs2: u64) -> Self;

    /// The fields' bits, in the order of [`Format::FIELDS`].
    fn values(&self) -> Vec<u64>;
}

const fn rs1(msb: u32, lsb: u32) -> FieldSpec {
    FieldSpec::new(Register::Rs1, msb, lsb)
}

const fn rs2(msb: u32, lsb: u32) -> FieldSpec {
    FieldSpec::new(Register::Rs2, msb, lsb)
}

/// A field that cycles do not depend on.
const fn value(field: FieldSpec) -> FieldSpec {
    field.influence(Influence::Values)
}

const fn local(field: FieldSpec) -> FieldSpec {
    field.kind(LocalAddress)
}

/// An address that may be left out in assembly: garbage.
const fn local_or_garbage(field: FieldSpec) -> FieldSpec {
    field.kind(LocalAddress).or(LocalAddr::GARBAGE.0 as u64)
}

const fn dram(field: FieldSpec) -> FieldSpec {
    field.kind(DramAddress).keep(CoreAddrBits)
}

/// Rows or columns of an execute operand, whose address stands in the low half of the same register.
const fn extent(field: FieldSpec) -> FieldSpec {
    field.keep(DimCountBits).max(Dim).or_dim().extent()
}

macro_rules! formats {
    ($($(#[$doc:meta])+ $format:ident { $($field:ident: $ty:ty = $spec:expr, $meaning:literal;)* })*) => { $(
        $(#[$doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $format {
            $(#[doc = $meaning] pub $field: $ty,)*
        }

        impl $format {
            /// What the hardware keeps of the registers.
            #[allow(unused_variables)]
            pub fn from_regs(cfg: &GemminiConfig, rs1_value: u64, rs2_value: u64) -> Self {
                Self {
                    $($field: {
                        const FIELD: FieldSpec = $spec;
                        <$ty as Bits>::from_bits(FIELD.extract(cfg, rs1_value, rs2_value))
                    },)*
                }
            }

            /// The registers that hold the fields, each cut to its width in the encoding.
            #[inline]
            pub fn to_regs(&self) -> (u64, u64) {
                let registers = (0, 0);
                $(
                    let registers = const { $spec }.insert(registers, self.$field.to_bits());
                )*
                registers
            }
        }

        impl Format for $format {
            const FIELDS: &'static [FieldSpec] = &[$(($spec).finish(stringify!($field), $meaning),)*];

            fn from_regs(cfg: &GemminiConfig, rs1: u64, rs2: u64) -> Self {
                Self::from_regs(cfg, rs1, rs2)
            }

            fn values(&self) -> Vec<u64> {
                vec![$(self.$field.to_bits(),)*]
            }
        }
    )* };
}

#[rustfmt::skip]
formats! {
    /// CONFIG_EX (`ConfigExRs1`, `ConfigExRs2`; `ExecuteController.scala`).
    ConfigEx {
        dataflow: DataflowMode  = rs1(2, 2).named(DataflowMode::NAMES).required(), "Dataflow; ignored unless the build has both.";
        activation: Activation  = rs1(4, 3).named(Activation::NAMES_2_BITS).or(0), "Activation of operands read from the accumulator.";
        set_only_strides: bool  = rs1(7, 7), "Change only a_stride and c_stride.";
        a_transpose: bool       = rs1(8, 8), "Transpose A.";
        b_transpose: bool       = rs1(9, 9), "Transpose B (OS: the BD operand, WS: the preloaded one).";
        a_stride: u16           = rs1(31, 16).or(1), "Local rows from one row of A to the next.";
        acc_scale: Scale        = value(rs1(63, 32).kind(Float32).keep(AccScaleBits).or(Scale::IDENTITY.0 as u64)), "Scale of operands read from the accumulator.";
        in_shift: u32           = value(rs2(31, 0).keep(InShiftBits).or(0)), "Right shift of OS results.";
        relu6_shift: u16        = value(rs2(47, 32).or(0)), "Not used by the hardware.";
        c_stride: u16           = rs2(63, 48).or(1), "Local rows from one row of C to the next.";
    }

    /// CONFIG_LD (`ConfigMvinRs1`; `LoadController.scala`).
    ConfigLd {
        shrink: bool            = rs1(2, 2), "Accumulator loads: memory holds input elements, not accumulator elements.";
        state_id: u8            = rs1(4, 3).max(Fixed(2)).or(0), "Channel: 0 for mvin, 1 for mvin2, 2 for mvin3.";
        pixel_repeats: u8       = rs1(15, 8).keep(PixelRepeatsBits).max(PixelRepeats).or(1), "Copies of each pixel; 0 is read as 1.";
        block_stride: u16       = rs1(31, 16).keep(BlockStrideBits).or_dim(), "Local rows from one block of DIM columns to the next.";
        scale: Scale            = rs1(63, 32).kind(Float32).keep(MvinScaleBits).or(Scale::IDENTITY.0 as u64).influence(Influence::Identity), "Scale of the elements.";
        stride: u64             = rs2(63, 0).keep(CoreAddrBits), "Bytes from one row in memory to the next.";
    }

    /// CONFIG_ST (`ConfigMvoutRs1`, `ConfigMvoutRs2`; `StoreController.scala`).
    ConfigSt {
        activation: Activation  = rs1(3, 2).named(Activation::NAMES_2_BITS).or(0), "Activation; clears the bit that config_norm sets.";
        pool_stride: u8         = rs1(5, 4).or(0), "Steps of the pooling window; 0 is no pooling.";
        pool_size: u8           = rs1(7, 6).or(0), "Edge of the pooling window; without pooling: not 0 selects 1-D stores.";
        upad: u8                = rs1(9, 8).or(0), "Rows of padding above the pooled image.";
        lpad: u8                = rs1(11, 10).or(0), "Columns of padding left of the pooled image.";
        pool_out_dim: u8        = rs1(31, 24).or(0), "Pixels from one row of the stored image to the next.";
        porows: u8              = rs1(39, 32).or(0), "Rows of the pooled image.";
        pocols: u8              = rs1(47, 40).or(0), "Columns of the pooled image.";
        orows: u8               = rs1(55, 48).or(0), "Rows of the image before pooling.";
        ocols: u8               = rs1(63, 56).or(0), "Columns of the image before pooling.";
        stride: u32             = rs2(31, 0), "Bytes from one row (or pixel) in memory to the next.";
        acc_scale: Scale        = value(rs2(63, 32).kind(Float32).keep(AccScaleBits).or(Scale::IDENTITY.0 as u64)), "Scale of elements read from the accumulator; all ones keeps the old one.";
    }

    /// CONFIG_NORM (`ConfigNormRs1`, `ConfigNormRs2`; `StoreController.scala`).
    ConfigNorm {
        norm_stats_id: u8       = rs1(15, 8).max(Fixed(1)).or(0), "Statistics register.";
        act_msb: bool           = rs1(16, 16), "Bit 2 of the activation: softmax.";
        set_stats_id_only: bool = rs1(17, 17), "Change only norm_stats_id.";
        q_const_type: bool      = value(rs1(18, 18)), "Which constant q_const is: 0 qln2, 1 qln2_inv.";
        q_const: i32            = value(rs1(63, 32).kind(Signed).keep(AccBits).or(0)), "Constant of the integer exponential.";
        qb: i32                 = value(rs2(31, 0).kind(Signed).keep(AccBits).or(0)), "Constant b of the integer polynomial.";
        qc: i32                 = value(rs2(63, 32).kind(Signed).keep(AccBits).or(0)), "Constant c of the integer polynomial.";
    }

    /// MVIN, MVIN2, MVIN3 and MVOUT (`MvinRs2`, `MvoutRs2`).
    MoveOperands {
        dram: u64               = dram(rs1(63, 0)), "Main memory address; loads: 0 stands for zeros.";
        local: LocalAddr        = local(rs2(31, 0)), "First local row.";
        cols: u16               = rs2(47, 32).keep(MoveColsBits).max(MoveCols), "Columns (elements).";
        rows: u16               = rs2(63, 48).keep(DimCountBits).max(Dim), "Rows; not used by pooled and 1-D stores.";
    }

    /// MVOUT_SPAD (`MvoutSpadRs1`, `MvoutRs2`).
    MoveSpad {
        dst: LocalAddr          = local(rs1(31, 0)), "First scratchpad row written.";
        dst_stride: u32         = rs1(63, 32).or(1), "Local rows from one written row to the next.";
        local: LocalAddr        = local(rs2(31, 0)), "First local row read.";
        cols: u16               = rs2(47, 32).keep(MoveColsBits).max(MoveCols), "Columns (elements).";
        rows: u16               = rs2(63, 48).keep(DimCountBits).max(Dim), "Rows.";
    }

    /// PRELOAD (`PreloadRs`).
    Preload {
        d: LocalAddr            = local_or_garbage(rs1(31, 0)), "OS: initial C; WS: weights B. Garbage stands for zeros.";
        d_cols: u16             = extent(rs1(47, 32)), "Columns of d.";
        d_rows: u16             = extent(rs1(63, 48)), "Rows of d.";
        c: LocalAddr            = local_or_garbage(rs2(31, 0)), "Destination of the next compute. Garbage discards it.";
        c_cols: u16             = extent(rs2(47, 32)), "Columns of c.";
        c_rows: u16             = extent(rs2(63, 48)), "Rows of c.";
    }

    /// COMPUTE_PRELOADED and COMPUTE_ACCUMULATED (`ComputeRs`).
    Compute {
        a: LocalAddr            = local_or_garbage(rs1(31, 0)), "A. Garbage is undefined: no zeros here.";
        a_cols: u16             = extent(rs1(47, 32)), "Columns of a.";
        a_rows: u16             = extent(rs1(63, 48)), "Rows of a.";
        bd: LocalAddr           = local_or_garbage(rs2(31, 0)), "OS: B; WS: the addend D. Garbage stands for zeros.";
        bd_cols: u16            = extent(rs2(47, 32)), "Columns of bd.";
        bd_rows: u16            = extent(rs2(63, 48)), "Rows of bd.";
    }

    /// FLUSH (`Controller.scala`).
    Flush {
        skip: bool              = rs1(0, 0), "Skip instead of retry; the same in this revision.";
    }

    /// CLKGATE_EN (`Controller.scala`).
    ClockGate {
        enable: bool            = rs1(0, 0).or(1), "Whether the gated clock runs.";
    }

    /// COUNTER_OP (`CounterFile.scala`).
    Counter {
        reset: bool             = rs1(0, 0), "Reset all counters, the snapshot and snapshot mode.";
        snapshot_reset: bool    = rs1(1, 1), "Leave snapshot mode.";
        snapshot: bool          = rs1(2, 2), "Take a snapshot and enter snapshot mode.";
        configure: bool         = rs1(3, 3), "Choose the event of the counter and clear it.";
        index: u8               = rs1(11, 4).keep(CounterIndexBits).max(LastCounter).or(0), "Counter.";
        event: u8               = rs1(17, 12).or(0), "Event or external value to count.";
        external: bool          = rs1(31, 31), "Count an external value, not an event.";
    }

    /// LOOP_WS_CONFIG_BOUNDS (`LoopMatmul.scala`).
    LoopWsBounds {
        pad_i: u16              = rs1(15, 0).max(DimLess1).or(0), "Rows missing in the last block of I.";
        pad_j: u16              = rs1(31, 16).max(DimLess1).or(0), "Columns missing in the last block of J.";
        pad_k: u16              = rs1(47, 32).max(DimLess1).or(0), "Elements missing in the last block of K.";
        i: u16                  = rs2(15, 0), "Blocks of rows of A and C.";
        j: u16                  = rs2(31, 16), "Blocks of columns of B and C.";
        k: u16                  = rs2(47, 32), "Blocks of columns of A and rows of B; a residual addition has none.";
    }

    /// LOOP_WS_CONFIG_ADDRS_AB (`LoopMatmul.scala`). Clears spad_only.
    LoopWsAddrsAb {
        a: u64                  = dram(rs1(63, 0)), "Main memory address of A; 0 is no load.";
        b: u64                  = dram(rs2(63, 0)), "Main memory address of B; 0 is no load.";
    }

    /// LOOP_WS_CONFIG_ADDRS_DC (`LoopMatmul.scala`). Clears spad_only.
    LoopWsAddrsDc {
        d: u64                  = dram(rs1(63, 0)), "Main memory address of D; 0 is no load.";
        c: u64                  = dram(rs2(63, 0)), "Main memory address of C; 0 is no store.";
    }

    /// LOOP_WS_CONFIG_STRIDES_AB (`LoopMatmul.scala`).
    LoopWsStridesAb {
        a_stride: u64           = rs1(63, 0).keep(CoreAddrBits), "Elements from one row of A in memory to the next.";
        b_stride: u64           = rs2(63, 0).keep(CoreAddrBits), "Elements from one row of B in memory to the next.";
    }

    /// LOOP_WS_CONFIG_STRIDES_DC (`LoopMatmul.scala`).
    LoopWsStridesDc {
        d_stride: u64           = rs1(63, 0).keep(CoreAddrBits), "Elements from one row of D in memory to the next.";
        c_stride: u64           = rs2(63, 0).keep(CoreAddrBits), "Elements from one row of C in memory to the next.";
    }

    /// LOOP_WS_CONFIG_SPAD_AB (`LoopMatmul.scala`). Stays in the loop's slot for ever.
    LoopWsSpadAb {
        a_start: u32            = rs1(63, 0).keep(SpRowBits), "First scratchpad row of A.";
        b_end: u32              = rs2(63, 0).keep(SpEndBits).max(SpRows), "Scratchpad row after the last one of B.";
    }

    /// LOOP_WS_CONFIG_SPAD_C: accepted, does nothing (`LoopMatmul.scala`).
    LoopWsSpadC {
        rs1_ignored: u64        = rs1(63, 0).or(0), "Ignored.";
        rs2_ignored: u64        = rs2(63, 0).or(0), "Ignored.";
    }

    /// LOOP_WS (`LoopMatmul.scala`).
    LoopWs {
        ex_accumulate: bool     = rs1(0, 0), "Add the first products to the accumulator instead of overwriting it.";
        full_c: bool            = rs1(1, 1), "Store C as accumulator elements.";
        low_d: bool             = rs1(2, 2), "D in memory holds input elements.";
        act: Activation         = rs1(10, 8).named(Activation::NAMES).or(0), "Activation; layernorm and softmax change the stores.";
        b_spad_id: u8           = rs1(17, 16).max(Fixed(2)).or(0), "Where B ends: 0 in the slot's place, n after half n.";
        a_spad_id: u8           = rs1(19, 18).max(Fixed(2)).or(0), "Where A starts: 0 in the slot's place, n at half n.";
        a_transpose: bool       = rs2(0, 0), "Transpose A.";
        b_transpose: bool       = rs2(1, 1), "Transpose B.";
        is_resadd: bool         = rs2(2, 2), "Add A and B element by element; one flag for both slots.";
        skip_lda: bool          = rs2(3, 3), "Do not load A.";
        skip_ldb: bool          = rs2(4, 4), "Do not load B.";
        skip_ldd: bool          = rs2(5, 5), "Do not load D.";
        skip_ex: bool           = rs2(6, 6), "Do not compute.";
        skip_stc: bool          = rs2(7, 7), "Do not store C.";
        inc_acc_addr: bool      = rs2(8, 8), "Advance the accumulator half even without a store.";
        spad_only: bool         = rs2(9, 9), "Store C to the scratchpad.";
        c_spad: u32             = rs2(63, 32).or(0), "Scratchpad row of C with spad_only.";
    }

    /// LOOP_CONV_WS_CONFIG_1 (`LoopConv.scala`).
    LoopConvConfig1 {
        batch_size: u16         = rs1(15, 0), "Images.";
        in_row_dim: u16         = rs1(31, 16), "Rows of an input image.";
        in_channels: u16        = rs1(47, 32), "Input channels.";
        out_channels: u16       = rs1(63, 48), "Output channels.";
        out_row_dim: u16        = rs2(15, 0), "Rows of an output image before pooling.";
        pool_out_row_dim: u16   = rs2(31, 16), "Rows of an output image.";
        out_col_dim: u16        = rs2(47, 32), "Columns of an output image before pooling.";
        stride: u8              = rs2(55, 48), "Steps of the kernel.";
        padding: u8             = rs2(63, 56).or(0), "Not used by the hardware.";
    }

    /// LOOP_CONV_WS_CONFIG_2 (`LoopConv.scala`).
    LoopConvConfig2 {
        pool_padding: u8        = rs1(7, 0).or(0), "Not used by the hardware.";
        pool_stride: u8         = rs1(15, 8).or(0), "Steps of the pooling window.";
        pool_size: u16          = rs1(31, 16).or(0), "Edge of the pooling window.";
        pool_out_col_dim: u16   = rs1(47, 32), "Columns of an output image.";
        kernel_dim: u16         = rs1(63, 48), "Edge of the kernel.";
        pochs: u16              = rs2(15, 0), "Output channels of this loop.";
        pocols: u16             = rs2(31, 16), "Output columns of this loop.";
        porows: u16             = rs2(47, 32), "Output rows of this loop.";
        batches: u16            = rs2(63, 48), "Images of this loop.";
    }

    /// LOOP_CONV_WS_CONFIG_3 (`LoopConv.scala`).
    LoopConvConfig3 {
        lpad: u16               = rs1(15, 0).or(0), "Columns of zeros left of the input.";
        kchs: u16               = rs1(31, 16), "Input channels of this loop.";
        kcols: u16              = rs1(47, 32), "Kernel columns of this loop.";
        krows: u16              = rs1(63, 48), "Kernel rows of this loop.";
        in_col_dim: u16         = rs2(15, 0), "Columns of an input image.";
        plpad: u8               = rs2(23, 16).or(0), "Columns of padding left of the pooled image.";
        dpad: u8                = rs2(31, 24).or(0), "Rows of zeros below the input.";
        upad: u16               = rs2(47, 32).or(0), "Rows of zeros above the input.";
        rpad: u16               = rs2(63, 48).or(0), "Columns of zeros right of the input.";
    }

    /// LOOP_CONV_WS_CONFIG_4 (`LoopConv.scala`).
    LoopConvConfig4 {
        kernel_dilation: u16    = rs1(9, 0).or(1), "Pixels from one kernel element to the next.";
        pdpad: u16              = rs1(20, 10).or(0), "Not used by the hardware.";
        pupad: u16              = rs1(31, 21).or(0), "Rows of padding above the pooled image.";
        prad: u16               = rs1(47, 32).or(0), "Not used by the hardware.";
        orows: u16              = rs1(63, 48), "Output rows before pooling of this loop.";
        ocols: u16              = rs2(15, 0), "Output columns before pooling of this loop.";
        out_stride: u16         = rs2(31, 16), "Elements from one output pixel in memory to the next.";
        weight_stride: u16      = rs2(47, 32), "Elements from one weight row in memory to the next.";
        in_stride: u16          = rs2(63, 48), "Elements from one input pixel in memory to the next.";
    }

    /// LOOP_CONV_WS_CONFIG_5 (`LoopConv.scala`).
    LoopConvConfig5 {
        weights: u64            = dram(rs1(63, 0)), "Main memory address of the weights; 0 is no load.";
        output: u64             = dram(rs2(63, 0)), "Main memory address of the output; 0 is no store.";
    }

    /// LOOP_CONV_WS_CONFIG_6 (`LoopConv.scala`).
    LoopConvConfig6 {
        bias: u64               = dram(rs1(63, 0)), "Main memory address of the bias; 0 is no load.";
        input: u64              = dram(rs2(63, 0)), "Main memory address of the input; 0 is no load.";
    }

    /// LOOP_CONV_WS (`LoopConv.scala`). Bits of features that the build lacks are ignored ([`LoopConvWs::gated`]).
    LoopConvWs {
        no_bias: bool           = rs1(0, 0), "Load zeros instead of the bias.";
        wrot180: bool           = rs1(1, 1), "Rotate the kernel by 180 degrees.";
        trans_output_1203: bool = rs1(2, 2), "Output layout 1203.";
        trans_weight_1203: bool = rs1(3, 3), "Weight layout 1203.";
        trans_weight_0132: bool = rs1(4, 4), "Weight layout 0132.";
        trans_input_3120: bool  = rs1(5, 5), "Input layout 3120.";
        dw: bool                = rs1(6, 6), "Depthwise.";
        max_pixels_per_row: u8  = rs1(15, 8).or(1), "Input pixels in a scratchpad row; 0 is read as 1.";
        b_spad_id: u8           = rs1(17, 16).max(Fixed(2)).or(0), "Where the weights end: 0 in the slot's place, n after half n.";
        a_spad_id: u8           = rs1(19, 18).max(Fixed(2)).or(0), "Where the input starts: 0 in the slot's place, n at half n.";
        no_pool: bool           = rs2(0, 0), "Do not pool.";
        downsample: bool        = rs2(1, 1), "Load every other input pixel.";
        input_dilated: bool     = rs2(2, 2), "Input with zeros between the pixels.";
        activation: Activation  = rs2(4, 3).named(Activation::NAMES_2_BITS).or(0), "Activation of the output.";
    }
}

/// A row or matrix operand of the execute controller: address and extents, as PRELOAD and COMPUTE have twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExecOperand {
    /// First local row.
    pub local: LocalAddr,
    /// Columns, log2Up(DIM + 1) bits.
    pub cols: u16,
    /// Rows, log2Up(DIM + 1) bits.
    pub rows: u16,
}

impl ExecOperand {
    /// What the hardware keeps of one register of PRELOAD or COMPUTE.
    pub fn from_reg(cfg: &GemminiConfig, register: u64) -> Self {
        Preload::from_regs(cfg, register, 0).d()
    }
}

impl Preload {
    /// The preloaded operand (rs1).
    pub fn d(&self) -> ExecOperand {
        ExecOperand { local: self.d, cols: self.d_cols, rows: self.d_rows }
    }

    /// The destination (rs2).
    pub fn c(&self) -> ExecOperand {
        ExecOperand { local: self.c, cols: self.c_cols, rows: self.c_rows }
    }
}

impl Compute {
    /// The A operand (rs1).
    pub fn a(&self) -> ExecOperand {
        ExecOperand { local: self.a, cols: self.a_cols, rows: self.a_rows }
    }

    /// The BD operand (rs2).
    pub fn bd(&self) -> ExecOperand {
        ExecOperand { local: self.bd, cols: self.bd_cols, rows: self.bd_rows }
    }
}

impl MoveOperands {
    /// Blocks of DIM columns, the last one possibly partial.
    pub fn blocks(&self, cfg: &GemminiConfig) -> u32 {
        u32::from(self.cols).div_ceil(cfg.dim())
    }
}

impl ConfigLd {
    /// Copies of each pixel, with 0 read as 1.
    pub fn repeats(&self) -> u8 {
        self.pixel_repeats.max(1)
    }
}

impl LoopConvConfig2 {
    /// The fields as a build without pooling sees them.
    pub fn gated(self, cfg: &GemminiConfig) -> Self {
        if cfg.has_max_pool { self } else { Self { pool_size: 1, pool_stride: 1, pool_padding: 0, ..self } }
    }
}

impl LoopConvWs {
    /// The fields as the build sees them: features that it lacks are off.
    pub fn gated(self, cfg: &GemminiConfig) -> Self {
        let training = cfg.has_training_convs;
        let pixels = if cfg.has_first_layer_optimizations { self.max_pixels_per_row.max(1) } else { 1 };
        Self {
            wrot180: training && self.wrot180,
            trans_output_1203: training && self.trans_output_1203,
            trans_weight_1203: training && self.trans_weight_1203,
            trans_weight_0132: training && self.trans_weight_0132,
            trans_input_3120: training && self.trans_input_3120,
            input_dilated: training && self.input_dilated,
            dw: cfg.has_dw_convs && self.dw,
            max_pixels_per_row: pixels,
            no_pool: !cfg.has_max_pool || self.no_pool,
            ..self
        }
    }
}
