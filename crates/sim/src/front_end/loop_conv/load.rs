//! What the three load parts have in common: they configure their channel, then load.

use pollux_isa::fields::ConfigLd;
use pollux_isa::values::Scale;
use pollux_isa::{Command, RoccCommand};

use crate::front_end::geometry::{Geometry, mask};
use crate::parts::canonical::Canonical;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Canonical)]
pub(super) enum LoadState {
    #[default]
    Idle,
    Config,
    Load,
}

/// CONFIG_LD of a channel, with the identity scale (`MVIN_SCALE_IDENTITY`).
pub(super) fn config_ld(
    geometry: &Geometry,
    channel: u8,
    block_stride: u16,
    pixel_repeats: u8,
    stride: u64,
) -> RoccCommand {
    let fields = ConfigLd {
        shrink: false,
        state_id: channel,
        pixel_repeats: pixel_repeats & mask(geometry.pixel_repeats_bits) as u8,
        block_stride: block_stride & mask(geometry.block_stride_bits) as u16,
        scale: Scale::IDENTITY,
        stride,
    };
    Command::ConfigLd(fields).to_rocc()
}
