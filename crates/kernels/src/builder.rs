//! [`ProgramBuilder`]: buffers in main memory and typed commands, collected into a program.

use std::ops::Range;

use pollux_asm::Program;
use pollux_asm::program::{Buffer, ElementType, LocalRegion};
use pollux_isa::fields::{
    Compute, ConfigEx, ConfigLd, ConfigNorm, ConfigSt, LoopWs, LoopWsAddrsAb, LoopWsAddrsDc, LoopWsBounds,
    LoopWsStridesAb, LoopWsStridesDc, MoveOperands, Preload,
};
use pollux_isa::values::{DataflowMode, NormCmd, Scale};
use pollux_isa::{Command, ConfigError, LocalAddr, StreamItem, ValidConfig};

use crate::activation::Activation;
use crate::allocator::DramAllocator;
use crate::error::KernelError;
use crate::statistics::{OperationStatistics, Statistics};
use crate::view::View;

/// First address that buffers get: where a RISC-V core's main memory begins.
pub const DRAM_BASE: u64 = 0x8000_0000;

/// Buffers begin on a page of their own, so that two of them never meet in a page register, and that a layer finds its operands in the
/// same places of their pages as the layer before.
const DRAM_ALIGNMENT: u64 = 4096;

/// A local operand of the execute controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    /// First row.
    pub local: LocalAddr,
    /// Rows as the operand takes part in the product.
    pub rows: usize,
    /// Columns as the operand takes part in the product.
    pub cols: usize,
}

/// A loop of the unroller as six commands.
#[derive(Clone, Copy, Debug)]
pub struct LoopMatmul {
    /// Size.
    pub bounds: LoopWsBounds,
    /// Addresses of A and B.
    pub ab: LoopWsAddrsAb,
    /// Addresses of D and C.
    pub dc: LoopWsAddrsDc,
    /// Strides of A and B in elements.
    pub strides_ab: LoopWsStridesAb,
    /// Strides of D and C in elements.
    pub strides_dc: LoopWsStridesDc,
    /// Flags.
    pub run: LoopWs,
}

/// Collects buffers and commands.
#[derive(Clone, Debug)]
pub struct ProgramBuilder {
    program: Program,
    dram: DramAllocator,
    operation: String,
    overreads: Vec<Range<u64>>,
    statistics: Statistics,
}

/// Buffers.
impl ProgramBuilder {
    /// A builder with all of main memory from [`DRAM_BASE`] on.
    ///
    /// # Errors
    /// The configuration is inconsistent.
    pub fn new(config: impl TryInto<ValidConfig, Error: Into<ConfigError>>) -> Result<Self, KernelError> {
        let config = config.try_into().map_err(Into::into)?;
        let dram = DRAM_BASE..1 << config.paddr_bits;
        Self::with_dram(config, dram)
    }

    /// A builder with this range of main memory.
    ///
    /// # Errors
    /// The configuration is inconsistent.
    pub fn with_dram(
        config: impl TryInto<ValidConfig, Error: Into<ConfigError>>,
        dram: Range<u64>,
    ) -> Result<Self, KernelError> {
        let config = config.try_into().map_err(Into::into)?;
        Ok(Self {
            program: Program::new(config),
            dram: DramAllocator::new(dram.start, dram.end),
            operation: String::new(),
            overreads: Vec::new(),
            statistics: Statistics::default(),
        })
    }

    /// The configuration.
    pub fn config(&self) -> &ValidConfig {
        &self.program.config
    }

    /// Rows and columns of the array.
    pub fn dim(&self) -> usize {
        self.program.config.dim() as usize
    }

    /// A buffer of `rows` x `cols` elements that starts as zeros.
    ///
    /// # Errors
    /// The name is taken or main memory is full.
    pub fn buffer(&mut self, name: &str, rows: usize, cols: usize, element: ElementType) -> Result<View, KernelError> {
        let bytes = (rows * cols) as u64 * element.size();
        self.check_name(name)?;
        let address = self.dram.allocate(name, bytes, DRAM_ALIGNMENT)?;
        Ok(self.add(name, address, rows, cols, element))
    }

    /// The same at a chosen address.
    ///
    /// # Errors
    /// The name is taken or another buffer has the memory.
    pub fn buffer_at(
        &mut self,
        name: &str,
        address: u64,
        rows: usize,
        cols: usize,
        element: ElementType,
    ) -> Result<View, KernelError> {
        self.check_name(name)?;
        self.dram.take(name, address, (rows * cols) as u64 * element.size())?;
        Ok(self.add(name, address, rows, cols, element))
    }

    /// A buffer of int8 with contents, row-major.
    ///
    /// # Errors
    /// The name is taken, main memory is full, or the data do not fill the shape.
    pub fn buffer_i8(&mut self, name: &str, rows: usize, cols: usize, data: &[i8]) -> Result<View, KernelError> {
        let view = self.filled(name, rows, cols, ElementType::I8, data.len())?;
        self.set_data(data.iter().map(|&x| x as u8).collect());
        Ok(view)
    }

    /// A buffer of int32 with contents, row-major.
    ///
    /// # Errors
    /// The name is taken, main memory is full, or the data do not fill the shape.
    pub fn buffer_i32(&mut self, name: &str, rows: usize, cols: usize, data: &[i32]) -> Result<View, KernelError> {
        let view = self.filled(name, rows, cols, ElementType::I32, data.len())?;
        self.set_data(data.iter().flat_map(|x| x.to_le_bytes()).collect());
        Ok(view)
    }

    fn filled(
        &mut self,
        name: &str,
        rows: usize,
        cols: usize,
        element: ElementType,
        found: usize,
    ) -> Result<View, KernelError> {
        if found != rows * cols {
            return Err(KernelError::Length { what: name.to_owned(), found, expected: rows * cols });
        }
        self.buffer(name, rows, cols, element)
    }

    fn set_data(&mut self, data: Vec<u8>) {
        if let Some(buffer) = self.program.buffers.last_mut() {
            buffer.data = Some(data);
        }
    }

    fn check_name(&self, name: &str) -> Result<(), KernelError> {
        match self.program.buffer(name) {
            Some(_) => Err(KernelError::DuplicateBuffer(name.to_owned())),
            None => Ok(()),
        }
    }

    fn add(&mut self, name: &str, address: u64, rows: usize, cols: usize, element: ElementType) -> View {
        let shape = vec![rows as u64, cols as u64];
        self.program.buffers.push(Buffer {
            name: name.to_owned(),
            address,
            element,
            shape,
            data: None,
            expected: None,
        });
        View { address, rows, cols, stride: cols, element }
    }

    /// Gives the buffer of that name its expected contents (little endian).
    ///
    /// # Errors
    /// There is no such buffer, or the contents have another size.
    pub fn expect(&mut self, name: &str, contents: Vec<u8>) -> Result<(), KernelError> {
        let wrong = |expected: u64| KernelError::Length {
            what: name.to_owned(),
            found: contents.len(),
            expected: expected as usize,
        };
        let Some(buffer) = self.program.buffers.iter_mut().find(|buffer| buffer.name == name) else {
            return Err(wrong(0));
        };
        if contents.len() as u64 != buffer.len() {
            return Err(wrong(buffer.len()));
        }
        buffer.expected = Some(contents);
        Ok(())
    }

    /// Takes the contents out of all buffers made so far; they keep their places. For programs that go on with a memory that
    /// has the contents already.
    pub fn release_contents(&mut self) {
        self.program.buffers.iter_mut().for_each(|buffer| buffer.data = None);
    }

    /// Names rows of a local memory for readers of the listing.
    pub fn region(&mut self, name: &str, local: LocalAddr, rows: usize) {
        let layout = self.config().layout();
        let name = format!("{}.{name}", self.operation);
        if self.program.regions.iter().all(|region| region.name != name) {
            let row = local.memory_row(layout);
            self.program.regions.push(LocalRegion { name, accumulator: local.is_acc(), row, rows: rows as u32 });
        }
    }
}

/// The stream.
impl ProgramBuilder {
    /// Begins an operation: its name appears in errors, listings and reports.
    pub fn begin(&mut self, operation: &str) {
        self.operation = operation.to_owned();
        self.statistics.operations.push(OperationStatistics { name: operation.to_owned(), ..Default::default() });
        self.program.items.push(StreamItem::Mark(operation.to_owned()));
    }

    /// The operation begun last.
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// Everything behind waits until the accelerator is idle. Needed between a store and a load of the same bytes of main
    /// memory, which the reservation station does not order.
    pub fn fence(&mut self) {
        self.program.items.push(StreamItem::Fence);
    }

    /// Appends a command.
    ///
    /// # Errors
    /// It has no encoding in this configuration.
    pub fn emit(&mut self, command: Command) -> Result<(), KernelError> {
        let encoded = command
            .encode(&self.program.config)
            .map_err(|source| KernelError::Encode { operation: self.operation.clone(), source })?;
        self.program.items.push(StreamItem::Command(encoded));
        self.count(|s| s.commands += 1);
        Ok(())
    }

    /// The items that `emit` appends, taken out of the stream; they count as work of the current operation.
    pub(crate) fn record<T>(
        &mut self,
        emit: impl FnOnce(&mut Self) -> Result<T, KernelError>,
    ) -> Result<(T, Vec<StreamItem>), KernelError> {
        let before = std::mem::take(&mut self.program.items);
        let result = emit(self);
        let items = std::mem::replace(&mut self.program.items, before);
        Ok((result?, items))
    }

    /// Appends recorded items.
    pub(crate) fn append(&mut self, items: Vec<StreamItem>) {
        self.program.items.extend(items);
    }

    /// Adds to the current operation's statistics.
    pub(crate) fn count(&mut self, add: impl FnOnce(&mut OperationStatistics)) {
        if self.statistics.operations.is_empty() {
            self.statistics.operations.push(OperationStatistics::default());
        }
        if let Some(operation) = self.statistics.operations.last_mut() {
            add(operation);
        }
    }

    /// Notes that the hardware reads these bytes, although the program needs nothing of them.
    pub(crate) fn overread(&mut self, range: Range<u64>) {
        self.overreads.push(range);
    }

    /// What has been emitted so far.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// The program. Bytes that the unroller reads beyond the end of a ragged B become buffers of their own where no
    /// buffer has them, so that every access of the program is declared.
    ///
    /// # Errors
    /// A rule of well-formed programs is broken.
    pub fn finish(mut self) -> Result<Program, KernelError> {
        for (index, range) in self.unowned_overreads().into_iter().enumerate() {
            let shape = vec![range.end - range.start];
            let (name, address) = (format!("overread_{index}"), range.start);
            self.program.buffers.push(Buffer {
                name,
                address,
                element: ElementType::I8,
                shape,
                data: None,
                expected: None,
            });
        }
        self.program.check()?;
        Ok(self.program)
    }

    fn unowned_overreads(&self) -> Vec<Range<u64>> {
        let mut owned: Vec<Range<u64>> = self.program.buffers.iter().map(Buffer::range).collect();
        owned.sort_by_key(|range| range.start);
        let mut reads = self.overreads.clone();
        reads.sort_by_key(|range| range.start);
        let mut gaps: Vec<Range<u64>> = Vec::new();
        for Range { mut start, end } in reads {
            start = start.max(gaps.last().map_or(0, |gap| gap.end));
            for own in &owned {
                if own.end <= start || own.start >= end {
                    continue;
                }
                if start < own.start {
                    gaps.push(start..own.start);
                }
                start = own.end;
            }
            if start < end {
                gaps.push(start..end);
            }
        }
        gaps
    }
}

/// Typed commands.
impl ProgramBuilder {
    /// CONFIG_EX with strides of one row. `activation` only matters for operands in the accumulator.
    ///
    /// # Errors
    /// See [`ProgramBuilder::emit`].
    pub fn config_ex(
        &mut self,
        dataflow: DataflowMode,
        activation: &Activation,
        a_transpose: bool,
        b_transpose: bool,
    ) -> Result<(), KernelError> {
        self.emit(Command::ConfigEx(ConfigEx {
            dataflow,
            activation: activation.two_bits(),
            set_only_strides: false,
            a_transpose,
            b_transpose,
            a_stride: 1,
            acc_scale: Scale::IDENTITY,
            in_shift: 0,
            relu6_shift: 0,
            c_stride: 1,
        }))
    }

    /// CONFIG_LD of a channel: bytes between rows (0 repeats one row), factor, and whether int8 goes into the accumulator.
    ///
    /// # Errors
    /// See [`ProgramBuilder::emit`].
    pub fn config_ld(&mut self, channel: u8, stride: u64, scale: f32, shrink: bool) -> Result<(), KernelError> {
        self.emit(Command::ConfigLd(ConfigLd {
            shrink,
            state_id: channel,
            pixel_repeats: 1,
            block_stride: self.dim() as u16,
            scale: scale.into(),
            stride,
        }))
    }

    /// CONFIG_ST without pooling, and the CONFIG_NORM commands that the activation needs.
    ///
    /// # Errors
    /// See [`ProgramBuilder::emit`].
    pub fn config_st(&mut self, stride: u64, scale: f32, activation: &Activation) -> Result<(), KernelError> {
        self.config_st_only(stride, scale, activation)?;
        activation.constants().into_iter().try_for_each(|norm| self.emit(Command::ConfigNorm(norm)))
    }

    /// CONFIG_ST alone; the constants of the activation stay.
    pub(crate) fn config_st_only(
        &mut self,
        stride: u64,
        scale: f32,
        activation: &Activation,
    ) -> Result<(), KernelError> {
        let stride = u32::try_from(stride).map_err(|_| KernelError::Parameter {
            operation: self.operation.clone(),
            what: format!("{stride} bytes from one row of the result to the next do not fit config_st's 32 bits"),
        })?;
        self.emit(Command::ConfigSt(ConfigSt {
            activation: activation.two_bits(),
            pool_stride: 0,
            pool_size: 0,
            upad: 0,
            lpad: 0,
            pool_out_dim: 0,
            porows: 0,
            pocols: 0,
            orows: 0,
            ocols: 0,
            stride,
            acc_scale: scale.into(),
        }))
    }

    /// CONFIG_NORM that only selects a statistics register.
    ///
    /// # Errors
    /// See [`ProgramBuilder::emit`].
    pub fn select_statistics(&mut self, id: u8) -> Result<(), KernelError> {
        self.emit(Command::ConfigNorm(ConfigNorm {
            norm_stats_id: id,
            act_msb: false,
            set_stats_id_only: true,
            q_const_type: false,
            q_const: 0,
            qb: 0,
            qc: 0,
        }))
    }

    /// MVIN, MVIN2 or MVIN3 by channel, of a part of `view`: `rows` x `cols` elements from (`row`, `col`) on. A channel of
    /// stride 0 fetches one row.
    ///
    /// # Errors
    /// See [`ProgramBuilder::emit`].
    pub fn mvin(
        &mut self,
        channel: u8,
        view: &View,
        [row, col]: [usize; 2],
        [rows, cols]: [usize; 2],
        local: LocalAddr,
    ) -> Result<(), KernelError> {
        let operands = MoveOperands { dram: view.at(row, col), local, cols: cols as u16, rows: rows as u16 };
        let fetched = if view.stride == 0 { 1 } else { rows };
        self.count(|s| s.bytes_in += (fetched * cols) as u64 * view.element.size());
        self.emit(match channel {
            0 => Command::Mvin(operands),
            1 => Command::Mvin2(operands),
            _ => Command::Mvin3(operands),
        })
    }

    /// MVOUT into a part of `view`: `rows` x `cols` elements from (`row`, `col`) on.
    ///
    /// # Errors
    /// See [`ProgramBuilder::emit`].
    pub fn mvout(
        &mut self,
        view: &View,
        [row, col]: [usize; 2],
        [rows, cols]: [usize; 2],
        local: LocalAddr,
    ) -> Result<(), KernelError> {
        if local.norm_cmd() == NormCmd::Reset {
            self.count(|s| s.bytes_out += (rows * cols) as u64 * view.element.size());
        }
        self.emit(Command::Mvout(MoveOperands { dram: view.at(row, col), local, cols: cols as u16, rows: rows as u16 }))
    }

    /// PRELOAD: the stationary operand and the destination of the next compute.
    ///
    /// # Errors
    /// See [`ProgramBuilder::emit`].
    pub fn preload(&mut self, d: Operand, c: Operand) -> Result<(), KernelError> {
        self.emit(Command::Preload(Preload {
            d: d.local,
            d_cols: d.cols as u16,
            d_rows: d.rows as u16,
            c: c.local,
            c_cols: c.cols as u16,
            c_rows: c.rows as u16,
        }))
    }

    /// COMPUTE_PRELOADED, or COMPUTE_ACCUMULATED without `flip`. `columns` of the result are counted as work.
    ///
    /// # Errors
    /// See [`ProgramBuilder::emit`].
    pub fn compute(&mut self, flip: bool, a: Operand, bd: Operand, columns: usize) -> Result<(), KernelError> {
        let operands = Compute {
            a: a.local,
            a_cols: a.cols as u16,
            a_rows: a.rows as u16,
            bd: bd.local,
            bd_cols: bd.cols as u16,
            bd_rows: bd.rows as u16,
        };
        self.count(|s| s.macs += (a.rows * a.cols * columns) as u64);
        self.emit(if flip { Command::ComputePreloaded(operands) } else { Command::ComputeAccumulated(operands) })
    }

    /// Loads a DIM x DIM block of zeros into the scratchpad, as [`ProgramBuilder::clear`] needs it, with channel 2.
    ///
    /// # Errors
    /// See [`ProgramBuilder::emit`].
    pub fn load_zeros(&mut self, local: LocalAddr) -> Result<(), KernelError> {
        let dim = self.dim() as u16;
        self.config_ld(2, 0, 1.0, false)?;
        self.emit(Command::Mvin3(MoveOperands { dram: 0, local, cols: dim, rows: dim }))
    }

    /// Writes zeros to `rows` accumulator rows (at most DIM), by a weight-stationary product of `zeros` in the scratchpad.
    /// (With a garbage A the array would make four rows only: `total_rows`, `ExecuteController.scala`.)
    ///
    /// Loads that follow wait for it. Loads do not wait for each other: the DMA may issue the requests of two loads in
    /// another order when the port is blocked (`translate_q`, `DMA.scala`), so a load that accumulates must not rely on an
    /// earlier load to have overwritten its rows.
    ///
    /// # Errors
    /// See [`ProgramBuilder::emit`].
    pub fn clear(&mut self, zeros: LocalAddr, local: LocalAddr, rows: usize) -> Result<(), KernelError> {
        let (garbage, dim) = (self.garbage(), self.dim());
        self.preload(Operand { local: zeros, rows: dim, cols: dim }, Operand { local, rows, cols: dim })?;
        self.compute(true, Operand { local: zeros, rows, cols: dim }, garbage, 0)
    }

    /// A whole DIM x DIM operand without contents: zeros, or keep what is there.
    pub fn garbage(&self) -> Operand {
        Operand { local: LocalAddr::GARBAGE, rows: self.dim(), cols: self.dim() }
    }

    /// The six commands of a LOOP_WS, in the order of Gemmini's software.
    ///
    /// # Errors
    /// See [`ProgramBuilder::emit`].
    pub fn loop_ws(&mut self, matmul: &LoopMatmul) -> Result<(), KernelError> {
        self.emit(Command::LoopWsBounds(matmul.bounds))?;
        self.emit(Command::LoopWsAddrsAb(matmul.ab))?;
        self.emit(Command::LoopWsAddrsDc(matmul.dc))?;
        self.emit(Command::LoopWsStridesAb(matmul.strides_ab))?;
        self.emit(Command::LoopWsStridesDc(matmul.strides_dc))?;
        self.emit(Command::LoopWs(matmul.run))
    }
}
