//! Turns MVIN commands into one request per row (`LoadController.scala`).
//!
//! Command queue Q(`ld_queue_length`) without `flow`: a command issued in cycle i is at the head in
//! i+1. A configuration takes one cycle. A load is allocated in the command tracker and offers its
//! first row in the same cycle; with a sink that is always ready, n rows take n cycles and the next
//! command starts in the next one, except that a single row occupies the controller for two cycles
//! (the state `SendingRows` is entered and left). The registers set by CONFIG_LD are not reset.
//!
//! | name | direction | valid when | back pressure |
//! |---|---|---|---|
//! | `cmd` | in | the reservation station issues | `cmd_ready` |
//! | `request()` | out | from registers | `request_fires` |
//! | `response` | in | a packet's or zero row's last write | none |
//! | `completed()` | out | all bytes of a command are there | `completed_ready` (completion arbiter) |

use pollux_isa::config::LOAD_STATES;
use pollux_isa::fields::{ConfigLd, MoveOperands};
use pollux_isa::{AddressLayout, GemminiConfig, LocalAddr, funct};

use crate::dma::dma_command_tracker::{DmaCommandTracker, tracker_mask};
use crate::dma::dma_parameters::core_address;
use crate::front_end::counter_file::{CounterEvent, CounterEvents};
use crate::observation::dma_activity::{DmaControllerActivity, DmaControllerStall};
use crate::observation::event::EventBuffer;
use crate::observation::view::MoveView;
use crate::observation::violation::Violation;
use crate::parts::canonical::{Canon, Canonical};
use crate::parts::queue::Queue;
use crate::parts::wires::{IssuedCmd, RobId, Seq};

/// A request for one row (`ScratchpadMemReadRequest`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Canonical)]
pub struct ScratchpadReadRequest {
    /// Virtual address of the row's first element.
    #[canon(address)]
    pub vaddr: u64,
    /// First local row.
    pub laddr: LocalAddr,
    /// Elements.
    pub cols: u16,
    /// Further local rows to write with the same data (stride 0).
    pub repeats: u16,
    /// Bits of the scale.
    #[canon(load_scale)]
    pub scale: u32,
    /// Elements in memory are as wide as accumulator elements.
    pub has_acc_bitwidth: bool,
    /// Write zeros instead of loading.
    pub all_zeros: bool,
    /// Rows between the blocks of DIM columns.
    pub block_stride: u16,
    /// Copies of each pixel.
    pub pixel_repeats: u8,
    /// Command tracker entry.
    pub cmd_id: u8,
}

/// Bytes of a command that have been written (`ScratchpadMemReadResponse`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScratchpadReadResponse {
    /// Useful bytes of the packet, or bytes of the zero row.
    pub bytes_read: u32,
    /// Command tracker entry.
    pub cmd_id: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Canonical)]
enum State {
    WaitingForCommand,
    WaitingForDmaReqReady,
    SendingRows,
}

/// A command in the queue, its fields already taken apart.
#[derive(Clone, Copy, Debug, Canonical)]
enum Decoded {
    Config(ConfigLd),
    Load { operands: MoveOperands, state_id: usize },
}

/// Registers of one load state, set by CONFIG_LD.
#[derive(Clone, Copy, Debug, Default, Canonical)]
struct LoadState {
    stride: u64,
    #[canon(load_scale)]
    scale: u32,
    shrink: bool,
    block_stride: u16,
    pixel_repeats: u8,
}

/// The commands that wait. A configuration has left the station as it was issued, and its entry may have been given to another.
fn commands(queue: &Queue<(Decoded, Option<RobId>)>, canon: &mut Canon) {
    canon.byte(queue.iter().count() as u8);
    for (decoded, entry) in queue.iter() {
        decoded.canonical(canon);
        if matches!(decoded, Decoded::Load { .. }) {
            entry.canonical(canon);
        }
    }
}

/// The controller.
#[derive(Clone, Debug, Canonical)]
pub struct LoadController {
    #[canon(skip = "constant")]
    config: GemminiConfig,
    #[canon(skip = "constant")]
    layout: AddressLayout,
    #[canon(skip = "constant")]
    acc_bytes: u32,
    #[canon(skip = "constant")]
    input_bytes: u32,
    /// Width of the tracker's byte counter.
    #[canon(skip = "constant")]
    amount_mask: u32,
    #[canon(via = commands)]
    queue: Queue<(Decoded, Option<RobId>)>,
    states: [LoadState; LOAD_STATES],
    state: State,
    /// Counts up to DIM only: a load of no rows, or of more, ends when it is back at 0.
    row_counter: u32,
    tracker: DmaCommandTracker,
    /// Tracker entry of the command under way (`RegEnableThru`).
    cmd_id: u8,
}

impl LoadController {
    /// A controller after reset.
    pub fn new(config: &GemminiConfig) -> Self {
        let pixel_repeats = u8::from(!config.has_first_layer_optimizations);
        let row_bytes = config.dma_maxbytes.max(config.sp_row_bytes()).max(config.acc_row_bytes());
        Self {
            amount_mask: tracker_mask(config.dim() * row_bytes),
            layout: config.layout(),
            acc_bytes: config.acc_type.bytes(),
            input_bytes: config.input_type.bytes(),
            queue: Queue::plain(config.ld_queue_length as usize),
            states: [LoadState { pixel_repeats, ..LoadState::default() }; LOAD_STATES],
            state: State::WaitingForCommand,
            row_counter: 0,
            tracker: DmaCommandTracker::new(config.n_cmds() as usize),
            cmd_id: 0,
            config: config.clone(),
        }
    }

    /// True if the command queue accepts.
    #[inline]
    pub fn cmd_ready(&self) -> bool {
        self.queue.enq_ready(false)
    }

    /// True while a command is queued or under way.
    #[inline]
    pub fn busy(&self) -> bool {
        !self.queue.is_empty() || self.tracker.busy()
    }

    /// The finished command offered to the completion arbiter.
    #[inline]
    pub fn completed(&self) -> Option<RobId> {
        self.tracker.completed().flatten()
    }

    fn head_load(&self) -> Option<(&MoveOperands, &LoadState)> {
        match self.queue.front() {
            Some((Decoded::Load { operands, state_id }, _)) => Some((operands, &self.states[*state_id])),
            _ => None,
        }
    }

    /// True if the head command is allocated in this cycle.
    fn allocates(&self) -> bool {
        self.state == State::WaitingForCommand && self.tracker.alloc_ready() && self.head_load().is_some()
    }

    /// The row request offered in this cycle.
    #[inline]
    pub fn request(&self) -> Option<ScratchpadReadRequest> {
        if self.queue.is_empty() { None } else { self.head_request() }
    }

    fn head_request(&self) -> Option<ScratchpadReadRequest> {
        let (operands, state) = self.head_load()?;
        let offered = match self.state {
            State::WaitingForCommand => self.tracker.alloc_ready(),
            State::WaitingForDmaReqReady => true,
            State::SendingRows => self.row_counter != 0,
        };
        if !offered {
            return None;
        }
        let repeats = if repeats_one_row(operands, state) { operands.rows.wrapping_sub(1) } else { 0 };
        let id = if self.state == State::WaitingForCommand { self.tracker.alloc_id() } else { self.cmd_id };
        let offset = u64::from(self.row_counter).wrapping_mul(state.stride);
        Some(ScratchpadReadRequest {
            vaddr: core_address(operands.dram.wrapping_add(offset)),
            laddr: operands.local.add(self.layout, self.row_counter),
            cols: operands.cols,
            repeats,
            scale: state.scale,
            has_acc_bitwidth: operands.local.is_acc() && !state.shrink,
            all_zeros: operands.dram == 0,
            block_stride: state.block_stride,
            pixel_repeats: state.pixel_repeats,
            cmd_id: id,
        })
    }

    /// Clock edge: the command accepted at the queue, whether the offered request is accepted, the
    /// response, and whether the offered completion is accepted. Returns true if a register changed.
    #[inline]
    #[must_use]
    pub fn tick(
        &mut self,
        cmd: Option<IssuedCmd>,
        request_fires: bool,
        response: Option<ScratchpadReadResponse>,
        completed_ready: bool,
        events: &mut EventBuffer,
    ) -> bool {
        if cmd.is_none() && !self.busy() {
            return false;
        }
        self.busy_tick(cmd, request_fires, response, completed_ready, events)
    }

    fn busy_tick(
        &mut self,
        cmd: Option<IssuedCmd>,
        request_fires: bool,
        response: Option<ScratchpadReadResponse>,
        completed_ready: bool,
        events: &mut EventBuffer,
    ) -> bool {
        let mut changed = false;
        let alloc = if self.queue.is_empty() {
            None
        } else {
            let (alloc, moved) = self.tick_head(request_fires, events);
            changed |= moved;
            alloc
        };
        let response = response.map(|r| (r.cmd_id, r.bytes_read));
        let completes = completed_ready && self.tracker.completed().is_some();
        changed |= self.tracker.tick(alloc, response, completes, events);
        if let Some(cmd) = cmd {
            self.queue.push((self.decode(&cmd), cmd.rob_id));
            changed = true;
        }
        changed
    }

    /// Clock edge of the state machine with a command at the head; returns the allocation.
    fn tick_head(&mut self, request_fires: bool, events: &mut EventBuffer) -> (Option<(Option<RobId>, u32)>, bool) {
        let Some(&(head, rob_id)) = self.queue.front() else {
            return (None, false);
        };
        let (operands, state_id) = match head {
            Decoded::Config(config) => {
                let repeats = !self.config.has_first_layer_optimizations && config.repeats() > 1;
                events.require(!repeats, Violation::NoPixelRepeater);
                self.configure(&config);
                self.queue.pop();
                return (None, true);
            }
            Decoded::Load { operands, state_id } => (operands, state_id),
        };
        let state = self.states[state_id];
        let rows = if repeats_one_row(&operands, &state) { 1 } else { u32::from(operands.rows) };
        let wide = operands.local.is_acc() && !state.shrink;
        let alloc = self.allocates().then(|| {
            let element = if wide { self.acc_bytes } else { self.input_bytes };
            (rob_id, (u32::from(operands.cols) * rows * element) & self.amount_mask)
        });
        if let Some((_, bytes)) = alloc {
            events.require(bytes > 0, Violation::EmptyLoad);
            self.cmd_id = self.tracker.alloc_id();
        }
        let before = self.state;
        match self.state {
            State::WaitingForCommand if alloc.is_some() => {
                self.state = if request_fires { State::SendingRows } else { State::WaitingForDmaReqReady };
            }
            State::WaitingForDmaReqReady if request_fires => self.state = State::SendingRows,
            State::SendingRows
                if self.row_counter == 0 || (self.row_counter == rows.wrapping_sub(1) && request_fires) =>
            {
                self.state = State::WaitingForCommand;
                self.queue.pop();
            }
            _ => {}
        }
        if request_fires {
            events.require(state.block_stride >= operands.rows, Violation::BlockStrideBelowRows);
            let repeated = operands.dram == 0 && operands.local.is_acc() && state.pixel_repeats > 1;
            events.require(!repeated, Violation::RepeatedZeros);
            let last = rows == 1 || self.row_counter >= rows.wrapping_sub(1);
            self.row_counter = if last { 0 } else { (self.row_counter + 1) & (self.config.dim() - 1) };
        }
        (alloc, request_fires || alloc.is_some() || self.state != before)
    }

    fn configure(&mut self, config: &ConfigLd) {
        let Some(state) = self.states.get_mut(usize::from(config.state_id)) else {
            return;
        };
        *state = LoadState {
            stride: config.stride,
            scale: config.scale.0,
            shrink: config.shrink,
            block_stride: config.block_stride,
            pixel_repeats: if self.config.has_first_layer_optimizations { config.repeats() } else { 1 },
        };
    }

    fn decode(&self, cmd: &IssuedCmd) -> Decoded {
        let (rs1, rs2) = (cmd.cmd.rs1, cmd.cmd.rs2);
        let state_id = match cmd.cmd.funct {
            funct::CONFIG_CMD => return Decoded::Config(ConfigLd::from_regs(&self.config, rs1, rs2)),
            funct::LOAD2_CMD => 1,
            funct::LOAD3_CMD => 2,
            _ => 0,
        };
        // Zeros are recognised by all 64 bits of the address, so it is not cut yet.
        Decoded::Load {
            operands: MoveOperands { dram: rs1, ..MoveOperands::from_regs(&self.config, rs1, rs2) },
            state_id,
        }
    }

    /// The command of an entry of the tracker.
    pub(crate) fn command(&self, id: u8) -> Option<RobId> {
        self.tracker.command(id)
    }

    /// State, as a number of the RTL's enumeration, and row counter.
    pub(crate) fn control(&self) -> (u32, u32) {
        (self.state as u32, self.row_counter)
    }

    /// Queue, row and tracker.
    pub(crate) fn view(&self, seq: Seq<'_>) -> MoveView {
        let queued = |(decoded, id): &(Decoded, Option<RobId>)| match decoded {
            Decoded::Config(_) => ("config", None),
            Decoded::Load { .. } => ("load", id.and_then(seq)),
        };
        let rows = self.head_load().map_or(
            0,
            |(operands, state)| {
                if repeats_one_row(operands, state) { 1 } else { operands.rows.into() }
            },
        );
        MoveView {
            state: match self.state {
                State::WaitingForCommand => "waiting_for_command",
                State::WaitingForDmaReqReady => "waiting_for_dma_req_ready",
                State::SendingRows => "sending_rows",
            },
            queue: self.queue.iter().map(queued).collect(),
            row: self.row_counter,
            rows,
            tracker: self.tracker.view(seq),
        }
    }

    /// Drives the controller's counter lines, given whether a request was offered and whether it was accepted.
    pub fn counter_events(&self, request_valid: bool, request_fires: bool, events: &mut CounterEvents) {
        events.set(CounterEvent::LoadDmaWaitCycle, self.state == State::WaitingForDmaReqReady);
        events.set(CounterEvent::LoadActiveCycle, self.state == State::SendingRows);
        events.set(CounterEvent::LoadScratchpadWaitCycle, request_valid && !request_fires);
    }

    /// What this cycle is spent on, given whether a request was offered and whether it was accepted.
    pub fn activity(&self, request_valid: bool, request_fires: bool) -> DmaControllerActivity {
        use DmaControllerActivity::{Busy, Draining, Idle, Stalled};
        match (self.queue.is_empty(), self.tracker.busy()) {
            (true, false) => Idle,
            (true, true) => Draining,
            _ if request_valid && !request_fires => Stalled(DmaControllerStall::Scratchpad),
            _ if self.state == State::WaitingForCommand
                && self.head_load().is_some()
                && !self.tracker.alloc_ready() =>
            {
                Stalled(DmaControllerStall::CommandTracker)
            }
            _ => Busy,
        }
    }

    /// What the controller waits for, for the explanation of a deadlock.
    pub fn waiting_for(&self) -> Option<String> {
        if let Some(bytes) = self.tracker.waiting_for().filter(|b| *b > 0) {
            let text = match bytes.cast_signed() {
                0.. => format!("{bytes} bytes of a load have not been written"),
                beyond => {
                    let more = beyond.unsigned_abs();
                    format!("a load got {more} bytes more than it counted, so that it never completes")
                }
            };
            return Some(format!("LoadController: {text}"));
        }
        (!self.queue.is_empty()).then(|| "LoadController: a row request is not accepted".to_owned())
    }
}

/// A stride of 0 loads one row and repeats it.
fn repeats_one_row(operands: &MoveOperands, state: &LoadState) -> bool {
    state.stride == 0 && operands.dram != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::event::Unit;
    use pollux_isa::RoccCommand;

    const ROB_ID: RobId = RobId { unit: Unit::Ld, index: 3 };

    fn issued(funct: u8, rs1: u64, rs2: u64) -> Option<IssuedCmd> {
        Some(IssuedCmd { cmd: RoccCommand { funct, rs1, rs2 }, rob_id: Some(ROB_ID) })
    }

    /// CONFIG_LD for state 0 with block stride 16 and one pixel repeat.
    fn config(stride: u64) -> Option<IssuedCmd> {
        issued(funct::CONFIG_CMD, 0x3f80_0000_0010_0101, stride)
    }

    fn mvin(address: u64, rows: u64, cols: u64) -> Option<IssuedCmd> {
        issued(2, address, rows << 48 | cols << 32 | 0x20)
    }

    /// Issues the commands one a cycle; returns the cycles and requests that a ready sink takes.
    fn requests(cmds: &[Option<IssuedCmd>], cycles: u64) -> Vec<(u64, ScratchpadReadRequest)> {
        let mut controller = LoadController::new(&GemminiConfig::default16());
        let mut taken = Vec::new();
        for cycle in 0..cycles {
            let request = controller.request();
            taken.extend(request.map(|request| (cycle, request)));
            let _ = controller.tick(
                cmds.get(cycle as usize).copied().flatten(),
                request.is_some(),
                None,
                true,
                &mut EventBuffer::default(),
            );
        }
        taken
    }

    #[test]
    fn rows_are_requested_one_a_cycle_and_the_next_command_follows_at_once() {
        let taken = requests(&[config(100), mvin(0x1000, 3, 16), mvin(0x9000, 2, 16)], 20);
        let at: Vec<_> = taken.iter().map(|(cycle, r)| (*cycle, r.vaddr, r.laddr.0, r.cmd_id)).collect();
        let expected = [
            (2, 0x1000, 0x20, 0),
            (3, 0x1064, 0x21, 0),
            (4, 0x10c8, 0x22, 0),
            (5, 0x9000, 0x20, 1),
            (6, 0x9064, 0x21, 1),
        ];
        assert_eq!(at, expected);
    }

    #[test]
    fn a_single_row_occupies_the_controller_for_two_cycles() {
        let taken = requests(&[config(16), mvin(0x1000, 1, 16), mvin(0x2000, 1, 16)], 20);
        assert_eq!(taken.iter().map(|(cycle, _)| *cycle).collect::<Vec<_>>(), [2, 4]);
    }

    #[test]
    fn a_stride_of_zero_loads_one_row_and_repeats_it_but_zeros_are_written_row_by_row() {
        let taken = requests(&[config(0), mvin(0x1000, 16, 16), mvin(0, 2, 16)], 20);
        let seen: Vec<_> = taken.iter().map(|(_, r)| (r.repeats, r.all_zeros)).collect();
        assert_eq!(seen, [(15, false), (0, true), (0, true)]);
    }

    #[test]
    fn a_load_of_no_rows_or_of_more_than_the_array_has_requests_as_many_as_the_array_has() {
        for rows in [0, 17] {
            let taken = requests(&[config(100), mvin(0x1000, rows, 16)], 30);
            assert_eq!(taken.len(), 16, "{rows} rows");
            assert_eq!(taken.last().map(|(cycle, r)| (*cycle, r.laddr.0)), Some((17, 0x2f)));
        }
    }

    #[test]
    fn a_load_completes_when_all_its_bytes_are_reported() {
        let mut controller = LoadController::new(&GemminiConfig::default16());
        let mut completed = Vec::new();
        for cycle in 0..12u64 {
            let cmd = [config(16), mvin(0x1000, 2, 16)].get(cycle as usize).copied().flatten();
            let response = (cycle == 5 || cycle == 8).then_some(ScratchpadReadResponse { bytes_read: 16, cmd_id: 0 });
            completed.extend(controller.completed().map(|id| (cycle, id)));
            let fires = controller.request().is_some();
            let _ = controller.tick(cmd, fires, response, true, &mut EventBuffer::default());
        }
        assert_eq!(completed, [(9, ROB_ID)]);
        assert!(!controller.busy());
    }

    #[test]
    fn a_third_load_stalls_on_the_command_tracker_and_a_refused_row_on_the_scratchpad() {
        use DmaControllerActivity::{Busy, Idle, Stalled};
        let mut controller = LoadController::new(&GemminiConfig::default16());
        let cmds = [config(16), mvin(0x1000, 2, 16), mvin(0x2000, 2, 16), mvin(0x3000, 2, 16)];
        let mut activities = Vec::new();
        for cycle in 0..10 {
            let (valid, accepts) = (controller.request().is_some(), cycle != 3);
            activities.push(controller.activity(valid, valid && accepts));
            let _ = controller.tick(
                cmds.get(cycle).copied().flatten(),
                valid && accepts,
                None,
                true,
                &mut EventBuffer::default(),
            );
        }
        assert_eq!(activities[..4], [Idle, Busy, Busy, Stalled(DmaControllerStall::Scratchpad)]);
        assert_eq!(activities[7..], [Stalled(DmaControllerStall::CommandTracker); 3]);
    }
}
