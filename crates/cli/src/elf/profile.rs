//! Instructions and commands by function.

use pollux_riscv::{Retired, Symbols};
use pollux_soc::LeftPipeline;
use serde::Serialize;

use crate::output::{grouped, table};

/// What a function did, without those that it called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Function {
    function: String,
    instructions: u64,
    commands: u64,
    /// Cycles until its instructions left the pipeline, each from the one before.
    #[serde(skip_serializing_if = "Option::is_none")]
    cycles: Option<u64>,
}

/// Counts by function.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// First addresses, in order, and counts.
    starts: Vec<u64>,
    functions: Vec<Function>,
    /// The function of the last instruction, and its addresses.
    current: (usize, u64, u64),
    /// The cycle of the last instruction.
    cycle: Option<u64>,
}

impl Profile {
    /// Nothing counted yet.
    pub fn new(symbols: &Symbols) -> Self {
        // What stands before the first function has no name.
        let (mut starts, mut functions) = (vec![0], vec![Function { function: "?".to_owned(), ..Function::default() }]);
        for (address, name) in symbols.code() {
            starts.push(address);
            functions.push(Function { function: name.to_owned(), ..Function::default() });
        }
        Self { starts, functions, current: (0, 0, 0), cycle: None }
    }

    /// The same for a run with cycles, which are counted, too.
    pub fn with_cycles(symbols: &Symbols) -> Self {
        let mut profile = Self::new(symbols);
        profile.functions.iter_mut().for_each(|function| function.cycles = Some(0));
        profile
    }

    /// The function at an address.
    fn at(&mut self, pc: u64) -> &mut Function {
        let (_, first, end) = self.current;
        if pc < first || pc >= end {
            let index = self.starts.partition_point(|start| *start <= pc) - 1;
            let end = self.starts.get(index + 1).copied().unwrap_or(u64::MAX);
            self.current = (index, self.starts[index], end);
        }
        &mut self.functions[self.current.0]
    }

    /// Counts an instruction.
    pub fn add(&mut self, retired: &Retired) {
        let function = self.at(retired.pc);
        function.instructions += 1;
        function.commands += u64::from(retired.rocc.is_some());
    }

    /// Counts an instruction that left the pipeline in a cycle.
    pub fn add_at(&mut self, left: &LeftPipeline) {
        let since = self.cycle.replace(left.cycle).map_or(0, |before| left.cycle - before);
        let function = self.at(left.pc);
        function.instructions += 1;
        function.commands += u64::from(left.is_command);
        function.cycles = function.cycles.map(|cycles| cycles + since);
    }

    /// Those that executed anything, the busiest first.
    pub fn functions(&self) -> Vec<Function> {
        let mut functions: Vec<Function> = self.functions.iter().filter(|f| f.instructions > 0).cloned().collect();
        let busy = |function: &Function| (function.cycles, function.instructions);
        functions.sort_by(|a, b| busy(b).cmp(&busy(a)).then_with(|| a.function.cmp(&b.function)));
        functions
    }

    /// The same as a table.
    pub fn text(&self) -> String {
        let functions = self.functions();
        let cells = |name: String, cycles: Option<String>, rest: [String; 2]| {
            std::iter::once(name).chain(cycles).chain(rest).collect::<Vec<String>>()
        };
        let has_cycles = functions.iter().any(|function| function.cycles.is_some());
        let header = ["instructions", "commands"].map(str::to_owned);
        let header = cells("function".to_owned(), has_cycles.then(|| "cycles".to_owned()), header);
        let row = |f: &Function| {
            cells(f.function.clone(), f.cycles.map(grouped), [grouped(f.instructions), grouped(f.commands)])
        };
        let rows: Vec<Vec<String>> = std::iter::once(header).chain(functions.iter().map(row)).collect();
        table(&rows)
    }
}
