//! Assembly text as a tree. The types are small, because the body of a block may have millions of lines.

use std::sync::Arc;

use crate::source::Span;

/// A name where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Name {
    /// Shared by all places of the name.
    pub text: Arc<str>,
    /// In backquotes, so that it cannot be taken for anything but a symbol.
    pub quoted: bool,
    pub span: Span,
}

/// A string where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Text {
    pub value: String,
    pub span: Span,
}

/// A statement where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Statement {
    pub kind: StatementKind,
    pub span: Span,
}

/// Statements between a header and its `end`.
pub(crate) type Block = Vec<Statement>;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StatementKind {
    /// `config NAME`, `config "FILE"`, `config toml "TEXT"`.
    Config(ConfigSource),
    /// `include "FILE"`.
    Include(Text),
    /// `const NAME = VALUE`.
    Const(Box<(Name, Expr)>),
    /// `buffer NAME: TYPE[...] at ADDRESS overlay = DATA`.
    Buffer(Box<BufferStatement>),
    /// `expect NAME = DATA`.
    Expect(Box<(Name, Data)>),
    /// `spad NAME[ROWS] at ROW`, `acc NAME[ROWS] at ROW`.
    Region(Box<RegionStatement>),
    /// `macro NAME PARAMETERS` ... `end`.
    Macro(Arc<Macro>),
    /// `repeat INDEX in FIRST..END step STEP` ... `end`.
    Repeat(Box<RepeatStatement>),
    /// `if CONDITION` ... `else` ... `end`.
    If(Box<IfStatement>),
    /// `fence`.
    Fence,
    /// `wait CYCLES`.
    Wait(Box<Expr>),
    /// `mark "NAME"`.
    Mark(Text),
    /// `write ADDRESS: TYPE[...] = DATA`.
    Write(Box<WriteStatement>),
    /// An instruction, `raw`, or the use of a macro.
    Invoke(Name, Box<[Operand]>),
    /// Text that could not be read, and the name that it would have declared.
    Broken(Option<Name>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ConfigSource {
    Named(Name),
    File(Text),
    Toml(Text),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BufferStatement {
    pub name: Name,
    pub ty: TypeExpr,
    pub place: Option<Expr>,
    pub overlay: bool,
    pub data: Option<Data>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RegionStatement {
    pub name: Name,
    pub accumulator: bool,
    pub rows: Expr,
    pub place: Option<Expr>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RepeatStatement {
    pub index: Option<Name>,
    pub first: Option<Expr>,
    pub end: Expr,
    pub step: Option<Expr>,
    pub body: Block,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct IfStatement {
    pub condition: Expr,
    pub then: Block,
    pub otherwise: Block,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WriteStatement {
    pub address: Expr,
    pub ty: TypeExpr,
    pub data: Data,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Macro {
    pub name: Name,
    pub parameters: Vec<Parameter>,
    pub body: Block,
}

/// A macro's parameter: `NAME` or `NAME=DEFAULT`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parameter {
    pub name: Name,
    pub default: Option<Expr>,
}

/// An element type and a shape: `i8[M, N]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TypeExpr {
    pub element: Name,
    pub shape: Vec<Expr>,
    pub span: Span,
}

/// `NAME=VALUE`, or `NAME` alone for a flag.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Operand {
    pub name: Name,
    pub value: Option<Expr>,
}

/// Contents of a buffer or of a write.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Data {
    List(Vec<Item>, Span),
    Fill(Expr),
    Each(Vec<Name>, Expr, Span),
    Npy(Text),
    Raw(Text),
    Hex(Text),
}

/// An element of a list. A list may have millions of numbers, so these take no tree.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Item {
    /// A number, and where it begins and ends in its list's source.
    Number(i64, u32, u32),
    Value(Box<Expr>),
    List(Box<(Vec<Item>, Span)>),
}

/// An expression where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expr {
    pub kind: ExprKind,
    pub span: Span,
    /// Levels of the tree; the parser bounds it, so that walking it cannot overflow the stack.
    pub height: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ExprKind {
    Int(u64),
    Float(f64),
    Name(Name),
    /// `NAME.ATTRIBUTE`.
    Attribute(Box<(Name, Name)>),
    /// `NAME[I, J]`.
    Index(Box<(Name, Box<[Expr]>)>),
    /// `FUNCTION(X, Y)`.
    Call(Box<(Name, Box<[Expr]>)>),
    Unary(&'static str, Box<Expr>),
    Binary(&'static str, Box<(Expr, Expr)>),
    /// `CONDITION ? A : B`.
    Choice(Box<[Expr; 3]>),
}
