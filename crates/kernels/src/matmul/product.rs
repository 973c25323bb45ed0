//! What a product is: its operands, its addend and its read-out.

use pollux_asm::program::ElementType;

use crate::activation::Activation;
use crate::schedule::MatmulShape;
use crate::view::View;

/// Load channels of the three operands.
pub(crate) const CHANNEL_A: u8 = 0;
pub(crate) const CHANNEL_B: u8 = 1;
pub(crate) const CHANNEL_D: u8 = 2;

/// What is added to the products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bias {
    /// Nothing.
    #[default]
    None,
    /// A matrix of C's shape, int32 or int8.
    Matrix(View),
    /// One row that is added to every row of C, int32 or int8.
    Row(View),
}

impl Bias {
    /// The matrix as the load sees it: a row has stride 0.
    pub(crate) fn view(&self) -> Option<View> {
        match *self {
            Self::None => None,
            Self::Matrix(view) => Some(view),
            Self::Row(view) => Some(View { stride: 0, ..view }),
        }
    }

    /// Whether it is int8 (`low_D`).
    pub(crate) fn is_low(&self) -> bool {
        self.view().is_some_and(|view| view.element == ElementType::I8)
    }
}

/// A matrix product and everything around it.
///
/// A is I x K, B is K x J, both int8; memory may hold one of them transposed. C is I x J, int8 or raw int32 (`full_C`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Matmul {
    /// First operand as memory holds it: I x K, or K x I with `a_transpose`.
    pub a: View,
    /// Second operand as memory holds it: K x J, or J x K with `b_transpose`.
    pub b: View,
    /// Addend.
    pub bias: Bias,
    /// Result.
    pub c: View,
    /// Whether memory holds A transposed.
    pub a_transpose: bool,
    /// Whether memory holds B transposed.
    pub b_transpose: bool,
    /// Factor of A's elements as they are loaded.
    pub a_scale: f32,
    /// Factor of B's elements as they are loaded.
    pub b_scale: f32,
    /// Factor of an int8 addend as it is loaded.
    pub bias_scale: f32,
    /// Factor of the read-out; not used for an int32 result.
    pub scale: f32,
    /// Activation of the read-out.
    pub activation: Activation,
}

impl Matmul {
    /// `C = A * B`, saturated to C's type.
    pub fn new(a: View, b: View, c: View) -> Self {
        Self {
            a,
            b,
            bias: Bias::None,
            c,
            a_transpose: false,
            b_transpose: false,
            a_scale: 1.0,
            b_scale: 1.0,
            bias_scale: 1.0,
            scale: 1.0,
            activation: Activation::None,
        }
    }

    /// What a schedule needs to know.
    pub fn shape(&self) -> MatmulShape {
        let (i, k) = if self.a_transpose { (self.a.cols, self.a.rows) } else { (self.a.rows, self.a.cols) };
        let j = if self.b_transpose { self.b.rows } else { self.b.cols };
        MatmulShape {
            i,
            j,
            k,
            a_transpose: self.a_transpose,
            b_transpose: self.b_transpose,
            full_c: self.is_full(),
            whole_rows: self.activation.normalizes(),
        }
    }

    /// Whether C is int32.
    pub(crate) fn is_full(&self) -> bool {
        self.c.element == ElementType::I32
    }
}
