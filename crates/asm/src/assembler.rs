//! The assembler: executes the statements of a text, which leaves a program.
//!
//! Statements are executed in order, so every name must be declared above its use. An error ends its statement only;
//! names whose declaration failed are remembered, so that one mistake is reported once.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pollux_isa::table::INSTRUCTIONS;
use pollux_isa::{GemminiConfig, LocalAddr, StreamItem, ValidConfig};
use pollux_memory::RangeSet;

use crate::ast::{
    Block, BufferStatement, ConfigSource, Data, Expr, Macro, Name, Operand, Parameter, RegionStatement,
    RepeatStatement, Statement, StatementKind, Text, TypeExpr, WriteStatement,
};
use crate::diagnostic::{Diagnostics, Fault, MAX_FAULTS};
use crate::expression::BUILTINS;
use crate::parser::{KEYWORDS, Parser};
use crate::program::{Buffer, ElementType, LocalRegion, MAX_RANK, Program};
use crate::source::{self, Disk, Files, Sources, Span, resolve};
use crate::suggest::did_you_mean;
use crate::value::{Value, memory_of};

/// Address of the first buffer that has none of its own; where DRAM begins on RISC-V platforms.
pub const FIRST_BUFFER_ADDRESS: u64 = 0x8000_0000;

/// Longest text of one file, in bytes.
const MAX_TEXT: u64 = 1 << 30;
/// Levels of includes, macros and blocks in execution.
const MAX_DEPTH: usize = 64;
/// Constants, indices and parameters that a block sees, at most: each name is looked for among them.
const MAX_LOCALS: usize = 1024;

/// Parts of expressions whose evaluation counts as one step.
const STEP_PARTS: u64 = 16;

/// What an assembly may use, so that a faulty loop ends with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Statements and data elements evaluated.
    pub steps: u64,
    /// Items of the program.
    pub items: usize,
    /// Bytes of initial and expected data and of writes.
    pub data: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { steps: 1 << 26, items: 1 << 24, data: 1 << 30 }
    }
}

/// Assembles text with choices other than those of [`assemble`].
pub struct Assembler<'a> {
    files: &'a dyn Files,
    config: Option<ValidConfig>,
    limits: Limits,
}

impl Default for Assembler<'_> {
    fn default() -> Self {
        Self { files: &Disk, config: None, limits: Limits::default() }
    }
}

impl<'a> Assembler<'a> {
    /// Reads included files, configurations and data from there.
    pub fn with_files(self, files: &'a dyn Files) -> Self {
        Self { files, ..self }
    }

    /// Uses this configuration for a text without a `config` directive.
    pub fn with_default_config(self, config: ValidConfig) -> Self {
        Self { config: Some(config), ..self }
    }

    /// Stops at these limits.
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Assembles a text. Paths in it are relative to the folder of `name`.
    ///
    /// # Errors
    /// All errors found.
    pub fn assemble(&self, name: &str, text: &str) -> Result<Program, Diagnostics> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if let Err(reason) = source::without_control(text.as_bytes()) {
            return Err(Diagnostics::not_text(name, &reason));
        }
        if text.len() as u64 > MAX_TEXT {
            let reason = format!("it has {} bytes, and a text has at most {MAX_TEXT}", text.len());
            return Err(Diagnostics::unreadable(name.to_owned(), &reason));
        }
        let mut state = Assembly::new(self);
        state.includes.push(resolve("", name));
        // An error ends the run early; it has been reported.
        let _ = state.text(name.to_owned(), text.into());
        state.finish()
    }

    /// Assembles a file.
    ///
    /// # Errors
    /// The file cannot be read, or all errors found in it.
    pub fn assemble_file(&self, path: &Path) -> Result<Program, Diagnostics> {
        let name = path.display().to_string();
        match self.files.read(path, MAX_TEXT) {
            Ok(contents) => self.assemble_contents(&name, contents),
            Err(error) => Err(Diagnostics::unreadable(name, &error.to_string())),
        }
    }

    /// Assembles the contents of a file that has been read already.
    ///
    /// # Errors
    /// The contents are not text, or all errors found in it.
    pub fn assemble_contents(&self, name: &str, contents: Vec<u8>) -> Result<Program, Diagnostics> {
        match source::text(contents) {
            Ok(text) => self.assemble(name, &text),
            Err(reason) => Err(Diagnostics::not_text(name, &reason)),
        }
    }
}

/// Assembles a text with files from the disk. Paths in it are relative to the folder of `name`.
///
/// ```
/// let program = pollux_asm::assemble("example.pasm", "
///     config small4
///     buffer A: i8[4, 4] = each i, j: i - j
///     spad a[4]
///     config_ld stride=A.stride
///     mvin dram=A local=a cols=DIM rows=DIM
/// ").unwrap();
/// assert_eq!(program.commands().count(), 2);
/// ```
///
/// # Errors
/// All errors found.
pub fn assemble(name: &str, text: &str) -> Result<Program, Diagnostics> {
    Assembler::default().assemble(name, text)
}

/// Assembles a file of the disk.
///
/// # Errors
/// The file cannot be read, or all errors found in it.
pub fn assemble_file(path: &Path) -> Result<Program, Diagnostics> {
    Assembler::default().assemble_file(path)
}

/// How far an error reaches. It has been reported, or follows from one that has been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Abort {
    /// To the end of the statement.
    Statement,
    /// To the end of the assembly.
    Assembly,
}

pub(crate) type Eval<T> = Result<T, Abort>;

/// What a name stands for outside of blocks.
#[derive(Debug, Clone)]
pub(crate) enum Symbol {
    Const(Value),
    /// Index into the buffers.
    Buffer(usize),
    /// Index into the regions.
    Region(usize),
    Macro(Arc<Macro>),
    /// Its declaration is wrong.
    Broken,
}

/// The state of an assembly.
pub(crate) struct Assembly<'a> {
    pub files: &'a dyn Files,
    default_config: Option<ValidConfig>,
    limits: Limits,

    pub sources: Sources,
    faults: Vec<Fault>,
    /// Places that have an error already: in a loop, one is enough.
    reported: HashSet<Span>,

    config: Option<(Arc<ValidConfig>, Span)>,
    pub symbols: HashMap<Arc<str>, (Symbol, Span)>,
    /// Loop indices, parameters and constants of blocks, innermost last.
    pub locals: Vec<(Name, Value)>,
    /// Where the current macro's locals begin.
    pub frame: usize,
    /// Blocks that are being executed.
    blocks: usize,
    /// Uses of macros that are being executed.
    calls: Vec<Name>,
    includes: Vec<PathBuf>,

    pub buffers: Vec<Buffer>,
    /// Addresses that buffers have, and the highest end of one.
    used: RangeSet,
    buffers_end: Option<u64>,
    pub regions: Vec<LocalRegion>,
    /// The row behind all regions of the scratchpad and of the accumulator.
    regions_end: [u64; 2],
    items: Vec<StreamItem>,
    steps: u64,
    /// Parts of expressions evaluated since the last step was counted for them.
    parts: u64,
    data: u64,
}

/// Errors and limits.
impl<'a> Assembly<'a> {
    fn new(assembler: &Assembler<'a>) -> Self {
        Self {
            files: assembler.files,
            default_config: assembler.config.clone(),
            limits: assembler.limits,
            sources: Sources::default(),
            faults: Vec::new(),
            reported: HashSet::new(),
            config: None,
            symbols: HashMap::new(),
            locals: Vec::new(),
            frame: 0,
            blocks: 0,
            calls: Vec::new(),
            includes: Vec::new(),
            buffers: Vec::new(),
            used: RangeSet::default(),
            buffers_end: None,
            regions: Vec::new(),
            regions_end: [0; 2],
            items: Vec::new(),
            steps: 0,
            parts: 0,
            data: 0,
        }
    }

    fn finish(mut self) -> Result<Program, Diagnostics> {
        if self.faults.is_empty() {
            let start = Span { source: 0, start: 0, end: 0 };
            if let Ok(config) = self.config(start) {
                let config = Arc::unwrap_or_clone(config);
                return Ok(Program { config, buffers: self.buffers, regions: self.regions, items: self.items });
            }
        }
        self.faults.truncate(MAX_FAULTS);
        self.faults.sort_by_key(|fault| (fault.span.source, fault.span.start));
        Err(Diagnostics(self.faults.into_iter().map(|fault| fault.finish(&self.sources)).collect()))
    }

    /// Records an error with its context.
    pub fn report(&mut self, mut fault: Fault) -> Abort {
        if self.reported.insert(fault.span) {
            let values: Vec<String> = self.locals[self.frame..].iter().filter_map(local_text).collect();
            if !values.is_empty() {
                fault = fault.help(format!("here {}", values.join(", ")));
            }
            for call in self.calls.iter().rev().take(3) {
                fault = fault.also(call.span, format!("in this use of `{}`", call.text));
            }
            self.faults.push(fault);
        }
        if self.faults.len() < MAX_FAULTS { Abort::Statement } else { Abort::Assembly }
    }

    /// Whether the place has an error already, so that no other one is worth the work.
    pub fn is_reported(&self, span: Span) -> bool {
        self.reported.contains(&span)
    }

    /// Counts steps of work.
    pub fn step(&mut self, steps: u64, span: Span) -> Eval<()> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps <= self.limits.steps {
            return Ok(());
        }
        let message = format!("the program takes more than {} steps to assemble", self.limits.steps);
        self.report(Fault::new(span, message).label("reached here").help("is a `repeat` too long?"));
        Err(Abort::Assembly)
    }

    /// Counts parts of an expression; so many of them are a step, since a statement or element is usually short.
    pub fn parts(&mut self, parts: usize, span: Span) -> Eval<()> {
        self.parts += parts as u64;
        if self.parts < STEP_PARTS {
            return Ok(());
        }
        let steps = std::mem::take(&mut self.parts) / STEP_PARTS;
        self.step(steps, span)
    }

    /// Counts bytes of data.
    pub fn reserve(&mut self, bytes: u64, span: Span) -> Eval<()> {
        self.data = self.data.saturating_add(bytes);
        if self.data <= self.limits.data {
            return Ok(());
        }
        let message = format!(
            "the program's data need {} bytes with these {bytes}; it may have {} at most",
            self.data, self.limits.data
        );
        self.report(Fault::new(span, message).help("a buffer without data takes no space"));
        Err(Abort::Assembly)
    }

    /// Appends an item to the program.
    pub fn emit(&mut self, item: StreamItem, span: Span) -> Eval<()> {
        if self.items.len() < self.limits.items {
            self.items.push(item);
            return Ok(());
        }
        self.report(Fault::new(span, format!("the program has more than {} items", self.limits.items)));
        Err(Abort::Assembly)
    }

    /// The configuration, which from now on is fixed.
    pub fn config(&mut self, user: Span) -> Eval<Arc<ValidConfig>> {
        if let Some((config, _)) = &self.config {
            return Ok(config.clone());
        }
        let default = self.default_config.take();
        let missing = default.is_none();
        // After the error, the generator's default lets the rest be checked.
        let config = Arc::new(default.unwrap_or_default());
        self.config = Some((config.clone(), user));
        if missing {
            let help = format!("begin with `config NAME`; the names are {}", GemminiConfig::NAMES.join(", "));
            return Err(self.report(Fault::new(user, "the program does not say its configuration").help(help)));
        }
        Ok(config)
    }
}

fn local_text((name, value): &(Name, Value)) -> Option<String> {
    match value {
        // Large numbers are addresses.
        Value::Int(value) if *value > 0xffff => Some(format!("{} = {value:#x}", name.text)),
        Value::Int(value) => Some(format!("{} = {value}", name.text)),
        Value::Float(value) => Some(format!("{} = {value}", name.text)),
        _ => None,
    }
}

/// Statements.
impl Assembly<'_> {
    fn text(&mut self, name: String, text: Arc<str>) -> Eval<()> {
        let source = self.sources.add(name, text.clone());
        let mut parser = Parser::new(source, &text);
        loop {
            let statement = parser.next_statement();
            self.faults.extend(parser.take_faults());
            if self.faults.len() >= MAX_FAULTS {
                return Err(Abort::Assembly);
            }
            let Some(statement) = statement else { return Ok(()) };
            if let Err(Abort::Assembly) = self.statement(&statement) {
                return Err(Abort::Assembly);
            }
        }
    }

    fn block(&mut self, block: &Block) -> Eval<()> {
        for statement in block {
            if let Err(Abort::Assembly) = self.statement(statement) {
                return Err(Abort::Assembly);
            }
        }
        Ok(())
    }

    /// Executes statements whose constants are their own.
    fn inner_block(&mut self, block: &Block, span: Span) -> Eval<()> {
        if self.blocks == MAX_DEPTH {
            return Err(self.report(Fault::new(span, format!("blocks and macros are more than {MAX_DEPTH} deep"))));
        }
        let locals = self.locals.len();
        self.blocks += 1;
        let result = self.block(block);
        self.blocks -= 1;
        self.locals.truncate(locals);
        result
    }

    fn statement(&mut self, statement: &Statement) -> Eval<()> {
        let span = statement.span;
        self.step(1, span)?;
        match &statement.kind {
            StatementKind::Config(source) => self.config_statement(source, span),
            StatementKind::Include(path) => self.include(path),
            StatementKind::Const(constant) => self.constant(&constant.0, &constant.1),
            StatementKind::Buffer(buffer) => self.buffer(buffer),
            StatementKind::Expect(expect) => self.expect(&expect.0, &expect.1),
            StatementKind::Region(region) => self.region(region),
            StatementKind::Macro(definition) => self.macro_definition(definition),
            StatementKind::Repeat(repeat) => self.repeat(repeat, span),
            StatementKind::If(choice) => {
                let block = if self.int(&choice.condition)? != 0 { &choice.then } else { &choice.otherwise };
                self.inner_block(block, span)
            }
            StatementKind::Fence => self.emit(StreamItem::Fence, span),
            StatementKind::Wait(cycles) => {
                let cycles = self.unsigned(cycles, "a number of cycles")?;
                self.emit(StreamItem::Wait(cycles), span)
            }
            StatementKind::Mark(name) => self.emit(StreamItem::Mark(name.value.clone()), span),
            StatementKind::Write(write) => self.write(write, span),
            StatementKind::Invoke(name, operands) => self.invoke(name, operands, span),
            StatementKind::Broken(name) => {
                if let Some(name) = name {
                    self.symbols.entry(name.text.clone()).or_insert((Symbol::Broken, name.span));
                }
                Ok(())
            }
        }
    }

    fn config_statement(&mut self, source: &ConfigSource, span: Span) -> Eval<()> {
        if let Some((_, earlier)) = &self.config {
            let fault = Fault::new(span, "the configuration is already fixed").also(*earlier, "here, or by this use");
            return Err(self.report(fault.help("`config` stands once, before everything that depends on it")));
        }
        let (config, place) = match source {
            ConfigSource::Named(name) => (GemminiConfig::by_name(&name.text), name.span),
            ConfigSource::Toml(text) => (GemminiConfig::from_toml_str(&text.value), text.span),
            ConfigSource::File(path) => {
                let text = self.read_text(path)?;
                (GemminiConfig::from_toml_str(&text), path.span)
            }
        };
        let config = config.map_err(|error| {
            // Whatever it was meant to be, the generator's default lets the rest be checked.
            self.config = Some((Arc::new(ValidConfig::default()), span));
            let mut fault = Fault::new(place, error.to_string().trim_end().to_owned());
            if let ConfigSource::Named(name) = source {
                fault = fault.maybe_help(did_you_mean(&name.text, GemminiConfig::NAMES));
            }
            self.report(fault)
        })?;
        self.config = Some((Arc::new(config), span));
        Ok(())
    }

    /// The text of a file that the program names.
    fn read_text(&mut self, path: &Text) -> Eval<String> {
        let contents = self.read_file(path, MAX_TEXT)?;
        source::text(contents)
            .map_err(|reason| self.report(Fault::new(path.span, format!("`{}` is not text: {reason}", path.value))))
    }

    /// The contents of a file that the program names.
    pub fn read_file(&mut self, path: &Text, limit: u64) -> Eval<Vec<u8>> {
        let resolved = self.resolve(path);
        self.files.read(&resolved, limit).map_err(|error| {
            let missing = error.kind() == ErrorKind::NotFound;
            let help = missing.then(|| "paths are relative to the folder of this file".to_owned());
            let message = format!("cannot read `{}`: {error}", resolved.display());
            self.report(Fault::new(path.span, message).maybe_help(help))
        })
    }

    fn resolve(&self, path: &Text) -> PathBuf {
        resolve(&self.sources.get(path.span.source).name, &path.value)
    }

    fn include(&mut self, path: &Text) -> Eval<()> {
        let resolved = self.resolve(path);
        if self.includes.contains(&resolved) {
            let chain: Vec<String> = self.includes.iter().map(|path| path.display().to_string()).collect();
            let fault = Fault::new(path.span, format!("`{}` includes itself", resolved.display()));
            return Err(self.report(fault.help(format!("the open files are {}", chain.join(" > ")))));
        }
        if self.includes.len() == MAX_DEPTH {
            return Err(self.report(Fault::new(path.span, format!("includes are more than {MAX_DEPTH} deep"))));
        }
        let text = self.read_text(path)?;
        let name = resolved.display().to_string();
        self.includes.push(resolved);
        let result = self.text(name, text.into());
        self.includes.pop();
        result
    }

    fn constant(&mut self, name: &Name, value: &Expr) -> Eval<()> {
        let value = self.eval(value);
        if self.blocks > 0 {
            return self.bind(name, value?);
        }
        let symbol = value.map_or(Symbol::Broken, Symbol::Const);
        self.declare(name, symbol)?;
        value.map(|_| ())
    }

    /// Gives a name of the current block a value.
    pub fn bind(&mut self, name: &Name, value: Value) -> Eval<()> {
        let earlier = self.locals[self.frame..].iter().find(|(local, _)| local.text == name.text);
        if let Some(span) = earlier.map(|(local, _)| local.span) {
            return Err(self.redeclared(name, span));
        }
        if self.locals.len() - self.frame == MAX_LOCALS {
            let message = format!("a block has more than {MAX_LOCALS} constants, indices and parameters");
            self.report(Fault::new(name.span, message));
            return Err(Abort::Assembly);
        }
        self.locals.push((name.clone(), value));
        Ok(())
    }

    fn redeclared(&mut self, name: &Name, earlier: Span) -> Abort {
        let fault = Fault::new(name.span, format!("`{}` is declared twice", name.text)).label("again here");
        self.report(fault.also(earlier, "declared here"))
    }

    fn declare(&mut self, name: &Name, symbol: Symbol) -> Eval<()> {
        if !name.quoted && BUILTINS.iter().any(|builtin| builtin.name == &*name.text) {
            let message = format!("`{}` is a name of the language", name.text);
            return Err(self.report(Fault::new(name.span, message).help("choose another name")));
        }
        if let Some((_, earlier)) = self.symbols.get(&name.text) {
            let earlier = *earlier;
            return Err(self.redeclared(name, earlier));
        }
        self.symbols.insert(name.text.clone(), (symbol, name.span));
        Ok(())
    }

    /// Declares the result of a declaration's evaluation, or that it failed.
    fn declare_result<T>(
        &mut self,
        name: &Name,
        result: Eval<T>,
        add: impl FnOnce(&mut Self, T) -> Symbol,
    ) -> Eval<()> {
        match result {
            Err(abort) => {
                self.symbols.entry(name.text.clone()).or_insert((Symbol::Broken, name.span));
                Err(abort)
            }
            Ok(value) => {
                self.declare(name, Symbol::Broken)?;
                let symbol = add(self, value);
                self.symbols.insert(name.text.clone(), (symbol, name.span));
                Ok(())
            }
        }
    }

    fn macro_definition(&mut self, definition: &Arc<Macro>) -> Eval<()> {
        let name = &definition.name;
        let taken = KEYWORDS.contains(&&*name.text) || INSTRUCTIONS.iter().any(|spec| spec.mnemonic == &*name.text);
        if taken {
            return Err(self.report(Fault::new(name.span, format!("`{}` is a word of the language", name.text))));
        }
        self.declare(name, Symbol::Macro(definition.clone()))?;
        for (index, parameter) in definition.parameters.iter().enumerate() {
            let earlier = &definition.parameters[..index];
            if let Some(earlier) = earlier.iter().find(|earlier| earlier.name.text == parameter.name.text) {
                self.symbols.insert(name.text.clone(), (Symbol::Broken, name.span));
                return Err(self.redeclared(&parameter.name, earlier.name.span));
            }
        }
        Ok(())
    }

    fn repeat(&mut self, repeat: &RepeatStatement, span: Span) -> Eval<()> {
        let first = repeat.first.as_ref().map_or(Ok(0), |first| self.int(first))?;
        let end = self.int(&repeat.end)?;
        let step = repeat.step.as_ref().map_or(Ok(1), |step| self.int(step))?;
        if let Some(expr) = &repeat.step
            && step <= 0
        {
            return Err(self.report(Fault::new(expr.span, format!("the step is {step}: it must be at least 1"))));
        }
        let mut index = first;
        while index < end {
            self.step(1, span)?;
            let locals = self.locals.len();
            if let Some(name) = &repeat.index {
                self.bind(name, Value::Int(index))?;
            }
            let result = self.inner_block(&repeat.body, span);
            self.locals.truncate(locals);
            result?;
            index = index.saturating_add(step);
        }
        Ok(())
    }

    fn write(&mut self, WriteStatement { address, ty, data }: &WriteStatement, span: Span) -> Eval<()> {
        let place = address.span;
        let address = self.unsigned(address, "an address")?;
        let (element, shape) = self.type_value(ty)?;
        let bytes = self.bytes(data, element, &shape, ty.span)?;
        if address.checked_add(bytes.len() as u64).is_none() {
            return Err(self.report(Fault::new(place, "the write reaches beyond the 64-bit address space")));
        }
        self.emit(StreamItem::Write { address, bytes }, span)
    }
}

/// Buffers and regions.
impl Assembly<'_> {
    pub fn type_value(&mut self, ty: &TypeExpr) -> Eval<(ElementType, Vec<u64>)> {
        let names = ElementType::ALL.map(ElementType::name);
        let unknown = || {
            let fault = Fault::new(ty.element.span, format!("there is no element type `{}`", ty.element.text));
            fault.help(format!("the element types are {}", names.join(" and ")))
        };
        let element = ElementType::by_name(&ty.element.text).ok_or_else(|| self.report(unknown()))?;
        if ty.shape.len() > MAX_RANK {
            return Err(self.report(Fault::new(ty.span, format!("a shape has at most {MAX_RANK} extents"))));
        }
        let shape = ty.shape.iter().map(|extent| self.unsigned(extent, "an extent")).collect::<Eval<_>>()?;
        Ok((element, shape))
    }

    fn buffer(&mut self, statement: &BufferStatement) -> Eval<()> {
        let buffer = self.placed_buffer(statement);
        self.declare_result(&statement.name, buffer, |assembly, buffer| {
            assembly.used.add(buffer.range());
            assembly.buffers_end = assembly.buffers_end.max(Some(buffer.range().end));
            assembly.buffers.push(buffer);
            Symbol::Buffer(assembly.buffers.len() - 1)
        })
    }

    fn placed_buffer(&mut self, statement: &BufferStatement) -> Eval<Buffer> {
        let name = statement.name.text.to_string();
        let (element, shape) = self.type_value(&statement.ty)?;
        let address = match &statement.place {
            Some(place) => self.unsigned(place, "an address")?,
            None => self.next_address(statement.name.span)?,
        };
        let mut buffer = Buffer { name, address, element, shape, data: None, expected: None };
        if buffer.checked_len().is_none() {
            let message = "the buffer reaches beyond the 64-bit address space";
            return Err(self.report(Fault::new(statement.ty.span, message)));
        }
        let shares = |other: &&Buffer| {
            let (a, b) = (other.range(), buffer.range());
            a.start.max(b.start) < a.end.min(b.end)
        };
        if !statement.overlay
            && self.used.overlaps(&buffer.range())
            && let Some(other) = self.buffers.iter().find(shares)
        {
            let message = format!("the buffer shares memory with `{}`", other.name);
            let place = statement.place.as_ref().map_or(statement.name.span, |place| place.span);
            let mut fault = Fault::new(place, message).help("write `overlay` behind the address if that is intended");
            if let Some((_, span)) = self.symbols.get(other.name.as_str()) {
                fault = fault.also(*span, format!("at {:#x} to {:#x}", other.address, other.range().end));
            }
            return Err(self.report(fault));
        }
        if let Some(data) = &statement.data {
            buffer.data = Some(self.bytes(data, element, &buffer.shape, statement.ty.span)?);
        }
        Ok(buffer)
    }

    /// The first aligned address behind all buffers.
    fn next_address(&mut self, user: Span) -> Eval<u64> {
        let alignment = u64::from(self.config(user)?.dma_maxbytes).max(1);
        let address = self.buffers_end.unwrap_or(FIRST_BUFFER_ADDRESS).checked_next_multiple_of(alignment);
        address.ok_or_else(|| self.report(Fault::new(user, "no address is left behind the other buffers")))
    }

    fn expect(&mut self, name: &Name, data: &Data) -> Eval<()> {
        let index = match self.symbols.get(&name.text) {
            Some((Symbol::Buffer(index), _)) => *index,
            Some((Symbol::Broken, _)) => return Err(Abort::Statement),
            _ => {
                let names = self.buffers.iter().map(|buffer| buffer.name.as_str());
                let fault = Fault::new(name.span, format!("there is no buffer `{}`", name.text));
                let fault = fault.maybe_help(did_you_mean(&name.text, names));
                return Err(self.report(fault));
            }
        };
        let (element, shape) = (self.buffers[index].element, self.buffers[index].shape.clone());
        let bytes = self.bytes(data, element, &shape, name.span)?;
        if self.buffers[index].expected.is_some() {
            return Err(self.report(Fault::new(name.span, format!("`{}` already has expected contents", name.text))));
        }
        self.buffers[index].expected = Some(bytes);
        Ok(())
    }

    fn region(&mut self, statement: &RegionStatement) -> Eval<()> {
        let region = self.placed_region(statement);
        self.declare_result(&statement.name, region, |assembly, region| {
            let end = &mut assembly.regions_end[usize::from(region.accumulator)];
            *end = (*end).max(u64::from(region.row) + u64::from(region.rows));
            assembly.regions.push(region);
            Symbol::Region(assembly.regions.len() - 1)
        })
    }

    fn placed_region(&mut self, statement: &RegionStatement) -> Eval<LocalRegion> {
        let accumulator = statement.accumulator;
        let config = self.config(statement.name.span)?;
        let rows = self.unsigned(&statement.rows, "a number of rows")?;
        let row = match &statement.place {
            Some(place) => self.unsigned(place, "a row")?,
            None => self.regions_end[usize::from(accumulator)],
        };
        let (memory, memory_rows) = memory_of(config.layout(), accumulator);
        let end = row.saturating_add(rows);
        if end > memory_rows.into() {
            let span = statement.rows.span;
            let message = format!("the region ends at row {end}, but the {memory} has {memory_rows} rows");
            return Err(self.report(Fault::new(span, message).label(format!("{rows} rows from row {row} on"))));
        }
        let name = statement.name.text.to_string();
        Ok(LocalRegion { name, accumulator, row: row as u32, rows: rows as u32 })
    }
}

/// Instructions and macros.
impl Assembly<'_> {
    fn invoke(&mut self, name: &Name, operands: &[Operand], span: Span) -> Eval<()> {
        if &*name.text == "raw" {
            return self.raw(operands, span);
        }
        if let Some(spec) = INSTRUCTIONS.iter().find(|spec| spec.mnemonic == &*name.text) {
            return self.instruction(spec, name, operands, span);
        }
        match self.symbols.get(&name.text) {
            Some((Symbol::Macro(definition), _)) => {
                let definition = definition.clone();
                self.use_macro(&definition, name, operands)
            }
            Some((Symbol::Broken, _)) => Err(Abort::Statement),
            _ => Err(self.unknown_instruction(name)),
        }
    }

    fn unknown_instruction(&mut self, name: &Name) -> Abort {
        if self.is_reported(name.span) {
            return Abort::Statement;
        }
        let macros = self.symbols.iter().filter(|(_, (symbol, _))| matches!(symbol, Symbol::Macro(_)));
        let words = INSTRUCTIONS.iter().map(|spec| spec.mnemonic).chain(KEYWORDS);
        let help = did_you_mean(&name.text, words.chain(macros.map(|(name, _)| &**name)));
        let fault = Fault::new(name.span, format!("there is no instruction, directive or macro `{}`", name.text));
        self.report(fault.maybe_help(help))
    }

    fn use_macro(&mut self, definition: &Macro, name: &Name, operands: &[Operand]) -> Eval<()> {
        if self.calls.iter().any(|call| call.text == name.text) {
            return Err(self.report(Fault::new(name.span, format!("macro `{}` uses itself", name.text))));
        }
        let given = self.macro_operands(definition, name, operands)?;
        let (frame, locals) = (self.frame, self.locals.len());
        self.frame = locals;
        self.calls.push(name.clone());
        let result = self.macro_body(definition, name, given);
        self.calls.pop();
        self.locals.truncate(locals);
        self.frame = frame;
        result
    }

    /// The values given to a macro's parameters, evaluated where it is used.
    fn macro_operands(&mut self, definition: &Macro, name: &Name, operands: &[Operand]) -> Eval<Vec<(Name, Value)>> {
        let mut given: Vec<(Name, Value)> = Vec::new();
        for operand in operands {
            let text = &operand.name.text;
            if !definition.parameters.iter().any(|parameter| parameter.name.text == *text) {
                let names = definition.parameters.iter().map(|parameter| &*parameter.name.text);
                let fault = Fault::new(operand.name.span, format!("macro `{}` has no parameter `{text}`", name.text));
                let fault = fault.maybe_help(did_you_mean(text, names)).also(definition.name.span, "defined here");
                return Err(self.report(fault));
            }
            if given.iter().any(|(earlier, _)| earlier.text == *text) {
                return Err(self.report(Fault::new(operand.name.span, format!("`{text}` is given twice"))));
            }
            let Some(value) = &operand.value else {
                let fault = Fault::new(operand.name.span, format!("`{text}` needs a value"));
                return Err(self.report(fault.help(format!("write {text}=VALUE"))));
            };
            given.push((operand.name.clone(), self.eval(value)?));
        }
        Ok(given)
    }

    fn macro_body(&mut self, definition: &Macro, name: &Name, mut given: Vec<(Name, Value)>) -> Eval<()> {
        for Parameter { name: parameter, default } in &definition.parameters {
            let index = given.iter().position(|(name, _)| name.text == parameter.text);
            let value = match (index, default) {
                (Some(index), _) => given.swap_remove(index).1,
                (None, Some(default)) => self.eval(default)?,
                (None, None) => {
                    let message = format!("macro `{}` needs a value for `{}`", name.text, parameter.text);
                    return Err(self.report(Fault::new(name.span, message).also(parameter.span, "the parameter")));
                }
            };
            self.bind(parameter, value)?;
        }
        self.inner_block(&definition.body, name.span)
    }
}

/// The local address of a region's first row.
pub(crate) fn region_address(region: &LocalRegion) -> LocalAddr {
    if region.accumulator { LocalAddr::accumulator(region.row) } else { LocalAddr::scratchpad(region.row) }
}
