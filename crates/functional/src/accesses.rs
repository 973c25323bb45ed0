//! Accesses to main memory: which bytes each command touches, whether the program owns them, and whether the processor
//! may touch them. Addresses and extents only, no values, so that a program can be checked before any model runs it.
//!
//! Sources: `LoadController.scala`, `StoreController.scala` (`vaddr`, `pool_vaddr`), `DMA.scala`.

use std::ops::Range;

use pollux_isa::config::LOAD_STATES;
use pollux_isa::fields::{ConfigLd, ConfigSt, MoveOperands};
use pollux_isa::legality::Checker;
use pollux_isa::stream::StreamItem;
use pollux_isa::{AddressLayout, Command, GemminiConfig, RoccCommand, ValidConfig};
use pollux_memory::RangeSet;

use crate::machine::DRAM_MASK;
use crate::policy::{Access, Action, Diagnostic, ExecError, Issue, Monitor, Place, Policy};
use crate::unroll::{Accepted, Unroller};

/// Rows of main memory, one distance apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRows {
    /// Whether they are read or written.
    pub access: Access,
    /// First byte of the first row.
    pub address: u64,
    /// Bytes from row to row.
    pub stride: u64,
    /// Number of rows.
    pub rows: u32,
    /// Bytes of a row.
    pub bytes: u64,
}

impl MemoryRows {
    /// The first byte of each row; the accelerator keeps so many bits of an address as its core.
    pub fn addresses(self) -> impl Iterator<Item = u64> {
        (0..u64::from(self.rows)).map(move |row| self.address.wrapping_add(self.stride.wrapping_mul(row)) & DRAM_MASK)
    }

    /// The addresses from the first row to the last, if they do not wrap around.
    pub fn span(self) -> Option<Range<u64>> {
        let first = self.address & DRAM_MASK;
        let last = self.stride.checked_mul(u64::from(self.rows).checked_sub(1)?)?.checked_add(first)?;
        let end = last.checked_add(self.bytes)?;
        (end <= DRAM_MASK + 1).then_some(first..end)
    }
}

/// A load channel's registers that decide on addresses.
#[derive(Clone, Copy, Debug, Default)]
struct Channel {
    stride: u64,
    shrink: bool,
}

/// Follows the registers that decide which bytes of main memory a command touches.
#[derive(Clone, Debug)]
pub struct AccessWalk {
    channels: [Channel; LOAD_STATES],
    /// With the geometry that counts, which a later CONFIG_ST may leave as it is.
    store: ConfigSt,
    layout: AddressLayout,
    dim: u16,
    input_bytes: u64,
    acc_bytes: u64,
    has_max_pool: bool,
    has_normalizations: bool,
}

impl AccessWalk {
    /// After reset.
    pub fn new(config: &GemminiConfig) -> Self {
        Self {
            channels: [Channel::default(); LOAD_STATES],
            store: ConfigSt::from_regs(config, 0, 0),
            layout: config.layout(),
            dim: config.dim() as u16,
            input_bytes: config.input_type.bytes().into(),
            acc_bytes: config.acc_type.bytes().into(),
            has_max_pool: config.has_max_pool,
            has_normalizations: config.has_normalizations,
        }
    }

    /// The rows that a command which is not a loop touches, in order. `host` is the host's command, and nothing is a
    /// command whose function does not exist.
    ///
    /// # Errors
    /// Those of `visit`.
    pub fn command<E>(
        &mut self,
        config: &GemminiConfig,
        command: Option<&Command>,
        host: &RoccCommand,
        visit: &mut impl FnMut(MemoryRows) -> Result<(), E>,
    ) -> Result<(), E> {
        let operands = || MoveOperands::from_regs(config, host.rs1, host.rs2);
        match command {
            Some(Command::ConfigLd(f)) => self.config_ld(f),
            Some(Command::ConfigSt(f)) => self.config_st(f),
            Some(Command::Mvin(f)) => return self.load(0, f, visit),
            Some(Command::Mvin2(f)) => return self.load(1, f, visit),
            Some(Command::Mvin3(f)) => return self.load(2, f, visit),
            Some(Command::Mvout(f)) => return self.store(f, visit),
            // Without normalization units the store controller takes this command for an MVOUT.
            Some(Command::ConfigNorm(_)) if !self.has_normalizations => return self.store(&operands(), visit),
            // Without assertions a function that does not exist is a load.
            None => return self.load(0, &operands(), visit),
            Some(_) => {}
        }
        Ok(())
    }

    fn config_ld(&mut self, f: &ConfigLd) {
        if let Some(channel) = self.channels.get_mut(usize::from(f.state_id)) {
            *channel = Channel { stride: f.stride, shrink: f.shrink };
        }
    }

    fn config_st(&mut self, f: &ConfigSt) {
        let ConfigSt { porows, pocols, orows, ocols, pool_out_dim, .. } = self.store;
        self.store = *f;
        if f.pool_stride == 0 {
            (self.store.porows, self.store.pocols) = (porows, pocols);
            if f.pool_size == 0 {
                (self.store.orows, self.store.ocols, self.store.pool_out_dim) = (orows, ocols, pool_out_dim);
            }
        }
    }

    fn load<E>(
        &self,
        channel: usize,
        f: &MoveOperands,
        visit: &mut impl FnMut(MemoryRows) -> Result<(), E>,
    ) -> Result<(), E> {
        let Channel { stride, shrink } = self.channels[channel];
        // Zeros come from nowhere.
        if f.dram == 0 || f.rows == 0 || f.cols == 0 {
            return Ok(());
        }
        let element = if f.local.is_acc() && !shrink { self.acc_bytes } else { self.input_bytes };
        // One row is fetched and repeated.
        let rows = if stride == 0 { 1 } else { f.rows.into() };
        visit(MemoryRows { access: Access::Read, address: f.dram, stride, rows, bytes: u64::from(f.cols) * element })
    }

    fn store<E>(&self, f: &MoveOperands, visit: &mut impl FnMut(MemoryRows) -> Result<(), E>) -> Result<(), E> {
        // Garbage is stored as zeros, whatever its other bits say.
        let accumulator = f.local.is_acc() && !f.local.is_garbage(self.layout);
        let full = accumulator && f.local.read_full();
        let to_statistics = accumulator && self.has_normalizations && !f.local.norm_cmd().writes_to_main_memory();
        if f.cols == 0 || to_statistics {
            return Ok(());
        }
        let row_bytes = |cols: u16| u64::from(cols) * if full { self.acc_bytes } else { self.input_bytes };
        let ConfigSt { pool_stride, pool_size, pool_out_dim, porows, pocols, orows, ocols, stride, .. } = self.store;
        let stride = u64::from(stride);
        let image = match (pool_stride, pool_size) {
            (steps, size) if self.has_max_pool && steps != 0 => (size != 0).then_some((porows, pocols)),
            (_, size) if size != 0 => Some((orows, ocols)),
            _ => {
                let (access, address, rows) = (Access::Write, f.dram, f.rows.into());
                return visit(MemoryRows { access, address, stride, rows, bytes: row_bytes(f.cols) });
            }
        };
        let Some((rows, cols)) = image.filter(|(_, cols)| *cols != 0) else { return Ok(()) };
        let bytes = row_bytes(f.cols.min(self.dim));
        for row in 0..u64::from(rows) {
            let address = f.dram.wrapping_add((row * u64::from(pool_out_dim)).wrapping_mul(stride));
            visit(MemoryRows { access: Access::Write, address, stride, rows: cols.into(), bytes })?;
        }
        Ok(())
    }
}

/// Reports rows that reach beyond the addresses of the port, and rows of which some bytes are in no mapped range, if any
/// range is mapped.
pub(crate) fn report_rows(
    paddr_bits: u32,
    mapped: &RangeSet,
    rows: MemoryRows,
    monitor: &mut Monitor,
) -> Result<(), ExecError> {
    let end = 1u64 << paddr_bits;
    let first_missing = |span: &Range<u64>| {
        if mapped.is_empty() { None } else { mapped.first_missing(span.start, span.end - span.start) }
    };
    // Usually all rows lie in one buffer, with what is between them.
    if rows.span().is_some_and(|span| span.end <= end && first_missing(&span).is_none()) {
        return Ok(());
    }
    let MemoryRows { access, bytes, .. } = rows;
    for address in rows.addresses() {
        let physical = address & (end - 1);
        let head = bytes.min(end - physical);
        if physical != address || head < bytes {
            monitor.report(Issue::AddressCut { access, address, bytes, bits: paddr_bits, physical })?;
        }
        for part in [physical..physical + head, 0..bytes - head] {
            if !part.is_empty()
                && let Some(first_unmapped) = first_missing(&part)
            {
                let (address, bytes) = (part.start, part.end - part.start);
                monitor.report(Issue::UnmappedDram { access, address, bytes, first_unmapped })?;
            }
        }
    }
    Ok(())
}

/// What [`check_accesses`] found that the policy lets pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessWarnings {
    /// The first of them, at most [`Policy::max_warnings`].
    pub kept: Vec<Diagnostic>,
    /// All of them.
    pub count: u64,
}

/// Checks all accesses of a stream to main memory, loops included, in time linear in the commands: that they stay in the
/// ranges that the program owns (not looked at if it owns none), and that the processor does not write bytes which the
/// accelerator may still have to read or write, because there was no fence since the command.
///
/// What is found depends on neither model: both run the program only if this lets it pass.
///
/// # Errors
/// The first finding that the policy makes an error ([`Policy::unmapped_dram`], [`Policy::race`]).
pub fn check_accesses(
    config: &GemminiConfig,
    mapped: &RangeSet,
    items: &[StreamItem],
    policy: Policy,
) -> Result<AccessWarnings, ExecError> {
    let mut checker = StreamChecker {
        config,
        mapped,
        walk: AccessWalk::new(config),
        races: Races::default(),
        monitor: Monitor::new(policy),
    };
    if (policy.unmapped_dram, policy.race) != (Action::Ignore, Action::Ignore) {
        checker.run(items)?;
    }
    let (kept, count) = checker.monitor.into_warnings();
    Ok(AccessWarnings { kept, count })
}

struct StreamChecker<'a> {
    config: &'a GemminiConfig,
    mapped: &'a RangeSet,
    walk: AccessWalk,
    races: Races,
    monitor: Monitor,
}

impl StreamChecker<'_> {
    fn run(&mut self, items: &[StreamItem]) -> Result<(), ExecError> {
        let mut unroller = Unroller::new(self.config);
        let mut commands = 0;
        self.races.begin(items);
        for (position, item) in items.iter().enumerate() {
            match item {
                StreamItem::Command(command) => {
                    self.monitor.begin_command(commands, *command);
                    commands += 1;
                    self.command(&mut unroller, command)?;
                }
                StreamItem::Write { address, bytes } => {
                    self.races.write(*address, bytes.len() as u64, commands, &mut self.monitor)?;
                }
                StreamItem::Fence => self.races.begin(&items[position + 1..]),
                StreamItem::Wait(_) | StreamItem::Mark(_) => {}
            }
        }
        Ok(())
    }

    fn command(&mut self, unroller: &mut Unroller, command: &RoccCommand) -> Result<(), ExecError> {
        let Self { config, mapped, walk, races, monitor } = self;
        rows_of(config, unroller, walk, monitor, command, &mut |rows, monitor| {
            report_rows(config.paddr_bits, mapped, rows, monitor)?;
            races.access(rows, monitor);
            Ok(())
        })
    }
}

/// Gives the rows that a command of the host touches, loops unrolled, to `visit`.
fn rows_of(
    config: &GemminiConfig,
    unroller: &mut Unroller,
    walk: &mut AccessWalk,
    monitor: &mut Monitor,
    command: &RoccCommand,
    visit: &mut impl FnMut(MemoryRows, &mut Monitor) -> Result<(), ExecError>,
) -> Result<(), ExecError> {
    let mut primitive = |primitive: Option<&Command>, monitor: &mut Monitor| {
        walk.command(config, primitive, command, &mut |rows| visit(rows, monitor))
    };
    let Some(decoded) = Command::from_rocc(config, *command) else { return primitive(None, monitor) };
    match unroller.accept(&decoded) {
        Accepted::PassedThrough => primitive(Some(&decoded), monitor),
        Accepted::Configured | Accepted::NeverCompletes => Ok(()),
        Accepted::Loop(unrolled) => {
            // No legal loop is longer; the models say what they make of one.
            let limit = monitor.max_loop_commands() as usize;
            for (step, unrolled) in (0..).zip(unrolled.take(limit)) {
                monitor.begin_step(step, unrolled.command);
                primitive(Some(&unrolled.command), monitor)?;
            }
            Ok(())
        }
    }
}

/// Checks a stream command by command as it is sent: what is illegal, and accesses to main memory that is not there. A model with
/// time asks it, as nobody knows what comes next. Rows never written and races need more than that.
#[derive(Clone, Debug)]
pub struct CommandMonitor {
    config: ValidConfig,
    mapped: RangeSet,
    checker: Checker,
    unroller: Unroller,
    walk: AccessWalk,
    monitor: Monitor,
    commands: u64,
}

impl CommandMonitor {
    /// A stream from reset on, for a program with memory at these addresses.
    pub fn new(config: ValidConfig, mapped: RangeSet, policy: Policy) -> Self {
        Self {
            checker: Checker::new(&config),
            unroller: Unroller::new(&config),
            walk: AccessWalk::new(&config),
            monitor: Monitor::new(policy),
            config,
            mapped,
            commands: 0,
        }
    }

    /// Checks the next command.
    ///
    /// # Errors
    /// What the policy makes an error.
    pub fn check(&mut self, command: &RoccCommand) -> Result<(), ExecError> {
        let Self { config, mapped, checker, unroller, walk, monitor, commands } = self;
        monitor.begin_command(*commands, *command);
        *commands += 1;
        if monitor.checks_legality() {
            for illegality in checker.check(*command) {
                monitor.report(Issue::Illegal(illegality))?;
            }
        }
        rows_of(config, unroller, walk, monitor, command, &mut |rows, monitor| {
            report_rows(config.paddr_bits, mapped, rows, monitor)
        })
    }

    /// What the policy made warnings, the first of them.
    pub fn warnings(&self) -> &[Diagnostic] {
        self.monitor.warnings()
    }

    /// The number of all warnings.
    pub fn warning_count(&self) -> u64 {
        self.monitor.warning_count()
    }
}

/// The accelerator's accesses since the last fence to bytes that the processor writes before the next one.
#[derive(Clone, Debug, Default)]
struct Races {
    /// What the processor writes between the two fences.
    writes: RangeSet,
    /// Rows that the accelerator touches of it.
    touched: RangeSet,
    /// The same rows with their commands.
    rows: Vec<(Range<u64>, Access, Place)>,
}

impl Races {
    /// The accelerator is idle, and these items follow.
    fn begin(&mut self, items: &[StreamItem]) {
        *self = Self::default();
        for item in items.iter().take_while(|item| **item != StreamItem::Fence) {
            if let StreamItem::Write { address, bytes } = item {
                self.writes.add(*address..address.saturating_add(bytes.len() as u64));
            }
        }
    }

    fn access(&mut self, rows: MemoryRows, monitor: &Monitor) {
        if self.writes.is_empty() || rows.span().is_some_and(|span| !self.writes.overlaps(&span)) {
            return;
        }
        for address in rows.addresses() {
            let row = address..address.saturating_add(rows.bytes);
            if self.writes.overlaps(&row) {
                self.touched.add(row.clone());
                self.rows.push((row, rows.access, monitor.place()));
            }
        }
    }

    fn write(&self, address: u64, bytes: u64, after: u64, monitor: &mut Monitor) -> Result<(), ExecError> {
        let range = address..address.saturating_add(bytes);
        if !self.touched.overlaps(&range) {
            return Ok(());
        }
        let shared = |row: &Range<u64>| row.start.max(range.start) < row.end.min(range.end);
        // Where the warnings are only counted, any row will do.
        let found = self.rows.iter().find(|(row, ..)| monitor.only_counts() || shared(row));
        match found {
            Some((row, access, place)) => {
                let issue = Issue::Race { access: *access, address: row.start.max(address), after };
                monitor.report_at(place.clone(), issue)
            }
            None => Ok(()),
        }
    }
}
