//! What the blocks of the DMA side spend a cycle on, and why they wait: the causes behind the stall reports.

/// What a load or store controller did in a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DmaControllerActivity {
    /// No command.
    Idle,
    /// All commands have been turned into requests; their rows are still on their way.
    Draining,
    /// A row request was accepted, a configuration executed, or the one cycle passed that a command of one row costs more.
    Busy,
    /// A command waits.
    Stalled(DmaControllerStall),
}

/// Why a command of the load or store controller waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DmaControllerStall {
    /// All entries of the command tracker are taken by commands whose rows are on their way.
    CommandTracker,
    /// The scratchpad does not accept the row request.
    Scratchpad,
}

/// What a DMA engine did in a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DmaEngineActivity {
    /// No row and no transaction under way.
    Idle,
    /// A beat entered or left the engine.
    Busy,
    /// Nothing moved.
    Stalled(DmaEngineStall),
}

/// Why a DMA engine waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DmaEngineStall {
    /// The address is not translated yet: the TLB misses, or the other engine has it.
    Translation,
    /// A beat cannot leave: the buffers to the memory port are full.
    Port,
    /// All transactions are under way.
    Transactions,
    /// The memory has not answered.
    Memory,
    /// The scratchpad side does not take the data.
    Scratchpad,
}
