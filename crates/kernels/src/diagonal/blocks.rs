//! Diagonals in main memory, block by block.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::activation::Activation;
use crate::builder::ProgramBuilder;
use crate::error::KernelError;
use crate::view::View;

/// Which matrix a [`DiagonalTerm`](crate::DiagonalTerm) multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiagonalOperand {
    /// The first operand.
    Branch,
    /// The second operand.
    Residual,
}

/// Columns that are read out with one factor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnGroup {
    /// The columns.
    pub columns: Range<usize>,
    /// Factor of the read-out (LayerNorm: of the 1/deviation of the whole row).
    pub scale: f32,
}

/// A block of columns: at most DIM, all of one group.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub columns: Range<usize>,
    pub group: usize,
}

fn blocks(groups: &[ColumnGroup], dim: usize) -> Vec<Block> {
    let of_group = |(group, g): (usize, &ColumnGroup)| {
        let end = g.columns.end;
        let block = move |start| Block { columns: start..(start + dim).min(end), group };
        g.columns.clone().step_by(dim).map(block).collect::<Vec<_>>()
    };
    groups.iter().enumerate().flat_map(of_group).collect()
}

/// The diagonals of a sum in main memory, and how the sum is read out.
#[derive(Clone, Debug)]
pub(super) struct Diagonals {
    pub operands: Vec<DiagonalOperand>,
    /// Blocks of DIM x DIM: term t is block row t. None if there are no terms.
    pub diagonals: Option<View>,
    pub activation: Activation,
    pub scales: Vec<f32>,
    pub blocks: Vec<Block>,
}

impl Diagonals {
    pub fn place(
        builder: &mut ProgramBuilder,
        name: &str,
        columns: usize,
        terms: &[(DiagonalOperand, &[i8])],
        activation: Activation,
        groups: &[ColumnGroup],
    ) -> Result<Self, KernelError> {
        if let Some((_, diagonal)) = terms.iter().find(|(_, diagonal)| diagonal.len() != columns) {
            let what = format!("{name}.diagonals");
            return Err(KernelError::Length { what, found: diagonal.len(), expected: columns });
        }
        check_groups(name, groups, columns)?;
        let (dim, blocks) = (builder.dim(), blocks(groups, builder.dim()));
        let diagonals = match terms {
            [] => None,
            _ => {
                let data = diagonal_blocks(terms, dim, &blocks);
                let (rows, cols) = (terms.len() * dim, blocks.len() * dim);
                Some(builder.buffer_i8(&format!("{name}.diagonals"), rows, cols, &data)?)
            }
        };
        let operands = terms.iter().map(|&(operand, _)| operand).collect();
        let scales = groups.iter().map(|group| group.scale).collect();
        Ok(Self { operands, diagonals, activation, scales, blocks })
    }
}

/// The DIM x DIM blocks of every term's diagonal: term t is block row t.
fn diagonal_blocks(terms: &[(DiagonalOperand, &[i8])], dim: usize, blocks: &[Block]) -> Vec<i8> {
    let width = blocks.len() * dim;
    let mut data = vec![0; terms.len() * dim * width];
    for (t, (_, diagonal)) in terms.iter().enumerate() {
        for (b, block) in blocks.iter().enumerate() {
            for (at, column) in block.columns.clone().enumerate() {
                data[(t * dim + at) * width + b * dim + at] = diagonal[column];
            }
        }
    }
    data
}

fn check_groups(name: &str, groups: &[ColumnGroup], columns: usize) -> Result<(), KernelError> {
    let mut next = 0;
    let consecutive = groups.iter().all(|group| {
        let follows = group.columns.start == next && !group.columns.is_empty();
        next = group.columns.end;
        follows
    });
    if consecutive && next == columns {
        return Ok(());
    }
    let what = format!("it needs column groups that cover the {columns} columns in order");
    Err(KernelError::Parameter { operation: name.to_owned(), what })
}
