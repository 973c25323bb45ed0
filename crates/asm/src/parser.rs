//! From assembly text to its tree: recursive descent over lines, precedence climbing over expressions.
//!
//! A line that cannot be read is reported, becomes [`StatementKind::Broken`], and reading goes on with the next line.
//! One statement is read at a time, so that a long text is never in memory as a tree.

use std::collections::HashSet;
use std::sync::Arc;

use crate::ast::{
    Block, BufferStatement, ConfigSource, Data, Expr, ExprKind, IfStatement, Item, Macro, Name, Operand, Parameter,
    RegionStatement, RepeatStatement, Statement, StatementKind, Text, TypeExpr, WriteStatement,
};
use crate::diagnostic::{Fault, MAX_FAULTS};
use crate::source::Span;
use crate::token::{Lexer, Token, TokenKind};

/// Words that begin a statement.
pub(crate) const KEYWORDS: [&str; 17] = [
    "config", "include", "const", "buffer", "expect", "spad", "acc", "macro", "repeat", "if", "else", "end", "fence",
    "wait", "mark", "write", "raw",
];

/// Levels of blocks and of nested lists.
const MAX_NESTING: u32 = 64;

/// Levels of an expression's tree.
const MAX_HEIGHT: u32 = 128;

/// Parameters of a macro.
const MAX_PARAMETERS: usize = 256;

/// Words behind which a statement has the name that it declares.
const DECLARATIONS: [&str; 5] = ["const", "buffer", "spad", "acc", "macro"];

/// Binary operators by rising precedence; all associate to the left.
const BINARY: [&[&str]; 9] = [
    &["||"],
    &["&&"],
    &["==", "!=", "<", "<=", ">", ">="],
    &["|"],
    &["^"],
    &["&"],
    &["<<", ">>"],
    &["+", "-"],
    &["*", "/", "%"],
];

type Parse<T> = Result<T, Fault>;

/// Reads the statements of a text.
pub(crate) struct Parser<'t> {
    lexer: Lexer<'t>,
    /// The first token that is not taken.
    current: Token<'t>,
    /// The one behind it, if it has been looked at.
    ahead: Option<Token<'t>>,
    /// Where the last token stands that was taken.
    previous: Span,
    /// Tokens taken that were none; they have been reported.
    wrong: u64,
    nesting: u32,
    /// The names so far, each once.
    names: HashSet<Arc<str>>,
    faults: Vec<Fault>,
}

/// The text as a whole.
impl<'t> Parser<'t> {
    pub fn new(source: u32, text: &'t str) -> Self {
        let mut lexer = Lexer::new(source, text);
        let current = lexer.next();
        let previous = Span { source, start: 0, end: 0 };
        let (ahead, names, faults) = (None, HashSet::new(), Vec::new());
        Self { lexer, current, ahead, previous, wrong: 0, nesting: 0, names, faults }
    }

    /// The next statement outside of blocks, with the blocks in it.
    pub fn next_statement(&mut self) -> Option<Statement> {
        self.skip_newlines();
        (self.current.kind != TokenKind::End).then(|| self.line())
    }

    /// What was wrong since the last call.
    pub fn take_faults(&mut self) -> impl Iterator<Item = Fault> {
        std::mem::take(&mut self.lexer.faults).into_iter().chain(std::mem::take(&mut self.faults))
    }

    fn report(&mut self, fault: Fault) {
        self.faults.push(fault);
        if self.faults.len() >= MAX_FAULTS {
            self.lexer.skip_to_end();
        }
    }
}

/// Tokens.
impl<'t> Parser<'t> {
    fn peek(&self) -> &Token<'t> {
        &self.current
    }

    fn next(&mut self) -> Token<'t> {
        let following = self.ahead.take().unwrap_or_else(|| self.lexer.next());
        let token = std::mem::replace(&mut self.current, following);
        self.previous = token.span;
        self.wrong += u64::from(token.kind == TokenKind::Wrong);
        token
    }

    /// The token behind the current one.
    fn peek_ahead(&mut self) -> &Token<'t> {
        self.ahead.get_or_insert_with(|| self.lexer.next())
    }

    /// The name that a token is.
    fn symbol(&mut self, kind: &TokenKind<'t>, span: Span) -> Option<Name> {
        let (text, quoted) = match *kind {
            TokenKind::Name(text) => (text, false),
            TokenKind::Quoted(text) => (text, true),
            _ => return None,
        };
        Some(Name { text: self.shared(text), quoted, span })
    }

    fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(name) = self.names.get(text) {
            return name.clone();
        }
        let name: Arc<str> = text.into();
        self.names.insert(name.clone());
        name
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(self.peek().kind, TokenKind::Sign(s) if s == sign)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek().kind, TokenKind::Name(name) if name == word)
    }

    fn eat_sign(&mut self, sign: &str) -> bool {
        let found = self.is_sign(sign);
        if found {
            self.next();
        }
        found
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        if found {
            self.next();
        }
        found
    }

    fn sign(&mut self, sign: &str) -> Parse<Span> {
        let span = self.peek().span;
        if self.eat_sign(sign) { Ok(span) } else { Err(self.unexpected(&format!("`{sign}`"))) }
    }

    fn unexpected(&self, expected: &str) -> Fault {
        let token = self.peek();
        let found = match &token.kind {
            TokenKind::Name(name) => format!("`{name}`"),
            TokenKind::Quoted(name) => format!("`{name}`"),
            TokenKind::Int(_) | TokenKind::Float(_) => "a number".to_owned(),
            TokenKind::Text(_) => "a string".to_owned(),
            TokenKind::Sign(sign) => format!("`{sign}`"),
            TokenKind::Wrong => "what is no word".to_owned(),
            TokenKind::Newline => "the end of the line".to_owned(),
            TokenKind::End => "the end of the text".to_owned(),
        };
        Fault::new(token.span, format!("expected {expected}, found {found}")).label(format!("expected {expected}"))
    }

    fn name(&mut self, what: &str) -> Parse<Name> {
        if !matches!(self.current.kind, TokenKind::Name(_) | TokenKind::Quoted(_)) {
            return Err(self.unexpected(what));
        }
        let token = self.next();
        self.symbol(&token.kind, token.span).ok_or_else(|| self.unexpected(what))
    }

    fn text(&mut self, what: &str) -> Parse<Text> {
        if !matches!(self.current.kind, TokenKind::Text(_)) {
            return Err(self.unexpected(&format!("{what} in double quotes")));
        }
        let Token { kind, span } = self.next();
        let value = if let TokenKind::Text(value) = kind { value } else { String::new() };
        Ok(Text { value, span })
    }

    fn skip_newlines(&mut self) {
        while self.peek().kind == TokenKind::Newline {
            self.next();
        }
    }

    fn skip_line(&mut self) {
        while !matches!(self.peek().kind, TokenKind::Newline | TokenKind::End) {
            self.next();
        }
    }

    /// The span from a start to the token before the current one.
    fn since(&self, start: Span) -> Span {
        start.to(self.previous)
    }
}

/// Lines and blocks.
impl Parser<'_> {
    /// Statements up to one of the words, which is taken, or to the end of the text; the word's index.
    fn block(&mut self, terminators: &[&str]) -> (Block, Option<usize>) {
        let mut block = Vec::new();
        loop {
            self.skip_newlines();
            if self.peek().kind == TokenKind::End {
                return (block, None);
            }
            if let Some(index) = terminators.iter().position(|word| self.eat_word(word)) {
                return (block, Some(index));
            }
            block.push(self.line());
        }
    }

    fn line(&mut self) -> Statement {
        let (start, wrong) = (self.current.span, self.wrong);
        let declared = self.declared();
        let statement = self.statement().and_then(|statement| {
            if self.peek().kind == TokenKind::Newline { Ok(statement) } else { Err(self.trailing(&statement.kind)) }
        });
        statement.unwrap_or_else(|fault| {
            self.skip_line();
            // A token that is wrong in itself has been reported, and the rest follows from it.
            if self.wrong == wrong {
                self.report(fault);
            }
            Statement { kind: StatementKind::Broken(declared), span: self.since(start) }
        })
    }

    fn trailing(&self, statement: &StatementKind) -> Fault {
        let fault = self.unexpected("the end of the line");
        match statement {
            StatementKind::Invoke(..) if self.is_sign(",") => fault.help("operands are separated by spaces"),
            StatementKind::Invoke(..) => fault.help("operands are written NAME=VALUE"),
            _ => fault,
        }
    }

    /// The name that the line which begins here declares, as far as can be told.
    fn declared(&mut self) -> Option<Name> {
        if !matches!(self.current.kind, TokenKind::Name(word) if DECLARATIONS.contains(&word)) {
            return None;
        }
        let Token { kind, span } = self.peek_ahead().clone();
        self.symbol(&kind, span)
    }

    fn statement(&mut self) -> Parse<Statement> {
        let start = self.peek().span;
        let TokenKind::Name(word) = self.peek().kind else {
            return Err(self.unexpected("an instruction or a directive"));
        };
        self.next();
        let kind = match word {
            "config" => StatementKind::Config(self.config_source()?),
            "include" => {
                self.outside_blocks(start, "included text")?;
                StatementKind::Include(self.text("a file name")?)
            }
            "const" => {
                let name = self.name("a name")?;
                self.sign("=")?;
                StatementKind::Const(Box::new((name, self.expr()?)))
            }
            "buffer" => self.buffer(start)?,
            "expect" => {
                let name = self.name("the name of a buffer")?;
                self.sign("=")?;
                StatementKind::Expect(Box::new((name, self.data()?)))
            }
            "spad" | "acc" => self.region(start, word == "acc")?,
            "macro" => self.macro_definition(start)?,
            "repeat" => self.repeat(start)?,
            "if" => self.condition(start)?,
            "fence" => StatementKind::Fence,
            "wait" => StatementKind::Wait(Box::new(self.expr()?)),
            "mark" => StatementKind::Mark(self.text("a name")?),
            "write" => {
                let address = self.expr()?;
                self.sign(":")?;
                let ty = self.type_expr()?;
                self.sign("=")?;
                StatementKind::Write(Box::new(WriteStatement { address, ty, data: self.data()? }))
            }
            "end" | "else" => {
                let help = "`end` closes a `repeat`, `if` or `macro`; `else` stands in an `if`";
                return Err(Fault::new(start, format!("`{word}` without a block that it could belong to")).help(help));
            }
            _ => {
                let name = Name { text: self.shared(word), quoted: false, span: start };
                StatementKind::Invoke(name, self.operands()?.into_boxed_slice())
            }
        };
        Ok(Statement { kind, span: self.since(start) })
    }

    fn config_source(&mut self) -> Parse<ConfigSource> {
        match self.peek().kind {
            TokenKind::Text(_) => Ok(ConfigSource::File(self.text("a file name")?)),
            TokenKind::Name("toml") => {
                self.next();
                Ok(ConfigSource::Toml(self.text("a configuration")?))
            }
            _ => Ok(ConfigSource::Named(self.name("the name of a configuration or a file name in double quotes")?)),
        }
    }

    /// Declarations with global effect stand outside of blocks.
    fn outside_blocks(&self, start: Span, what: &str) -> Parse<()> {
        if self.nesting == 0 {
            return Ok(());
        }
        let message = format!("{what} cannot stand inside a `repeat`, `if` or `macro`");
        Err(Fault::new(start, message).help("move it before the block"))
    }

    fn buffer(&mut self, start: Span) -> Parse<StatementKind> {
        self.outside_blocks(start, "a buffer")?;
        let name = self.name("a name")?;
        self.sign(":")?;
        let ty = self.type_expr()?;
        let place = if self.eat_word("at") { Some(self.expr()?) } else { None };
        let overlay = place.is_some() && self.eat_word("overlay");
        let data = if self.eat_sign("=") { Some(self.data()?) } else { None };
        Ok(StatementKind::Buffer(Box::new(BufferStatement { name, ty, place, overlay, data })))
    }

    fn region(&mut self, start: Span, accumulator: bool) -> Parse<StatementKind> {
        self.outside_blocks(start, "a region")?;
        let name = self.name("a name")?;
        self.sign("[")?;
        let rows = self.expr()?;
        self.sign("]")?;
        let place = if self.eat_word("at") { Some(self.expr()?) } else { None };
        Ok(StatementKind::Region(Box::new(RegionStatement { name, accumulator, rows, place })))
    }

    fn type_expr(&mut self) -> Parse<TypeExpr> {
        let element = self.name("an element type")?;
        self.sign("[")?;
        let shape = self.list("]", Self::expr)?;
        let span = self.since(element.span);
        Ok(TypeExpr { element, shape, span })
    }

    fn operands(&mut self) -> Parse<Vec<Operand>> {
        let mut operands = Vec::new();
        while let TokenKind::Name(_) | TokenKind::Quoted(_) = self.peek().kind {
            let name = self.name("an operand")?;
            let value = if self.eat_sign("=") { Some(self.expr()?) } else { None };
            operands.push(Operand { name, value });
        }
        Ok(operands)
    }

    /// Reads a block behind its header. If the header is wrong, the block is read all the same, to find its end.
    fn body(&mut self, start: Span, header_ends: bool, terminators: &[&str]) -> Parse<(Block, Option<usize>)> {
        if self.nesting == MAX_NESTING {
            return Err(Fault::new(start, format!("blocks are nested more than {MAX_NESTING} deep")));
        }
        if !header_ends {
            self.skip_line();
        }
        self.nesting += 1;
        let (block, terminator) = self.block(terminators);
        self.nesting -= 1;
        if terminator.is_none() {
            return Err(Fault::new(start, "this block has no `end`").label("begins here"));
        }
        Ok((block, terminator))
    }

    /// A header, its end of line, and the block behind it.
    fn headed<T>(
        &mut self,
        start: Span,
        header: impl FnOnce(&mut Self) -> Parse<T>,
        terminators: &[&str],
    ) -> Parse<(T, Block, Option<usize>)> {
        let header = header(self).and_then(|header| {
            if self.peek().kind == TokenKind::Newline {
                Ok(header)
            } else {
                Err(self.unexpected("the end of the line"))
            }
        });
        let body = self.body(start, header.is_ok(), terminators);
        match (header, body) {
            (Ok(header), Ok((block, terminator))) => Ok((header, block, terminator)),
            (Err(fault), _) | (_, Err(fault)) => Err(fault),
        }
    }

    fn macro_definition(&mut self, start: Span) -> Parse<StatementKind> {
        let outside = self.outside_blocks(start, "a macro");
        let ((name, parameters), body, _) = self.headed(start, Self::macro_header, &["end"])?;
        outside?;
        Ok(StatementKind::Macro(Arc::new(Macro { name, parameters, body })))
    }

    fn macro_header(&mut self) -> Parse<(Name, Vec<Parameter>)> {
        let name = self.name("a name")?;
        let mut parameters = Vec::new();
        while self.peek().kind != TokenKind::Newline {
            let name = self.name("a parameter")?;
            let default = if self.eat_sign("=") { Some(self.expr()?) } else { None };
            if parameters.len() == MAX_PARAMETERS {
                return Err(Fault::new(name.span, format!("a macro has at most {MAX_PARAMETERS} parameters")));
            }
            parameters.push(Parameter { name, default });
        }
        Ok((name, parameters))
    }

    fn repeat(&mut self, start: Span) -> Parse<StatementKind> {
        let (mut statement, body, _) = self.headed(start, Self::repeat_header, &["end"])?;
        statement.body = body;
        Ok(StatementKind::Repeat(Box::new(statement)))
    }

    fn repeat_header(&mut self) -> Parse<RepeatStatement> {
        let has_index = self.peek_ahead().kind == TokenKind::Name("in");
        let index = if has_index { Some(self.name("an index")?) } else { None };
        if has_index {
            self.next();
        }
        let (mut first, mut end) = (None, self.expr()?);
        if self.eat_sign("..") {
            first = Some(std::mem::replace(&mut end, self.expr()?));
        } else if has_index {
            return Err(self.unexpected("`..`").help("a range is written FIRST..END; END is not part of it"));
        }
        let step = if self.eat_word("step") { Some(self.expr()?) } else { None };
        Ok(RepeatStatement { index, first, end, step, body: Vec::new() })
    }

    fn condition(&mut self, start: Span) -> Parse<StatementKind> {
        let (condition, then, terminator) = self.headed(start, Self::expr, &["end", "else"])?;
        let otherwise = match terminator {
            Some(1) => self.headed(start, |_| Ok(()), &["end"])?.1,
            _ => Vec::new(),
        };
        Ok(StatementKind::If(Box::new(IfStatement { condition, then, otherwise })))
    }
}

/// Data.
impl Parser<'_> {
    fn data(&mut self) -> Parse<Data> {
        let start = self.peek().span;
        if self.is_sign("[") {
            let (items, span) = self.item_list()?;
            return Ok(Data::List(items, span));
        }
        let TokenKind::Name(word @ ("fill" | "each" | "npy" | "raw" | "hex")) = self.peek().kind else {
            return Err(self.unexpected("data").help("data are a list in brackets, or fill, each, npy, raw or hex"));
        };
        self.next();
        Ok(match word {
            "fill" => Data::Fill(self.expr()?),
            "each" => {
                let mut indices = vec![self.name("an index")?];
                while self.eat_sign(",") {
                    indices.push(self.name("an index")?);
                }
                self.sign(":")?;
                let value = self.expr()?;
                Data::Each(indices, value, self.since(start))
            }
            "npy" => Data::Npy(self.text("a file name")?),
            "raw" => Data::Raw(self.text("a file name")?),
            _ => Data::Hex(self.text("hexadecimal digits")?),
        })
    }

    fn item_list(&mut self) -> Parse<(Vec<Item>, Span)> {
        let start = self.sign("[")?;
        if self.nesting == MAX_NESTING {
            return Err(Fault::new(start, format!("lists are nested more than {MAX_NESTING} deep")));
        }
        self.nesting += 1;
        let items = self.list("]", |parser| {
            if parser.is_sign("[") {
                parser.item_list().map(|list| Item::List(Box::new(list)))
            } else {
                parser.expr().map(item)
            }
        });
        self.nesting -= 1;
        Ok((items?, self.since(start)))
    }

    /// Things separated by commas up to a closing bracket, possibly over several lines; a last comma is allowed.
    fn list<T>(&mut self, close: &str, item: impl Fn(&mut Self) -> Parse<T>) -> Parse<Vec<T>> {
        let open = self.previous;
        let mut items = Vec::new();
        loop {
            self.skip_newlines();
            if self.eat_sign(close) {
                return Ok(items);
            }
            items.push(item(self)?);
            self.skip_newlines();
            if !self.eat_sign(",") && !self.is_sign(close) {
                return Err(self.unexpected(&format!("`,` or `{close}`")).also(open, "the bracket opened here"));
            }
        }
    }
}

/// Expressions. `depth` counts the calls that are not finished, `height` the levels of the tree so far.
impl Parser<'_> {
    fn expr(&mut self) -> Parse<Expr> {
        self.choice(0)
    }

    /// A node over parts of this height.
    fn node(&self, start: Span, height: u32, kind: ExprKind) -> Parse<Expr> {
        let span = self.since(start);
        if height >= MAX_HEIGHT { Err(too_deep(span)) } else { Ok(Expr { kind, span, height: height + 1 }) }
    }

    fn choice(&mut self, depth: u32) -> Parse<Expr> {
        let condition = self.binary(0, depth)?;
        if !self.eat_sign("?") {
            return Ok(condition);
        }
        let start = condition.span;
        let then = self.choice(depth + 1)?;
        self.sign(":")?;
        let otherwise = self.choice(depth + 1)?;
        let height = condition.height.max(then.height).max(otherwise.height);
        self.node(start, height, ExprKind::Choice(Box::new([condition, then, otherwise])))
    }

    /// Operators of at least this precedence.
    fn binary(&mut self, lowest: usize, depth: u32) -> Parse<Expr> {
        let mut left = self.unary(depth)?;
        while let TokenKind::Sign(sign) = self.peek().kind
            && let Some(precedence) = BINARY.iter().position(|operators| operators.contains(&sign))
            && precedence >= lowest
        {
            self.next();
            let right = self.binary(precedence + 1, depth + 1)?;
            let (start, height) = (left.span, left.height.max(right.height));
            left = self.node(start, height, ExprKind::Binary(sign, Box::new((left, right))))?;
        }
        Ok(left)
    }

    fn unary(&mut self, depth: u32) -> Parse<Expr> {
        let start = self.peek().span;
        if depth >= MAX_HEIGHT {
            return Err(too_deep(start));
        }
        if let TokenKind::Sign(sign @ ("-" | "~" | "!")) = self.peek().kind {
            self.next();
            let operand = self.unary(depth + 1)?;
            return self.node(start, operand.height, ExprKind::Unary(sign, Box::new(operand)));
        }
        self.primary(depth)
    }

    fn primary(&mut self, depth: u32) -> Parse<Expr> {
        let start = self.current.span;
        let kind = match &self.current.kind {
            TokenKind::Int(value) => ExprKind::Int(*value),
            TokenKind::Float(value) => ExprKind::Float(*value),
            TokenKind::Name(_) | TokenKind::Quoted(_) => {
                let name = self.name("a name")?;
                return self.named(name, depth);
            }
            TokenKind::Sign("(") => {
                self.next();
                let inner = self.choice(depth + 1)?;
                self.sign(")")?;
                return Ok(Expr { span: self.since(start), ..inner });
            }
            _ => return Err(self.unexpected("a value")),
        };
        self.next();
        self.node(start, 0, kind)
    }

    /// A name and what can follow it: an attribute, indices or arguments.
    fn named(&mut self, name: Name, depth: u32) -> Parse<Expr> {
        let start = name.span;
        if self.eat_sign(".") {
            let attribute = self.name("an attribute")?;
            return self.node(start, 0, ExprKind::Attribute(Box::new((name, attribute))));
        }
        let part = |parser: &mut Self| parser.choice(depth + 1);
        let height = |parts: &[Expr]| parts.iter().map(|part| part.height).max().unwrap_or(0);
        if self.eat_sign("[") {
            let indices = self.list("]", part)?;
            self.node(start, height(&indices), ExprKind::Index(Box::new((name, indices.into_boxed_slice()))))
        } else if self.eat_sign("(") {
            let arguments = self.list(")", part)?;
            self.node(start, height(&arguments), ExprKind::Call(Box::new((name, arguments.into_boxed_slice()))))
        } else {
            self.node(start, 0, ExprKind::Name(name))
        }
    }
}

/// An element of a list; a plain number in its small form.
fn item(expr: Expr) -> Item {
    let number = match &expr.kind {
        ExprKind::Int(value) => i64::try_from(*value).ok(),
        ExprKind::Unary("-", operand) => match operand.kind {
            ExprKind::Int(value) => i64::try_from(value).ok().map(|value| -value),
            _ => None,
        },
        _ => None,
    };
    match number {
        Some(value) => Item::Number(value, expr.span.start, expr.span.end),
        None => Item::Value(Box::new(expr)),
    }
}

fn too_deep(span: Span) -> Fault {
    Fault::new(span, "the expression is nested too deeply").help("give parts of it a name with `const`")
}
