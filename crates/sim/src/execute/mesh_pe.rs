//! The systolic array register by register (`Mesh.scala`, `Tile.scala`, `PE.scala`, and the shifters of
//! `MeshWithDelays.scala`): what the teaching views show, and the proof that the array by rows (`Mesh`) leaves nothing out.
//!
//! | port | dir | shape | back pressure |
//! |---|---|---|---|
//! | row | in | one `MeshRow` a cycle, or a bubble | none: always taken |
//! | output | out | DIM x `spatialArrayOutputType`, with id and last | none |
//!
//! Ports and latency are those of the fast model. A row takes this way, with g = `tile_latency` + 1:
//!
//! 1. skew: lane i of A is delayed by g x its tile row, lane j of B and D, with the control signals, by g x its tile column;
//! 2. g registers in front of every tile, for A from the left and for B, D and control from above. Those from above only load
//!    when their valid bit is set; within a tile all is combinational;
//! 3. a processing element (PE) multiplies, and hands A on to the right and its results down;
//! 4. `mesh_output_delay` registers below the array, and the de-skew registers.

use pollux_isa::GemminiConfig;
use pollux_isa::values::DataflowMode;
use pollux_numerics::mesh::propagate;
use pollux_numerics::{MeshWidth, mac};

use crate::execute::mesh::{Mesh, MeshControl, MeshRow, mesh_width};

/// What travels down a column beside the valid bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    /// The row in this register is a row, not a bubble.
    pub valid: bool,
    /// B: a partial sum in WS, an operand in OS.
    pub b: i32,
    /// D, or C on its way out.
    pub d: i32,
    /// Control signals.
    pub control: MeshControl,
}

/// The registers of a processing element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pe {
    /// Register c1: moves down while propagate is 1, else is computed with.
    pub c1: i32,
    /// Register c2: the other way round.
    pub c2: i32,
    /// Propagate bit of the last valid row (`last_s`).
    pub last_propagate: bool,
}

impl Pe {
    /// One cycle: takes A from the left and `lane` from above; updates the registers and turns `lane` into what goes down.
    fn step(&mut self, a: i8, lane: &mut Lane, width: MeshWidth) {
        if !lane.valid {
            return;
        }
        let MeshControl { dataflow, propagate: c1_moves, shift, .. } = lane.control;
        let (moving, other) = if c1_moves { (&mut self.c1, &mut self.c2) } else { (&mut self.c2, &mut self.c1) };
        let d = lane.d;
        match dataflow {
            DataflowMode::Ws => {
                lane.d = width.wrap(*moving);
                lane.b = mac(lane.b, a, *other as i8, width);
            }
            DataflowMode::Os => {
                let shift = if c1_moves != self.last_propagate { shift.into() } else { 0 };
                lane.d = propagate(*moving, shift, width);
                *other = mac(*other, a, lane.b as i8, width);
            }
        }
        *moving = d;
        self.last_propagate = c1_moves;
    }
}

/// A fixed delay in cycles, possibly none.
#[derive(Clone, Debug)]
struct ShiftRegister<T> {
    stages: Vec<T>,
}

impl<T: Copy + Default> ShiftRegister<T> {
    fn new(delay: usize) -> Self {
        Self { stages: vec![T::default(); delay] }
    }

    /// The output in a cycle in which `input` is at the input.
    fn output(&self, input: T) -> T {
        self.stages.last().copied().unwrap_or(input)
    }

    /// Clock edge; returns the output before it.
    fn tick(&mut self, input: T) -> T {
        let output = self.output(input);
        if !self.stages.is_empty() {
            self.stages.rotate_right(1);
            self.stages[0] = input;
        }
        output
    }
}

/// A row at the array's output: its lanes, and id and last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeOutput {
    /// Result, DIM lanes.
    pub data: Vec<i32>,
    /// Number of the matrix product.
    pub id: u8,
    /// Last row of its matrix.
    pub last: bool,
}

/// All registers of the array.
#[derive(Clone, Debug)]
pub struct MeshPe {
    dim: usize,
    tile_rows: usize,
    tile_columns: usize,
    /// Registers in front of a tile.
    stages: usize,
    width: MeshWidth,
    skew_a: Vec<ShiftRegister<i8>>,
    skew_lanes: Vec<ShiftRegister<Lane>>,
    /// A in front of the tiles: `[tile column][stage][lane]`.
    a: Vec<i8>,
    /// B, D and control in front of the tiles: `[tile row][stage][lane]`.
    lanes: Vec<Lane>,
    /// `[row][column]`.
    pes: Vec<Pe>,
    /// Below the array.
    output_delay: Vec<ShiftRegister<Lane>>,
    deskew: Vec<ShiftRegister<i32>>,
    /// Valid, id and last leave with column 0.
    deskew_control: ShiftRegister<(bool, MeshControl)>,
}

impl MeshPe {
    /// An array whose registers hold zeros.
    pub fn new(config: &GemminiConfig) -> Self {
        let dim = config.dim() as usize;
        let [tile_rows, tile_columns, mesh_rows, mesh_columns] =
            [config.tile_rows, config.tile_columns, config.mesh_rows, config.mesh_columns].map(|n| n as usize);
        let stages = config.tile_latency as usize + 1;
        let output_delay = config.mesh_output_delay as usize;
        let column_skew = |lane: usize| lane / tile_columns * stages;
        let last_skew = column_skew(dim - 1);
        Self {
            dim,
            tile_rows,
            tile_columns,
            stages,
            width: mesh_width(config),
            skew_a: (0..dim).map(|lane| ShiftRegister::new(lane / tile_rows * stages)).collect(),
            skew_lanes: (0..dim).map(|lane| ShiftRegister::new(column_skew(lane))).collect(),
            a: vec![0; mesh_columns * stages * dim],
            lanes: vec![Lane::default(); mesh_rows * stages * dim],
            pes: vec![Pe::default(); dim * dim],
            output_delay: vec![ShiftRegister::new(output_delay); dim],
            deskew: (0..dim).map(|lane| ShiftRegister::new(last_skew - column_skew(lane))).collect(),
            deskew_control: ShiftRegister::new(last_skew),
        }
    }

    /// An array with the registers of the fast model and no row on its way. After as many cycles as the array's latency, and one,
    /// nothing is left of the difference to an array that was there from the start.
    pub fn settled(config: &GemminiConfig, mesh: &Mesh) -> Self {
        let mut array = Self::new(config);
        let dim = array.dim;
        let last_propagate = mesh.last_propagate();
        for (at, pe) in array.pes.iter_mut().enumerate() {
            let (row, column) = (at / dim, at % dim);
            *pe = Pe { c1: mesh.c1(row, column), c2: mesh.c2(row, column), last_propagate };
        }
        array
    }

    /// Rows and columns.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// A at the left of the PE in `row` and `column`.
    pub fn a(&self, row: usize, column: usize) -> i8 {
        self.tile_a(row, column / self.tile_columns)
    }

    /// What stands above the PE in `row` and `column`: in the register of its tile, or behind the PEs above it in the tile.
    pub fn above(&self, row: usize, column: usize) -> Lane {
        let tile_row = row / self.tile_rows;
        let mut lane = *self.tile_lane(tile_row, column);
        for above in tile_row * self.tile_rows..row {
            let mut pe = *self.pe(above, column);
            pe.step(self.a(above, column), &mut lane, self.width);
        }
        lane
    }

    /// Registers of the PE in `row` and `column`.
    pub fn pe(&self, row: usize, column: usize) -> &Pe {
        &self.pes[row * self.dim + column]
    }

    /// A on its way to PE row `row`, newest first, with the control signals of its row; none is a bubble.
    pub fn skew_a(&self, row: usize) -> impl Iterator<Item = Option<(i8, MeshControl)>> {
        // Column 0 has no skew: what its registers hold entered with what stands in the same stage of A's.
        let entered = self.lanes.iter().step_by(self.dim);
        self.skew_a[row].stages.iter().zip(entered).map(|(&a, lane)| lane.valid.then_some((a, lane.control)))
    }

    /// B, D and control signals on their way to PE column `column`, newest first.
    pub fn skew_above(&self, column: usize) -> &[Lane] {
        &self.skew_lanes[column].stages
    }

    /// Results of PE column `column` on their way out below the array, newest first, with the control signals of their row; none is a
    /// bubble.
    pub fn leaving(&self, column: usize) -> impl Iterator<Item = Option<(i32, MeshControl)>> {
        let out = self.output_delay[column].stages.iter();
        let out = out.map(|lane| lane.valid.then(|| (result(lane, lane), lane.control)));
        // Valid bits go with column 0, which has the longest way.
        let deskew = &self.deskew[column].stages;
        let control = &self.deskew_control.stages[self.deskew_control.stages.len() - deskew.len()..];
        out.chain(deskew.iter().zip(control).map(|(&data, &(valid, control))| valid.then_some((data, control))))
    }

    /// The row at the output in this cycle.
    pub fn output(&self) -> Option<PeOutput> {
        let below: Vec<Lane> = (0..self.dim).map(|column| self.below(column)).collect();
        let (valid, control) = self.deskew_control.output((below[0].valid, below[0].control));
        let result = |(column, lane): (usize, &Lane)| self.deskew[column].output(result(&below[0], lane));
        valid.then(|| PeOutput {
            data: below.iter().enumerate().map(result).collect(),
            id: control.id,
            last: control.last,
        })
    }

    /// Clock edge: takes the row presented in this cycle, if any.
    pub fn tick(&mut self, row: Option<&MeshRow>) {
        self.tick_output();
        let below_tiles = self.tick_pes();
        self.tick_a(row);
        self.tick_lanes(row, &below_tiles);
    }

    /// A at the left of tile column `tile_column`, for PE row `row`.
    fn tile_a(&self, row: usize, tile_column: usize) -> i8 {
        self.a[((tile_column + 1) * self.stages - 1) * self.dim + row]
    }

    /// The lane above tile row `tile_row`, for PE column `column`.
    fn tile_lane(&self, tile_row: usize, column: usize) -> &Lane {
        &self.lanes[((tile_row + 1) * self.stages - 1) * self.dim + column]
    }

    /// What comes out of the output registers below `column`.
    fn below(&self, column: usize) -> Lane {
        self.output_delay[column].output(self.bottom(column))
    }

    /// What comes out of the bottom tile of `column`.
    fn bottom(&self, column: usize) -> Lane {
        let tile_row = self.dim / self.tile_rows - 1;
        let mut lane = *self.tile_lane(tile_row, column);
        for row in tile_row * self.tile_rows..self.dim {
            let mut pe = *self.pe(row, column);
            pe.step(self.tile_a(row, column / self.tile_columns), &mut lane, self.width);
        }
        lane
    }

    fn tick_output(&mut self) {
        let bottom: Vec<Lane> = (0..self.dim).map(|column| self.bottom(column)).collect();
        let below: Vec<Lane> =
            self.output_delay.iter_mut().zip(&bottom).map(|(delay, &lane)| delay.tick(lane)).collect();
        for (deskew, lane) in self.deskew.iter_mut().zip(&below) {
            deskew.tick(result(&below[0], lane));
        }
        self.deskew_control.tick((below[0].valid, below[0].control));
    }

    /// Steps all PEs. Returns what leaves each tile at the bottom: `[tile row][column]`.
    fn tick_pes(&mut self) -> Vec<Lane> {
        let mut out = Vec::with_capacity(self.dim * self.dim / self.tile_rows);
        for tile_row in 0..self.dim / self.tile_rows {
            for column in 0..self.dim {
                let mut lane = *self.tile_lane(tile_row, column);
                for row in tile_row * self.tile_rows..(tile_row + 1) * self.tile_rows {
                    let a = self.tile_a(row, column / self.tile_columns);
                    self.pes[row * self.dim + column].step(a, &mut lane, self.width);
                }
                out.push(lane);
            }
        }
        out
    }

    /// A moves right, one register a cycle, valid or not.
    fn tick_a(&mut self, row: Option<&MeshRow>) {
        self.a.rotate_right(self.dim);
        for (lane, (a, skew)) in self.a.iter_mut().zip(&mut self.skew_a).enumerate() {
            *a = skew.tick(row.map_or(0, |row| row.a[lane]));
        }
    }

    /// B, D and control move down. `below_tiles` left the tiles in this cycle.
    fn tick_lanes(&mut self, row: Option<&MeshRow>, below_tiles: &[Lane]) {
        for register in (0..self.lanes.len() / self.dim).rev() {
            for column in 0..self.dim {
                let input = if register % self.stages > 0 {
                    self.lanes[(register - 1) * self.dim + column]
                } else if register > 0 {
                    below_tiles[(register / self.stages - 1) * self.dim + column]
                } else {
                    self.skew_lanes[column].tick(row.map_or_else(Lane::default, |row| lane(row, column)))
                };
                load(&mut self.lanes[register * self.dim + column], &input);
            }
        }
    }
}

/// `row`'s lane `column` at the top of the array.
fn lane(row: &MeshRow, column: usize) -> Lane {
    Lane { valid: true, b: row.b[column].into(), d: row.d[column].into(), control: row.control }
}

/// Loads a register above a tile: valid, id and last always, the rest if valid.
fn load(register: &mut Lane, input: &Lane) {
    if input.valid {
        *register = *input;
    } else {
        register.valid = false;
        (register.control.id, register.control.last) = (input.control.id, input.control.last);
    }
}

/// The result in `lane` below the array. The dataflow is that of `first`, column 0, in the same cycle.
fn result(first: &Lane, lane: &Lane) -> i32 {
    match first.control.dataflow {
        DataflowMode::Os => lane.d,
        DataflowMode::Ws => lane.b,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::execute::mesh::Mesh;

    /// A row and its control signals; none is a bubble.
    type Input = Option<([Vec<i8>; 3], MeshControl)>;

    fn lanes(dim: usize) -> impl Strategy<Value = Vec<i8>> {
        prop_oneof![
            1 => Just(vec![0; dim]),
            1 => Just(vec![i8::MIN; dim]),
            6 => prop::collection::vec(any::<i8>(), dim),
        ]
    }

    /// One matrix: `rows` rows with bubbles between, with one control word.
    fn matrix(dim: usize, dataflow: DataflowMode) -> impl Strategy<Value = Vec<Input>> {
        let signals = (any::<bool>(), prop_oneof![Just(0), 0u8..32], 0u8..5);
        (signals, 1..dim + 3).prop_flat_map(move |((propagate, shift, id), rows)| {
            let control = MeshControl { dataflow, propagate, shift, id, last: false };
            let row = [lanes(dim), lanes(dim), lanes(dim)].prop_map(move |row| Some((row, control)));
            let input = prop_oneof![4 => row, 1 => Just(None)];
            prop::collection::vec(input, rows).prop_map(|mut inputs| {
                if let Some((_, control)) = inputs.iter_mut().rev().flatten().next() {
                    control.last = true;
                }
                inputs
            })
        })
    }

    /// A run of one dataflow after the other; long bubbles keep them apart, as a CONFIG_EX does.
    fn program(dim: usize) -> impl Strategy<Value = Vec<Input>> {
        let phase = prop_oneof![Just(DataflowMode::Os), Just(DataflowMode::Ws)]
            .prop_flat_map(move |dataflow| prop::collection::vec(matrix(dim, dataflow), 1..5));
        prop::collection::vec(phase, 1..4).prop_map(move |phases| {
            let drain = vec![None; 4 * dim + 4];
            let with_drain = |phase: Vec<Vec<Input>>| [phase.concat(), drain.clone()].concat();
            phases.into_iter().flat_map(with_drain).collect()
        })
    }

    fn compare(config: &GemminiConfig, program: &[Input]) -> Result<(), TestCaseError> {
        let (mut fast, mut exact) = (Mesh::new(config), MeshPe::new(config));
        for (cycle, input) in program.iter().enumerate() {
            let expected = exact.output();
            let seen = fast.output().map(|out| PeOutput { data: out.data.to_vec(), id: out.id, last: out.last });
            prop_assert_eq!(seen, expected, "cycle {}", cycle);
            let row = input.as_ref().map(|([a, b, d], control)| MeshRow { a, b, d, control: *control });
            exact.tick(row.as_ref());
            let _ = fast.tick(row.as_ref());
        }
        let dim = config.dim() as usize;
        for (row, column) in (0..dim).flat_map(|row| (0..dim).map(move |column| (row, column))) {
            let Pe { c1, c2, .. } = *exact.pe(row, column);
            let seen = (fast.c1(row, column), fast.c2(row, column));
            prop_assert_eq!(seen, (c1, c2), "PE ({}, {})", row, column);
        }
        Ok(())
    }

    fn case() -> impl Strategy<Value = (GemminiConfig, Vec<Input>)> {
        prop::sample::select(vec![4u32, 8, 16]).prop_flat_map(|dim| {
            let config = GemminiConfig::with_dim(dim).expect("a power of two");
            (Just(config.into_inner()), program(dim as usize))
        })
    }

    /// DIM 4 from tiles of different shape, with more or fewer registers.
    fn tiled_case() -> impl Strategy<Value = (GemminiConfig, Vec<Input>)> {
        let side = || prop::sample::select(vec![1u32, 2, 4]);
        (side(), side(), 0u32..2, 0u32..3, program(4)).prop_map(|(rows, columns, tile_latency, delay, program)| {
            let config = GemminiConfig {
                tile_rows: rows,
                tile_columns: columns,
                mesh_rows: 4 / rows,
                mesh_columns: 4 / columns,
                tile_latency,
                mesh_output_delay: delay,
                ..GemminiConfig::small4()
            };
            (config, program)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn rows_and_registers_give_the_same_results_in_the_same_cycles((config, program) in case()) {
            compare(&config, &program)?;
        }

        #[test]
        fn they_do_so_for_every_shape_of_tiles_and_number_of_registers((config, program) in tiled_case()) {
            compare(&config, &program)?;
        }
    }

    #[test]
    fn os_accumulation_wraps_at_the_arrays_width() {
        let config = GemminiConfig::small4();
        let (a, b, zeros) = ([127; 4], [127; 4], [0; 4]);
        let control = MeshControl { dataflow: DataflowMode::Os, propagate: true, ..MeshControl::default() };
        let mut fast: Mesh = Mesh::new(&config);
        for _ in 0..40 {
            let _ = fast.tick(Some(&MeshRow { a: &a, b: &b, d: &zeros, control }));
        }
        let sum = 40 * 127 * 127;
        assert_eq!(fast.c2(3, 3), sum - (1 << 20));
    }
}
