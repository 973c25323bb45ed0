//! Comparing the emulator with golden cases.
