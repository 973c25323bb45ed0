//! [`ArrayView`]: the systolic array register by register; [`Heat`]: how much its processing elements had to do.

use std::collections::{BTreeMap, BTreeSet};

use pollux_asm::Disassembler;
use pollux_isa::values::DataflowMode;
use pollux_isa::{RoccCommand, funct};
use pollux_sim::mesh_pe::MeshPe;
use pollux_sim::observer::{Cycle, Event, Links, Unit};
use pollux_sim::view::{CommandView, StationView};
use serde::Serialize;

use crate::engine::Watch;

/// All processing elements (PEs) in one cycle. Every matrix has DIM rows of DIM values, by row and column of the PE.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ArrayView {
    /// The cycle.
    pub cycle: Cycle,
    /// Rows and columns.
    pub dim: usize,
    /// Register c1.
    pub c1: Vec<Vec<i32>>,
    /// Register c2.
    pub c2: Vec<Vec<i32>>,
    /// The register that the PE computes with, 1 or 2, in the row above it, or in the last one: the other moves down.
    pub computes_with: Vec<Vec<u8>>,
    /// A row stands above the PE, and is taken in this cycle; where there is none it is a bubble, and the values below mean nothing.
    pub valid: Vec<Vec<bool>>,
    /// A from the left.
    pub a: Vec<Vec<i8>>,
    /// B from above: the partial sum (weight-stationary) or the operand (output-stationary).
    pub b: Vec<Vec<i32>>,
    /// D from above: what moves into the register, or a result on its way out.
    pub d: Vec<Vec<i32>>,
    /// Number of the matrix product of the row, modulo the number that may be in flight.
    pub matrix: Vec<Vec<u8>>,
    /// The row is the last of its matrix.
    pub last: Vec<Vec<bool>>,
    /// The row's dataflow is weight-stationary.
    pub weight_stationary: Vec<Vec<bool>>,
    /// Registers of the skew of A left of each row of PEs, newest first: as many as A is delayed.
    pub left: Vec<Vec<Option<Register>>>,
    /// B in the registers of the skew above each column, newest first.
    pub above: Vec<Vec<Option<Register>>>,
    /// Results in the registers below each column on their way out, newest first.
    pub below: Vec<Vec<Option<Register>>>,
    /// The matrix products whose rows are in the array, oldest first, as far as their commands are known.
    pub products: Vec<Product>,
}

/// What a register beside the array holds, unless that is a bubble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Register {
    /// The value.
    pub value: i32,
    /// Number of the matrix product.
    pub matrix: u8,
}

/// A matrix product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Product {
    /// Its number.
    pub matrix: u8,
    /// Its commands with their sequence numbers: the PRELOAD of what stays in the array and of the destination, the COMPUTE. None of a
    /// flush, which is nobody's.
    pub commands: Vec<(u64, String)>,
}

impl ArrayView {
    pub(crate) fn new(cycle: Cycle, array: &MeshPe) -> Self {
        fn of<T>(dim: usize, value: impl Fn(usize, usize) -> T) -> Vec<Vec<T>> {
            (0..dim).map(|row| (0..dim).map(|column| value(row, column)).collect()).collect()
        }
        let dim = array.dim();
        let lanes = of(dim, |row, column| array.above(row, column));
        let valid = |row: usize, column: usize| lanes[row][column].valid;
        Self {
            cycle,
            dim,
            c1: of(dim, |row, column| array.pe(row, column).c1),
            c2: of(dim, |row, column| array.pe(row, column).c2),
            computes_with: of(dim, |row, column| {
                let lane = &lanes[row][column];
                let c1_moves = if lane.valid { lane.control.propagate } else { array.pe(row, column).last_propagate };
                if c1_moves { 2 } else { 1 }
            }),
            valid: of(dim, valid),
            // What stands in a bubble's registers is left over from another row.
            a: of(dim, |row, column| if valid(row, column) { array.a(row, column) } else { 0 }),
            b: of(dim, |row, column| if valid(row, column) { lanes[row][column].b } else { 0 }),
            d: of(dim, |row, column| if valid(row, column) { lanes[row][column].d } else { 0 }),
            matrix: of(dim, |row, column| if valid(row, column) { lanes[row][column].control.id } else { 0 }),
            last: of(dim, |row, column| valid(row, column) && lanes[row][column].control.last),
            weight_stationary: of(dim, |row, column| {
                valid(row, column) && lanes[row][column].control.dataflow == DataflowMode::Ws
            }),
            left: (0..dim)
                .map(|row| array.skew_a(row).map(|of| of.map(|(a, row)| register(a.into(), row.id))).collect())
                .collect(),
            above: (0..dim)
                .map(|column| {
                    let lanes = array.skew_above(column).iter();
                    lanes.map(|lane| lane.valid.then(|| register(lane.b, lane.control.id))).collect()
                })
                .collect(),
            below: (0..dim)
                .map(|column| array.leaving(column).map(|of| of.map(|(out, row)| register(out, row.id))).collect())
                .collect(),
            products: Vec::new(),
        }
    }

    /// Numbers of the products whose rows are somewhere in the array.
    pub(crate) fn matrices(&self) -> BTreeSet<u8> {
        let beside = [&self.left, &self.above, &self.below].into_iter().flatten().flatten().flatten();
        let inside = self.valid.iter().flatten().zip(self.matrix.iter().flatten());
        let inside = inside.filter_map(|(valid, matrix)| valid.then_some(*matrix));
        beside.map(|register| register.matrix).chain(inside).collect()
    }
}

fn register(value: i32, matrix: u8) -> Register {
    Register { value, matrix }
}

/// What the array was asked for.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Flush,
    /// A product, by its oldest command; unknown if that began before.
    Product(Option<u64>),
}

/// The matrix products that the array was asked for in some cycles, and their commands.
#[derive(Debug, Default)]
pub(crate) struct Passes {
    /// Execute commands that were in the station.
    commands: BTreeMap<u64, RoccCommand>,
    /// What the array was asked for.
    asked: Vec<Asked>,
}

impl Passes {
    /// From a machine on that has these in its station.
    pub fn new(station: &StationView) -> Self {
        let known = station.execute.iter().filter_map(|entry| {
            let CommandView { seq, funct, rs1, rs2, .. } = entry.command;
            Some((seq?, RoccCommand { funct, rs1, rs2 }))
        });
        Self { commands: known.collect(), asked: Vec::new() }
    }

    /// Those of these numbers, if the last one that was asked for has the number `newest` of so many.
    pub fn products(
        &self,
        matrices: &BTreeSet<u8>,
        (newest, count): (u8, u8),
        text: &Disassembler<'_>,
    ) -> Vec<Product> {
        let back = self.asked.iter().rev().take(count.into()).zip(0u8..);
        let numbered = back.map(|(asked, back)| ((newest + count - back) % count, *asked));
        let known =
            numbered.filter(|(matrix, _)| matrices.contains(matrix)).filter_map(|(matrix, asked)| match asked {
                Asked::Flush => Some(Product { matrix, commands: Vec::new() }),
                Asked::Product(seq) => Some(Product { matrix, commands: self.of(seq?, text) }),
            });
        let mut products: Vec<Product> = known.collect();
        products.reverse();
        products
    }

    /// A command, and before it the PRELOAD that it computes with, if it is a COMPUTE.
    fn of(&self, seq: u64, text: &Disassembler<'_>) -> Vec<(u64, String)> {
        let own = self.commands.get(&seq).into_iter().map(|command| (seq, command));
        let is_preload = |command: &RoccCommand| command.funct == funct::PRELOAD_CMD;
        let computes = self.commands.get(&seq).is_some_and(|command| !is_preload(command));
        let before = self.commands.range(..seq).rev().find(|(_, command)| computes && is_preload(command));
        let all = before.map(|(seq, command)| (*seq, command)).into_iter().chain(own);
        all.map(|(seq, command)| (seq, text.command(*command))).collect()
    }
}

impl Watch for Passes {
    fn event(&mut self, _: Cycle, event: &Event, links: &Links) {
        match *event {
            Event::Alloc { seq, unit: Unit::Ex, funct, rs1, rs2, .. } => {
                self.commands.insert(seq, RoccCommand { funct, rs1, rs2 });
            }
            Event::MeshReq { flush: 0 } => self.asked.push(Asked::Product(links.command)),
            Event::MeshReq { .. } => self.asked.push(Asked::Flush),
            _ => {}
        }
    }
}

/// What the processing elements did in some cycles. Every matrix has DIM rows of DIM counts, by row and column of the PE.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Heat {
    /// The first cycle that is counted.
    pub from: Cycle,
    /// The cycle after the last one.
    pub to: Cycle,
    /// Cycles in which a row passed the PE: the others were bubbles.
    pub rows: Vec<Vec<u64>>,
    /// Those of them in which both factors were other than 0.
    pub products: Vec<Vec<u64>>,
}

impl Heat {
    pub(crate) fn new(from: Cycle, dim: usize) -> Self {
        let none = vec![vec![0; dim]; dim];
        Self { from, to: from, rows: none.clone(), products: none }
    }

    /// Counts a cycle, the registers being as they are at its start.
    pub(crate) fn count(&mut self, array: &MeshPe) {
        for (row, (rows, products)) in self.rows.iter_mut().zip(&mut self.products).enumerate() {
            for (column, (rows, products)) in rows.iter_mut().zip(products).enumerate() {
                let lane = array.above(row, column);
                let pe = array.pe(row, column);
                let stationary = if lane.control.propagate { pe.c2 } else { pe.c1 };
                let factor = if lane.control.dataflow == DataflowMode::Ws { stationary } else { lane.b };
                *rows += u64::from(lane.valid);
                *products += u64::from(lane.valid && array.a(row, column) != 0 && factor != 0);
            }
        }
        self.to += 1;
    }
}
