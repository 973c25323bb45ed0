//! Tests that need several crates. The book's chapters stand here so that their examples are tests, too.

/// Arithmetic.
#[cfg(doctest)]
#[doc = include_str!("../../docs/src/numerics.md")]
struct Numerics;

/// Operations as commands.
#[cfg(doctest)]
#[doc = include_str!("../../docs/src/kernels.md")]
struct Kernels;

/// Models.
#[cfg(doctest)]
#[doc = include_str!("../../docs/src/models.md")]
struct Models;

/// Networks.
#[cfg(doctest)]
#[doc = include_str!("../../docs/src/networks.md")]
struct Networks;
