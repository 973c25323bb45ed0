//! The tile: the core's two caches share its port to the system bus (`RocketTile.scala`, `tlMasterXbar`).

use crate::rocket::core::{PortInputs, PortOutputs};
use pollux_sim::uncore::hierarchy::{TileInputs, TilePort};
use pollux_sim::uncore::tilelink::{AOp, BeatA, Client, LINE_BYTES, Source};

/// The crossbar in front of the tile's buffers: round robin between the data and the instruction cache.
#[derive(Clone, Copy, Debug, Default)]
pub struct TileBus {
    /// The instruction cache went last.
    icache_last: bool,
}

impl TileBus {
    /// What the core sees of the port. Which cache may send does not depend on whether the other does.
    pub fn inputs(&self, port: &TilePort, dcache: bool, icache: bool) -> PortInputs {
        let ready = port.a.ready();
        let dcache_wins = dcache && (!icache || self.icache_last);
        let d = port.d.front().copied();
        PortInputs {
            dcache_a_ready: ready && dcache_wins,
            icache_a_ready: ready && icache && !dcache_wins,
            c_ready: port.c.ready(),
            b: port.b.front().copied(),
            dcache_d: d.filter(|beat| beat.source.client == Client::DCache),
            icache_d: d.filter(|beat| beat.source.client == Client::ICache),
        }
    }

    /// Clock edge: what goes into the tile's buffers.
    pub fn tick(&mut self, inputs: &PortInputs, outputs: &PortOutputs) -> TileInputs {
        let dcache = outputs.dcache_a.filter(|_| inputs.dcache_a_ready);
        let icache = outputs.icache_a.filter(|_| inputs.icache_a_ready).map(|address| BeatA {
            op: AOp::Get,
            source: Source { client: Client::ICache, id: 0 },
            address,
            size: LINE_BYTES as u32,
            first: true,
            last: true,
            words: 0,
        });
        if dcache.is_some() || icache.is_some() {
            self.icache_last = icache.is_some();
        }
        TileInputs {
            a: dcache.or(icache),
            b_taken: outputs.b_taken,
            c: outputs.c.filter(|_| inputs.c_ready),
            d_taken: outputs.d_taken,
            e: outputs.e,
        }
    }
}
