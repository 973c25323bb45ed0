//! pollux-kernels
