//! From each block's own activity to the common vocabulary.

use crate::dma::mvin_path::{MvinActivity, MvinStall};
use crate::dma::mvout_path::{MvoutActivity, MvoutStall};
use crate::execute::execute_controller::report::{ExecuteActivity, ExecuteStall};
use crate::front_end::DispatchActivity;
use crate::front_end::reservation_station::StationActivity;
use crate::front_end::unroller::{UnrollerActivity, UnrollerStall};
use crate::observation::activity::{Cause, Spent};
use crate::observation::dma_activity::{DmaControllerActivity, DmaControllerStall, DmaEngineActivity, DmaEngineStall};
use crate::observation::event::Unit;

impl From<UnrollerActivity> for Spent {
    fn from(activity: UnrollerActivity) -> Self {
        match activity {
            UnrollerActivity::Idle => Self::Idle,
            UnrollerActivity::Busy => Self::Busy,
            UnrollerActivity::Stalled(stall) => Self::Stalled(match stall {
                UnrollerStall::Output => Cause::OutputFull,
                UnrollerStall::InFlight(Unit::Ld) => Cause::LoadsInFlight,
                UnrollerStall::InFlight(Unit::Ex) => Cause::ExecutesInFlight,
                UnrollerStall::InFlight(Unit::St) => Cause::StoresInFlight,
                UnrollerStall::OtherPart => Cause::OtherPart,
                UnrollerStall::Turnover => Cause::Turnover,
            }),
        }
    }
}

impl From<DispatchActivity> for Spent {
    fn from(activity: DispatchActivity) -> Self {
        match activity {
            DispatchActivity::Idle => Self::Idle,
            DispatchActivity::Busy => Self::Busy,
            DispatchActivity::StationFull(Unit::Ld) => Self::Stalled(Cause::StationFullOfLoads),
            DispatchActivity::StationFull(Unit::Ex) => Self::Stalled(Cause::StationFullOfExecutes),
            DispatchActivity::StationFull(Unit::St) => Self::Stalled(Cause::StationFullOfStores),
            DispatchActivity::CounterResponse => Self::Stalled(Cause::CounterResponse),
        }
    }
}

impl From<StationActivity> for Spent {
    fn from(activity: StationActivity) -> Self {
        match activity {
            StationActivity::Idle => Self::Idle,
            StationActivity::Running => Self::Draining,
            StationActivity::Issues => Self::Busy,
            StationActivity::QueueFull => Self::Stalled(Cause::ControllerFull),
            StationActivity::WaitsFor(Unit::Ld) => Self::Stalled(Cause::AfterLoad),
            StationActivity::WaitsFor(Unit::Ex) => Self::Stalled(Cause::AfterExecute),
            StationActivity::WaitsFor(Unit::St) => Self::Stalled(Cause::AfterStore),
        }
    }
}

impl From<DmaControllerActivity> for Spent {
    fn from(activity: DmaControllerActivity) -> Self {
        match activity {
            DmaControllerActivity::Idle => Self::Idle,
            DmaControllerActivity::Draining => Self::Draining,
            DmaControllerActivity::Busy => Self::Busy,
            DmaControllerActivity::Stalled(DmaControllerStall::CommandTracker) => Self::Stalled(Cause::CommandTracker),
            DmaControllerActivity::Stalled(DmaControllerStall::Scratchpad) => Self::Stalled(Cause::RowRequest),
        }
    }
}

impl From<ExecuteActivity> for Spent {
    fn from(activity: ExecuteActivity) -> Self {
        match activity {
            ExecuteActivity::Idle => Self::Idle,
            ExecuteActivity::Draining => Self::Draining,
            ExecuteActivity::Busy => Self::Busy,
            ExecuteActivity::Stalled(stall) => Self::Stalled(match stall {
                ExecuteStall::NextCommand => Cause::NextCommand,
                ExecuteStall::Hazard => Cause::Hazard,
                ExecuteStall::Flush => Cause::Flush,
                ExecuteStall::Report => Cause::Report,
                ExecuteStall::BankConflict => Cause::BankConflict,
                ExecuteStall::BankBusy => Cause::BankBusy,
                ExecuteStall::ScratchpadRow => Cause::OperandRow,
                ExecuteStall::AccumulatorOperand => Cause::AccumulatorOperand,
                ExecuteStall::Mesh => Cause::MeshFull,
            }),
        }
    }
}

impl From<MvinActivity> for Spent {
    fn from(activity: MvinActivity) -> Self {
        match activity {
            MvinActivity::Idle => Self::Idle,
            MvinActivity::Busy => Self::Busy,
            MvinActivity::Stalled(MvinStall::Bank) => Self::Stalled(Cause::MvinBank),
            MvinActivity::Stalled(MvinStall::Scaler) => Self::Stalled(Cause::MvinScaler),
            MvinActivity::Stalled(MvinStall::Reader) => Self::Stalled(Cause::ReaderRequest),
        }
    }
}

impl From<MvoutActivity> for Spent {
    fn from(activity: MvoutActivity) -> Self {
        match activity {
            MvoutActivity::Idle => Self::Idle,
            MvoutActivity::Busy => Self::Busy,
            MvoutActivity::Stalled(stall) => Self::Stalled(match stall {
                MvoutStall::Writer => Cause::Writer,
                MvoutStall::ScaleUnit => Cause::ScaleUnit,
                MvoutStall::Normalizer => Cause::NormalizerBusy,
                MvoutStall::BankRead => Cause::BankRead,
                MvoutStall::BankOutput => Cause::BankOutput,
            }),
        }
    }
}

impl From<DmaEngineActivity> for Spent {
    fn from(activity: DmaEngineActivity) -> Self {
        match activity {
            DmaEngineActivity::Idle => Self::Idle,
            DmaEngineActivity::Busy => Self::Busy,
            DmaEngineActivity::Stalled(stall) => Self::Stalled(match stall {
                DmaEngineStall::Translation => Cause::Translation,
                DmaEngineStall::Port => Cause::MemoryPort,
                DmaEngineStall::Transactions => Cause::Transactions,
                DmaEngineStall::Memory => Cause::Memory,
                DmaEngineStall::Scratchpad => Cause::ScratchpadSide,
            }),
        }
    }
}
