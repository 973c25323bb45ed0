//! Instructions and commands by function.

use pollux_riscv::{Retired, Symbols};
use serde::Serialize;

use crate::output::{grouped, table};

/// What a function did, without those that it called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Function {
    function: String,
    instructions: u64,
    commands: u64,
}

/// Counts by function.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// First addresses, in order, and counts.
    starts: Vec<u64>,
    functions: Vec<Function>,
    /// The function of the last instruction, and its addresses.
    current: (usize, u64, u64),
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
        Self { starts, functions, current: (0, 0, 0) }
    }

    /// Counts an instruction.
    pub fn add(&mut self, retired: &Retired) {
        let (_, first, end) = self.current;
        if retired.pc < first || retired.pc >= end {
            let index = self.starts.partition_point(|start| *start <= retired.pc) - 1;
            let end = self.starts.get(index + 1).copied().unwrap_or(u64::MAX);
            self.current = (index, self.starts[index], end);
        }
        let function = &mut self.functions[self.current.0];
        function.instructions += 1;
        function.commands += u64::from(retired.rocc.is_some());
    }

    /// Those that executed anything, the busiest first.
    pub fn functions(&self) -> Vec<Function> {
        let mut functions: Vec<Function> = self.functions.iter().filter(|f| f.instructions > 0).cloned().collect();
        functions.sort_by(|a, b| b.instructions.cmp(&a.instructions).then_with(|| a.function.cmp(&b.function)));
        functions
    }

    /// The same as a table.
    pub fn text(&self) -> String {
        let header = ["function", "instructions", "commands"].map(str::to_owned).to_vec();
        let row = |f: Function| vec![f.function, grouped(f.instructions), grouped(f.commands)];
        let rows: Vec<Vec<String>> = std::iter::once(header).chain(self.functions().into_iter().map(row)).collect();
        table(&rows)
    }
}
