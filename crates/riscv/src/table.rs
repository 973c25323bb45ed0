//! The instruction table: what an instruction word is called, which bits make it, where its operands are, and what
//! executes it. Decoder and disassembler read nothing else.
//!
//! Source: The RISC-V Instruction Set Manual, volume I: RV64I 2.1, M 2.0, A 2.1, F 2.2, D 2.2, C 2.0, Zicsr, Zifencei,
//! and `mret` and `wfi` of volume II. The four custom opcodes have the format of rocket-chip's RoCC commands
//! (`LazyRoCC.scala`).

use crate::format::Format;

/// What kind of work an instruction is: what a timing model and a profile ask about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Integer arithmetic and logic of one cycle.
    Alu,
    /// Conditional branch.
    Branch,
    /// `jal` and `jalr`.
    Jump,
    /// Load of an integer or float register.
    Load,
    /// Store of an integer or float register.
    Store,
    /// Atomic access, `lr` and `sc`.
    Atomic,
    /// Integer multiplication.
    Multiply,
    /// Integer division and remainder.
    Divide,
    /// Addition, multiplication and their fusions, comparisons and moves of floats.
    Float,
    /// Float division and square root.
    FloatDivide,
    /// Access to a control and status register.
    Csr,
    /// `fence` and `fence.i`.
    Fence,
    /// `ecall`, `ebreak`, `mret`, `wfi`.
    System,
    /// A command to an accelerator.
    Rocc,
}

/// A row of the table: the words `w` with `w & mask == matches` whose operands satisfy the format.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Name in assembly.
    pub mnemonic: &'static str,
    /// Bits that tell the instruction from others.
    pub mask: u32,
    /// Their values.
    pub matches: u32,
    /// Where the operands are.
    pub format: Format,
    /// What is executed; a compressed instruction executes what its expansion does.
    pub op: Op,
    /// Kind of work.
    pub class: Class,
}

impl Row {
    /// Whether the row's instructions have 16 bits.
    pub const fn is_compressed(&self) -> bool {
        self.matches & 3 != 3
    }

    /// Whether this row describes the word (of which a compressed one has only its low 16 bits set).
    pub fn describes(&self, word: u32) -> bool {
        word & self.mask == self.matches && self.format.accepts(word)
    }
}

/// Defines [`Op`] and [`TABLE`] from one list of rows.
macro_rules! instructions {
    (
        full { $($op:ident $mnemonic:literal $mask:literal $matches:literal $format:ident $class:ident;)* }
        compressed { $($expansion:ident $short:literal $short_mask:literal $short_matches:literal $short_format:ident $short_class:ident;)* }
    ) => {
        /// What an instruction does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "the names are those of the instruction set")]
        pub enum Op {
            $($op,)*
        }

        /// Every instruction, compressed ones last.
        pub const TABLE: &[Row] = &[
            $(Row {
                mnemonic: $mnemonic, mask: $mask, matches: $matches, format: Format::$format, op: Op::$op, class: Class::$class,
            },)*
            $(Row {
                mnemonic: $short, mask: $short_mask, matches: $short_matches, format: Format::$short_format,
                op: Op::$expansion, class: Class::$short_class,
            },)*
        ];
    };
}

#[rustfmt::skip]
instructions! {
  full {
    // RV64I
    Lui        "lui"         0x0000_007f 0x0000_0037 U       Alu;
    Auipc      "auipc"       0x0000_007f 0x0000_0017 U       Alu;
    Jal        "jal"         0x0000_007f 0x0000_006f J       Jump;
    Jalr       "jalr"        0x0000_707f 0x0000_0067 Jalr    Jump;
    Beq        "beq"         0x0000_707f 0x0000_0063 B       Branch;
    Bne        "bne"         0x0000_707f 0x0000_1063 B       Branch;
    Blt        "blt"         0x0000_707f 0x0000_4063 B       Branch;
    Bge        "bge"         0x0000_707f 0x0000_5063 B       Branch;
    Bltu       "bltu"        0x0000_707f 0x0000_6063 B       Branch;
    Bgeu       "bgeu"        0x0000_707f 0x0000_7063 B       Branch;
    Lb         "lb"          0x0000_707f 0x0000_0003 Load    Load;
    Lh         "lh"          0x0000_707f 0x0000_1003 Load    Load;
    Lw         "lw"          0x0000_707f 0x0000_2003 Load    Load;
    Ld         "ld"          0x0000_707f 0x0000_3003 Load    Load;
    Lbu        "lbu"         0x0000_707f 0x0000_4003 Load    Load;
    Lhu        "lhu"         0x0000_707f 0x0000_5003 Load    Load;
    Lwu        "lwu"         0x0000_707f 0x0000_6003 Load    Load;
    Sb         "sb"          0x0000_707f 0x0000_0023 Store   Store;
    Sh         "sh"          0x0000_707f 0x0000_1023 Store   Store;
    Sw         "sw"          0x0000_707f 0x0000_2023 Store   Store;
    Sd         "sd"          0x0000_707f 0x0000_3023 Store   Store;
    Addi       "addi"        0x0000_707f 0x0000_0013 I       Alu;
    Slti       "slti"        0x0000_707f 0x0000_2013 I       Alu;
    Sltiu      "sltiu"       0x0000_707f 0x0000_3013 I       Alu;
    Xori       "xori"        0x0000_707f 0x0000_4013 I       Alu;
    Ori        "ori"         0x0000_707f 0x0000_6013 I       Alu;
    Andi       "andi"        0x0000_707f 0x0000_7013 I       Alu;
    Slli       "slli"        0xfc00_707f 0x0000_1013 Shift   Alu;
    Srli       "srli"        0xfc00_707f 0x0000_5013 Shift   Alu;
    Srai       "srai"        0xfc00_707f 0x4000_5013 Shift   Alu;
    Add        "add"         0xfe00_707f 0x0000_0033 R       Alu;
    Sub        "sub"         0xfe00_707f 0x4000_0033 R       Alu;
    Sll        "sll"         0xfe00_707f 0x0000_1033 R       Alu;
    Slt        "slt"         0xfe00_707f 0x0000_2033 R       Alu;
    Sltu       "sltu"        0xfe00_707f 0x0000_3033 R       Alu;
    Xor        "xor"         0xfe00_707f 0x0000_4033 R       Alu;
    Srl        "srl"         0xfe00_707f 0x0000_5033 R       Alu;
    Sra        "sra"         0xfe00_707f 0x4000_5033 R       Alu;
    Or         "or"          0xfe00_707f 0x0000_6033 R       Alu;
    And        "and"         0xfe00_707f 0x0000_7033 R       Alu;
    Addiw      "addiw"       0x0000_707f 0x0000_001b I       Alu;
    Slliw      "slliw"       0xfe00_707f 0x0000_101b Shift   Alu;
    Srliw      "srliw"       0xfe00_707f 0x0000_501b Shift   Alu;
    Sraiw      "sraiw"       0xfe00_707f 0x4000_501b Shift   Alu;
    Addw       "addw"        0xfe00_707f 0x0000_003b R       Alu;
    Subw       "subw"        0xfe00_707f 0x4000_003b R       Alu;
    Sllw       "sllw"        0xfe00_707f 0x0000_103b R       Alu;
    Srlw       "srlw"        0xfe00_707f 0x0000_503b R       Alu;
    Sraw       "sraw"        0xfe00_707f 0x4000_503b R       Alu;
    Fence      "fence"       0x0000_707f 0x0000_000f Fence   Fence;
    FenceI     "fence.i"     0x0000_707f 0x0000_100f None    Fence;
    Ecall      "ecall"       0xffff_ffff 0x0000_0073 None    System;
    Ebreak     "ebreak"      0xffff_ffff 0x0010_0073 None    System;
    Mret       "mret"        0xffff_ffff 0x3020_0073 None    System;
    Wfi        "wfi"         0xffff_ffff 0x1050_0073 None    System;
    Csrrw      "csrrw"       0x0000_707f 0x0000_1073 Csr     Csr;
    Csrrs      "csrrs"       0x0000_707f 0x0000_2073 Csr     Csr;
    Csrrc      "csrrc"       0x0000_707f 0x0000_3073 Csr     Csr;
    Csrrwi     "csrrwi"      0x0000_707f 0x0000_5073 CsrI    Csr;
    Csrrsi     "csrrsi"      0x0000_707f 0x0000_6073 CsrI    Csr;
    Csrrci     "csrrci"      0x0000_707f 0x0000_7073 CsrI    Csr;
    // M
    Mul        "mul"         0xfe00_707f 0x0200_0033 R       Multiply;
    Mulh       "mulh"        0xfe00_707f 0x0200_1033 R       Multiply;
    Mulhsu     "mulhsu"      0xfe00_707f 0x0200_2033 R       Multiply;
    Mulhu      "mulhu"       0xfe00_707f 0x0200_3033 R       Multiply;
    Div        "div"         0xfe00_707f 0x0200_4033 R       Divide;
    Divu       "divu"        0xfe00_707f 0x0200_5033 R       Divide;
    Rem        "rem"         0xfe00_707f 0x0200_6033 R       Divide;
    Remu       "remu"        0xfe00_707f 0x0200_7033 R       Divide;
    Mulw       "mulw"        0xfe00_707f 0x0200_003b R       Multiply;
    Divw       "divw"        0xfe00_707f 0x0200_403b R       Divide;
    Divuw      "divuw"       0xfe00_707f 0x0200_503b R       Divide;
    Remw       "remw"        0xfe00_707f 0x0200_603b R       Divide;
    Remuw      "remuw"       0xfe00_707f 0x0200_703b R       Divide;
    // A
    LrW        "lr.w"        0xf9f0_707f 0x1000_202f Lr      Atomic;
    ScW        "sc.w"        0xf800_707f 0x1800_202f Amo     Atomic;
    AmoswapW   "amoswap.w"   0xf800_707f 0x0800_202f Amo     Atomic;
    AmoaddW    "amoadd.w"    0xf800_707f 0x0000_202f Amo     Atomic;
    AmoxorW    "amoxor.w"    0xf800_707f 0x2000_202f Amo     Atomic;
    AmoandW    "amoand.w"    0xf800_707f 0x6000_202f Amo     Atomic;
    AmoorW     "amoor.w"     0xf800_707f 0x4000_202f Amo     Atomic;
    AmominW    "amomin.w"    0xf800_707f 0x8000_202f Amo     Atomic;
    AmomaxW    "amomax.w"    0xf800_707f 0xa000_202f Amo     Atomic;
    AmominuW   "amominu.w"   0xf800_707f 0xc000_202f Amo     Atomic;
    AmomaxuW   "amomaxu.w"   0xf800_707f 0xe000_202f Amo     Atomic;
    LrD        "lr.d"        0xf9f0_707f 0x1000_302f Lr      Atomic;
    ScD        "sc.d"        0xf800_707f 0x1800_302f Amo     Atomic;
    AmoswapD   "amoswap.d"   0xf800_707f 0x0800_302f Amo     Atomic;
    AmoaddD    "amoadd.d"    0xf800_707f 0x0000_302f Amo     Atomic;
    AmoxorD    "amoxor.d"    0xf800_707f 0x2000_302f Amo     Atomic;
    AmoandD    "amoand.d"    0xf800_707f 0x6000_302f Amo     Atomic;
    AmoorD     "amoor.d"     0xf800_707f 0x4000_302f Amo     Atomic;
    AmominD    "amomin.d"    0xf800_707f 0x8000_302f Amo     Atomic;
    AmomaxD    "amomax.d"    0xf800_707f 0xa000_302f Amo     Atomic;
    AmominuD   "amominu.d"   0xf800_707f 0xc000_302f Amo     Atomic;
    AmomaxuD   "amomaxu.d"   0xf800_707f 0xe000_302f Amo     Atomic;
    // F
    Flw        "flw"         0x0000_707f 0x0000_2007 FLoad   Load;
    Fsw        "fsw"         0x0000_707f 0x0000_2027 FStore  Store;
    FmaddS     "fmadd.s"     0x0600_007f 0x0000_0043 FR4     Float;
    FmsubS     "fmsub.s"     0x0600_007f 0x0000_0047 FR4     Float;
    FnmsubS    "fnmsub.s"    0x0600_007f 0x0000_004b FR4     Float;
    FnmaddS    "fnmadd.s"    0x0600_007f 0x0000_004f FR4     Float;
    FaddS      "fadd.s"      0xfe00_007f 0x0000_0053 FRRm    Float;
    FsubS      "fsub.s"      0xfe00_007f 0x0800_0053 FRRm    Float;
    FmulS      "fmul.s"      0xfe00_007f 0x1000_0053 FRRm    Float;
    FdivS      "fdiv.s"      0xfe00_007f 0x1800_0053 FRRm    FloatDivide;
    FsqrtS     "fsqrt.s"     0xfff0_007f 0x5800_0053 FURm    FloatDivide;
    FsgnjS     "fsgnj.s"     0xfe00_707f 0x2000_0053 FR      Float;
    FsgnjnS    "fsgnjn.s"    0xfe00_707f 0x2000_1053 FR      Float;
    FsgnjxS    "fsgnjx.s"    0xfe00_707f 0x2000_2053 FR      Float;
    FminS      "fmin.s"      0xfe00_707f 0x2800_0053 FR      Float;
    FmaxS      "fmax.s"      0xfe00_707f 0x2800_1053 FR      Float;
    FcvtWS     "fcvt.w.s"    0xfff0_007f 0xc000_0053 XFRm    Float;
    FcvtWuS    "fcvt.wu.s"   0xfff0_007f 0xc010_0053 XFRm    Float;
    FcvtLS     "fcvt.l.s"    0xfff0_007f 0xc020_0053 XFRm    Float;
    FcvtLuS    "fcvt.lu.s"   0xfff0_007f 0xc030_0053 XFRm    Float;
    FmvXW      "fmv.x.w"     0xfff0_707f 0xe000_0053 XF      Float;
    FeqS       "feq.s"       0xfe00_707f 0xa000_2053 Xff     Float;
    FltS       "flt.s"       0xfe00_707f 0xa000_1053 Xff     Float;
    FleS       "fle.s"       0xfe00_707f 0xa000_0053 Xff     Float;
    FclassS    "fclass.s"    0xfff0_707f 0xe000_1053 XF      Float;
    FcvtSW     "fcvt.s.w"    0xfff0_007f 0xd000_0053 FXRm    Float;
    FcvtSWu    "fcvt.s.wu"   0xfff0_007f 0xd010_0053 FXRm    Float;
    FcvtSL     "fcvt.s.l"    0xfff0_007f 0xd020_0053 FXRm    Float;
    FcvtSLu    "fcvt.s.lu"   0xfff0_007f 0xd030_0053 FXRm    Float;
    FmvWX      "fmv.w.x"     0xfff0_707f 0xf000_0053 FX      Float;
    // D
    Fld        "fld"         0x0000_707f 0x0000_3007 FLoad   Load;
    Fsd        "fsd"         0x0000_707f 0x0000_3027 FStore  Store;
    FmaddD     "fmadd.d"     0x0600_007f 0x0200_0043 FR4     Float;
    FmsubD     "fmsub.d"     0x0600_007f 0x0200_0047 FR4     Float;
    FnmsubD    "fnmsub.d"    0x0600_007f 0x0200_004b FR4     Float;
    FnmaddD    "fnmadd.d"    0x0600_007f 0x0200_004f FR4     Float;
    FaddD      "fadd.d"      0xfe00_007f 0x0200_0053 FRRm    Float;
    FsubD      "fsub.d"      0xfe00_007f 0x0a00_0053 FRRm    Float;
    FmulD      "fmul.d"      0xfe00_007f 0x1200_0053 FRRm    Float;
    FdivD      "fdiv.d"      0xfe00_007f 0x1a00_0053 FRRm    FloatDivide;
    FsqrtD     "fsqrt.d"     0xfff0_007f 0x5a00_0053 FURm    FloatDivide;
    FsgnjD     "fsgnj.d"     0xfe00_707f 0x2200_0053 FR      Float;
    FsgnjnD    "fsgnjn.d"    0xfe00_707f 0x2200_1053 FR      Float;
    FsgnjxD    "fsgnjx.d"    0xfe00_707f 0x2200_2053 FR      Float;
    FminD      "fmin.d"      0xfe00_707f 0x2a00_0053 FR      Float;
    FmaxD      "fmax.d"      0xfe00_707f 0x2a00_1053 FR      Float;
    FcvtSD     "fcvt.s.d"    0xfff0_007f 0x4010_0053 FURm    Float;
    FcvtDS     "fcvt.d.s"    0xfff0_007f 0x4200_0053 FURm    Float;
    FeqD       "feq.d"       0xfe00_707f 0xa200_2053 Xff     Float;
    FltD       "flt.d"       0xfe00_707f 0xa200_1053 Xff     Float;
    FleD       "fle.d"       0xfe00_707f 0xa200_0053 Xff     Float;
    FclassD    "fclass.d"    0xfff0_707f 0xe200_1053 XF      Float;
    FcvtWD     "fcvt.w.d"    0xfff0_007f 0xc200_0053 XFRm    Float;
    FcvtWuD    "fcvt.wu.d"   0xfff0_007f 0xc210_0053 XFRm    Float;
    FcvtLD     "fcvt.l.d"    0xfff0_007f 0xc220_0053 XFRm    Float;
    FcvtLuD    "fcvt.lu.d"   0xfff0_007f 0xc230_0053 XFRm    Float;
    FcvtDW     "fcvt.d.w"    0xfff0_007f 0xd200_0053 FXRm    Float;
    FcvtDWu    "fcvt.d.wu"   0xfff0_007f 0xd210_0053 FXRm    Float;
    FcvtDL     "fcvt.d.l"    0xfff0_007f 0xd220_0053 FXRm    Float;
    FcvtDLu    "fcvt.d.lu"   0xfff0_007f 0xd230_0053 FXRm    Float;
    FmvXD      "fmv.x.d"     0xfff0_707f 0xe200_0053 XF      Float;
    FmvDX      "fmv.d.x"     0xfff0_707f 0xf200_0053 FX      Float;
    // RoCC
    Custom0    "custom0"     0x0000_007f 0x0000_000b Rocc    Rocc;
    Custom1    "custom1"     0x0000_007f 0x0000_002b Rocc    Rocc;
    Custom2    "custom2"     0x0000_007f 0x0000_005b Rocc    Rocc;
    Custom3    "custom3"     0x0000_007f 0x0000_007b Rocc    Rocc;
  }
  compressed {
    Addi       "c.addi4spn"  0xe003 0x0000 CIw      Alu;
    Fld        "c.fld"       0xe003 0x2000 CFLoadD  Load;
    Lw         "c.lw"        0xe003 0x4000 CLoadW   Load;
    Ld         "c.ld"        0xe003 0x6000 CLoadD   Load;
    Fsd        "c.fsd"       0xe003 0xa000 CFStoreD Store;
    Sw         "c.sw"        0xe003 0xc000 CStoreW  Store;
    Sd         "c.sd"        0xe003 0xe000 CStoreD  Store;
    Addi       "c.addi"      0xe003 0x0001 CI       Alu;
    Addiw      "c.addiw"     0xe003 0x2001 CINotX0  Alu;
    Addi       "c.li"        0xe003 0x4001 CLi      Alu;
    Addi       "c.addi16sp"  0xef83 0x6101 CAddi16sp Alu;
    Lui        "c.lui"       0xe003 0x6001 CLui     Alu;
    Srli       "c.srli"      0xec03 0x8001 CShift   Alu;
    Srai       "c.srai"      0xec03 0x8401 CShift   Alu;
    Andi       "c.andi"      0xec03 0x8801 CAndi    Alu;
    Sub        "c.sub"       0xfc63 0x8c01 CA       Alu;
    Xor        "c.xor"       0xfc63 0x8c21 CA       Alu;
    Or         "c.or"        0xfc63 0x8c41 CA       Alu;
    And        "c.and"       0xfc63 0x8c61 CA       Alu;
    Subw       "c.subw"      0xfc63 0x9c01 CA       Alu;
    Addw       "c.addw"      0xfc63 0x9c21 CA       Alu;
    Jal        "c.j"         0xe003 0xa001 CJ       Jump;
    Beq        "c.beqz"      0xe003 0xc001 CB       Branch;
    Bne        "c.bnez"      0xe003 0xe001 CB       Branch;
    Slli       "c.slli"      0xe003 0x0002 CSlli    Alu;
    Fld        "c.fldsp"     0xe003 0x2002 CFLoadSpD Load;
    Lw         "c.lwsp"      0xe003 0x4002 CLoadSpW Load;
    Ld         "c.ldsp"      0xe003 0x6002 CLoadSpD Load;
    Jalr       "c.jr"        0xf07f 0x8002 CJr      Jump;
    Add        "c.mv"        0xf003 0x8002 CMv      Alu;
    Ebreak     "c.ebreak"    0xffff 0x9002 None     System;
    Jalr       "c.jalr"      0xf07f 0x9002 CJalr    Jump;
    Add        "c.add"       0xf003 0x9002 CAdd     Alu;
    Fsd        "c.fsdsp"     0xe003 0xa002 CFStoreSpD Store;
    Sw         "c.swsp"      0xe003 0xc002 CStoreSpW Store;
    Sd         "c.sdsp"      0xe003 0xe002 CStoreSpD Store;
  }
}
