//! TileLink as the blocks around Gemmini speak it: five channels, and the buffer that stands between two blocks.
//!
//! Messages carry no data. The bytes of the system live once, in the memory behind the L2; caches hold tags and states, which is
//! all that time depends on.

/// Bytes of a cache line everywhere in the system (`CacheBlockBytes`).
pub const LINE_BYTES: u64 = 64;

/// Who asks on the system bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// The core's data cache: the only client that holds lines, so the only one that is probed.
    DCache,
    /// The core's instruction cache.
    ICache,
    /// Gemmini's DMA.
    Gemmini,
    /// The host outside.
    Host,
}

/// A transaction of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The client.
    pub client: Client,
    /// Its own number for the transaction.
    pub id: u16,
}

/// What an Acquire wants: N none, B to read, T to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grow {
    /// A line to read.
    NtoB,
    /// A line to write.
    NtoT,
    /// To write a line that the client holds to read.
    BtoT,
}

/// How much of a line a client keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap {
    /// Nothing.
    ToN,
    /// It may read.
    ToB,
    /// It may write.
    ToT,
}

/// Opcode on channel A.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AOp {
    /// Write of all bytes.
    PutFull,
    /// Write of masked bytes.
    PutPartial,
    /// Read without a copy.
    Get,
    /// A line for a cache.
    AcquireBlock(Grow),
}

impl AOp {
    /// The message carries data.
    pub fn has_data(self) -> bool {
        matches!(self, Self::PutFull | Self::PutPartial)
    }

    /// The message makes a client of the line.
    pub fn acquires(self) -> bool {
        matches!(self, Self::AcquireBlock(_))
    }
}

/// A beat on channel A.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeatA {
    /// Opcode.
    pub op: AOp,
    /// Transaction.
    pub source: Source,
    /// Address, aligned to the size.
    pub address: u64,
    /// Bytes of the transfer, a power of two.
    pub size: u32,
    /// First beat of the message.
    pub first: bool,
    /// Last beat of the message.
    pub last: bool,
    /// Which 8-byte words of the beat a Put changes.
    pub words: u8,
}

/// A probe on channel B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeatB {
    /// The line.
    pub address: u64,
    /// What the client may keep.
    pub cap: Cap,
}

/// Opcode on channel C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum COp {
    /// Answer to a probe.
    ProbeAck,
    /// A line given back.
    Release,
}

/// A beat on channel C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeatC {
    /// Opcode.
    pub op: COp,
    /// The line comes along, as it is dirty.
    pub data: bool,
    /// Transaction.
    pub source: Source,
    /// The line.
    pub address: u64,
    /// What the client keeps.
    pub keeps: Cap,
    /// Number of the beat.
    pub beat: u32,
    /// Last beat of the message.
    pub last: bool,
}

/// Opcode on channel D.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DOp {
    /// Answer to a Put.
    AccessAck,
    /// Answer to a Get.
    AccessAckData,
    /// Answer to an Acquire.
    Grant {
        /// With the line, not only the permission.
        data: bool,
        /// The client may write.
        writable: bool,
    },
    /// Answer to a Release.
    ReleaseAck,
}

/// A beat on channel D.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeatD {
    /// Opcode.
    pub op: DOp,
    /// Transaction that it answers.
    pub source: Source,
    /// Number of the beat within the answer.
    pub beat: u32,
    /// Last beat of the message.
    pub last: bool,
    /// The manager's number for the transaction, to be returned on channel E after a Grant.
    pub sink: u8,
}

/// A queue between two blocks, neither `pipe` nor `flow`; two entries are rocket-chip's `BufferParams.default`. All handshakes of a cycle
/// are worked out from its contents before the clock edge.
#[derive(Clone, Debug)]
pub struct Buffer<T, const DEPTH: usize = 2> {
    slots: [Option<T>; DEPTH],
    head: usize,
    len: usize,
}

impl<T: Copy, const DEPTH: usize> Default for Buffer<T, DEPTH> {
    fn default() -> Self {
        Self { slots: [None; DEPTH], head: 0, len: 0 }
    }
}

impl<T: Copy, const DEPTH: usize> Buffer<T, DEPTH> {
    /// There is room.
    #[inline]
    pub fn ready(&self) -> bool {
        self.len < DEPTH
    }

    /// The oldest entry.
    #[inline]
    pub fn front(&self) -> Option<&T> {
        if self.len == 0 { None } else { self.slots[self.head].as_ref() }
    }

    /// Entries in it.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Nothing is in it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Clock edge: removes the oldest entry, appends one.
    #[inline]
    pub fn tick(&mut self, taken: bool, entry: Option<T>) {
        if taken && self.len > 0 {
            self.head = (self.head + 1) % DEPTH;
            self.len -= 1;
        }
        if entry.is_some() {
            self.slots[(self.head + self.len) % DEPTH] = entry;
            self.len += 1;
        }
    }
}
