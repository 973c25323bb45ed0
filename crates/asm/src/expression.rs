//! Evaluation of expressions: names, elements of buffers, rows of regions, functions.

use pollux_isa::values::NormCmd;
use pollux_isa::{GemminiConfig, LocalAddr};

use crate::assembler::{Abort, Assembly, Eval, Symbol, region_address};
use crate::ast::{Expr, ExprKind, Name};
use crate::diagnostic::Fault;
use crate::program::{Buffer, LocalRegion};
use crate::source::Span;
use crate::suggest::did_you_mean;
use crate::value::{self, Value, memory_of};

/// A name of the language.
pub(crate) struct Builtin {
    pub name: &'static str,
    pub value: fn(&GemminiConfig) -> Value,
    /// For the manual.
    pub meaning: &'static str,
}

const fn builtin(name: &'static str, value: fn(&GemminiConfig) -> Value, meaning: &'static str) -> Builtin {
    Builtin { name, value, meaning }
}

/// The names of the language.
pub(crate) const BUILTINS: [Builtin; 5] = [
    builtin("DIM", |c| Value::Int(c.dim().into()), "rows and columns of the array"),
    builtin("SP_ROWS", |c| Value::Int(c.sp_rows().into()), "rows of the scratchpad"),
    builtin("ACC_ROWS", |c| Value::Int(c.acc_rows().into()), "rows of the accumulator"),
    builtin("MAX_COLS", |c| Value::Int(c.max_move_cols().into()), "columns that one `mvin` or `mvout` can move"),
    builtin("garbage", |_| Value::Local(LocalAddr::GARBAGE), "the local address of nothing"),
];

/// A function: name, arguments, and meaning for the manual.
pub(crate) struct Function {
    pub name: &'static str,
    pub arguments: &'static str,
    pub meaning: &'static str,
}

const fn function(name: &'static str, arguments: &'static str, meaning: &'static str) -> Function {
    Function { name, arguments, meaning }
}

/// The functions of the language.
pub(crate) const FUNCTIONS: [Function; 13] = [
    function("spad", "row", "a scratchpad row"),
    function("acc", "row", "an accumulator row"),
    function("local", "bits", "a local address by its 32 bits"),
    function("accumulate", "address, when = 1", "the accumulator address, with writes that add (if `when` is not 0)"),
    function("full", "address, when = 1", "the accumulator address, read at full width (if `when` is not 0)"),
    function("norm", "address, command", "the accumulator address with a normalization command"),
    function("f32bits", "bits", "a scale by the bits of its float32"),
    function("min", "x, ...", "the smallest"),
    function("max", "x, ...", "the largest"),
    function("abs", "x", "without the sign"),
    function("ceil_div", "x, y", "x / y rounded up, for y > 0"),
    function("round", "x", "to the nearest whole number, halves to even"),
    function("trunc", "x", "to a whole number, toward zero"),
];

/// The names and functions of the language as Markdown tables, for the manual.
pub fn reference_markdown() -> String {
    let mut out = String::from("| name | value |\n|---|---|\n");
    for Builtin { name, meaning, .. } in &BUILTINS {
        out.push_str(&format!("| `{name}` | {meaning} |\n"));
    }
    out.push_str("\n| function | value |\n|---|---|\n");
    for Function { name, arguments, meaning } in &FUNCTIONS {
        out.push_str(&format!("| `{name}({arguments})` | {meaning} |\n"));
    }
    out
}

/// Values.
impl Assembly<'_> {
    /// The value of an expression.
    pub fn eval(&mut self, expr: &Expr) -> Eval<Value> {
        match &expr.kind {
            ExprKind::Int(value) => Ok(Value::Int((*value).into())),
            ExprKind::Float(value) => Ok(Value::Float(*value)),
            ExprKind::Name(name) => self.name_value(name),
            ExprKind::Attribute(parts) => self.attribute(&parts.0, &parts.1),
            ExprKind::Index(parts) => {
                self.parts(parts.1.len(), expr.span)?;
                self.index(&parts.0, &parts.1, expr.span)
            }
            ExprKind::Call(parts) => {
                self.parts(parts.1.len(), expr.span)?;
                self.call(&parts.0, &parts.1, expr.span)
            }
            ExprKind::Unary(sign, operand) => {
                let operand = self.eval(operand)?;
                value::unary(sign, operand).map_err(|problem| self.report(Fault::new(expr.span, problem)))
            }
            ExprKind::Binary(sign @ ("&&" | "||"), operands) => {
                self.parts(1, expr.span)?;
                // The right side is evaluated only if the left one leaves the answer open.
                let left = self.int(&operands.0)? != 0;
                let result = if left == (*sign == "&&") { self.int(&operands.1)? != 0 } else { left };
                Ok(Value::Int(result.into()))
            }
            ExprKind::Binary(sign, operands) => {
                self.parts(1, expr.span)?;
                let (left, right) = (self.eval(&operands.0)?, self.eval(&operands.1)?);
                let result = match (left, right) {
                    (Value::Int(left), Value::Int(right)) => value::int(sign, left, right),
                    _ => value::binary(self.config(expr.span)?.layout(), sign, left, right),
                };
                result.map_err(|problem| self.report(Fault::new(expr.span, problem)))
            }
            ExprKind::Choice(parts) => {
                let [condition, then, otherwise] = &**parts;
                if self.int(condition)? != 0 { self.eval(then) } else { self.eval(otherwise) }
            }
        }
    }

    /// A whole number.
    pub fn int(&mut self, expr: &Expr) -> Eval<i128> {
        match self.eval(expr)? {
            Value::Int(value) => Ok(value),
            other => Err(self.wrong_kind(expr.span, "a whole number", other)),
        }
    }

    /// A whole number of 64 bits.
    pub fn unsigned(&mut self, expr: &Expr, what: &str) -> Eval<u64> {
        let value = self.int(expr)?;
        let outside = || Fault::new(expr.span, format!("{value} is not {what}: it must be 0 to {}", u64::MAX));
        u64::try_from(value).map_err(|_| self.report(outside()))
    }

    pub fn wrong_kind(&mut self, span: Span, expected: &str, found: Value) -> Abort {
        self.report(Fault::new(span, format!("expected {expected}, found {}", found.kind())))
    }
}

/// Names.
impl Assembly<'_> {
    fn name_value(&mut self, name: &Name) -> Eval<Value> {
        if let Some((_, value)) = self.locals[self.frame..].iter().rfind(|(local, _)| local.text == name.text) {
            return Ok(*value);
        }
        match self.symbols.get(&name.text) {
            Some((Symbol::Const(value), _)) => Ok(*value),
            Some((Symbol::Buffer(index), _)) => Ok(Value::Int(self.buffers[*index].address.into())),
            Some((Symbol::Region(index), _)) => Ok(Value::Local(region_address(&self.regions[*index]))),
            Some((Symbol::Broken, _)) => Err(Abort::Statement),
            Some((Symbol::Macro(_), _)) => {
                Err(self.report(Fault::new(name.span, format!("`{}` is a macro, not a value", name.text))))
            }
            None => match BUILTINS.iter().find(|builtin| builtin.name == &*name.text) {
                Some(builtin) => Ok((builtin.value)(&*self.config(name.span)?)),
                None => Err(self.unknown_name(name)),
            },
        }
    }

    fn unknown_name(&mut self, name: &Name) -> Abort {
        if self.is_reported(name.span) {
            return Abort::Statement;
        }
        let locals = self.locals[self.frame..].iter().map(|(local, _)| &*local.text);
        let symbols = self.symbols.keys().map(|symbol| &**symbol);
        let builtins = BUILTINS.iter().map(|builtin| builtin.name);
        let help = did_you_mean(&name.text, locals.chain(symbols).chain(builtins));
        let fault = Fault::new(name.span, format!("`{}` is not declared above", name.text));
        self.report(fault.maybe_help(help))
    }

    /// Whether the name has a value here.
    pub fn is_known(&self, name: &Name) -> bool {
        self.locals[self.frame..].iter().any(|(local, _)| local.text == name.text)
            || self.symbols.contains_key(&name.text)
            || BUILTINS.iter().any(|builtin| builtin.name == &*name.text)
    }

    /// The buffer or region of a name.
    fn memory(&mut self, name: &Name) -> Eval<Place> {
        match self.symbols.get(&name.text) {
            Some((Symbol::Buffer(index), _)) => Ok(Place::Buffer(*index)),
            Some((Symbol::Region(index), _)) => Ok(Place::Region(*index)),
            Some((Symbol::Broken, _)) => Err(Abort::Statement),
            Some(_) => {
                let message = format!("`{}` is neither a buffer nor a region", name.text);
                Err(self.report(Fault::new(name.span, message)))
            }
            None => Err(self.unknown_name(name)),
        }
    }

    fn attribute(&mut self, name: &Name, attribute: &Name) -> Eval<Value> {
        let memory = self.memory(name)?;
        let value = match memory {
            Place::Buffer(index) => buffer_attribute(&self.buffers[index], &attribute.text),
            Place::Region(index) => region_attribute(&self.regions[index], &attribute.text),
        };
        value.map(Value::Int).ok_or_else(|| {
            let help = match memory {
                Place::Buffer(_) => "the attributes of a buffer are rows, cols, stride and bytes",
                Place::Region(_) => "the attributes of a region are rows and first",
            };
            let message = format!("`{}` has no attribute `{}`", name.text, attribute.text);
            self.report(Fault::new(attribute.span, message).help(help))
        })
    }

    fn index(&mut self, name: &Name, indices: &[Expr], span: Span) -> Eval<Value> {
        match self.memory(name)? {
            Place::Buffer(buffer) => self.element_address(buffer, name, indices, span),
            Place::Region(region) => {
                let [index] = indices else {
                    return Err(self.report(Fault::new(span, format!("`{}` takes one index, a row", name.text))));
                };
                let row = self.inside(name, index, self.regions[region].rows.into())? as u32;
                Ok(Value::Local(LocalAddr(region_address(&self.regions[region]).0 + row)))
            }
        }
    }

    /// The address of an element, or of the part of a buffer that the first indices select.
    fn element_address(&mut self, buffer: usize, name: &Name, indices: &[Expr], span: Span) -> Eval<Value> {
        let rank = self.buffers[buffer].shape.len();
        if indices.is_empty() || indices.len() > rank {
            return Err(self.report(Fault::new(span, format!("`{}` takes up to {rank} indices", name.text))));
        }
        let mut address = self.buffers[buffer].address;
        for (dimension, index) in indices.iter().enumerate() {
            let position = self.inside(name, index, self.buffers[buffer].shape[dimension])?;
            let Buffer { shape, element, .. } = &self.buffers[buffer];
            address += position * shape[dimension + 1..].iter().product::<u64>() * element.size();
        }
        Ok(Value::Int(address.into()))
    }

    /// An index below the extent.
    fn inside(&mut self, name: &Name, index: &Expr, extent: u64) -> Eval<u64> {
        let value = self.int(index)?;
        if (0..i128::from(extent)).contains(&value) {
            return Ok(value as u64);
        }
        let message = format!("index {value} is outside of `{}`, whose extent here is {extent}", name.text);
        Err(self.report(Fault::new(index.span, message).label(format!("this is {value}"))))
    }
}

/// A buffer or region, by index.
#[derive(Clone, Copy)]
enum Place {
    Buffer(usize),
    Region(usize),
}

fn buffer_attribute(buffer: &Buffer, attribute: &str) -> Option<i128> {
    let cols = i128::from(buffer.shape.last().copied().unwrap_or(1));
    match attribute {
        "rows" => Some(buffer.shape.split_last().map_or(1, |(_, outer)| outer.iter().product::<u64>().into())),
        "cols" => Some(cols),
        "stride" => Some(cols * i128::from(buffer.element.size())),
        "bytes" => Some(buffer.len().into()),
        _ => None,
    }
}

fn region_attribute(region: &LocalRegion, attribute: &str) -> Option<i128> {
    match attribute {
        "rows" => Some(region.rows.into()),
        "first" => Some(region.row.into()),
        _ => None,
    }
}

/// Functions.
impl Assembly<'_> {
    fn call(&mut self, name: &Name, arguments: &[Expr], span: Span) -> Eval<Value> {
        if &*name.text == "norm"
            && let [address, Expr { kind: ExprKind::Name(command), .. }] = arguments
        {
            return self.norm(address, command);
        }
        let values = arguments.iter().map(|argument| self.eval(argument)).collect::<Eval<Vec<Value>>>()?;
        let result = match (&*name.text, &*values) {
            ("spad", [Value::Int(row)]) => return self.row(*row, false, arguments[0].span),
            ("acc", [Value::Int(row)]) => return self.row(*row, true, arguments[0].span),
            ("accumulate", [Value::Local(address)]) => self.on_accumulator(*address, LocalAddr::with_accumulate, span),
            ("full", [Value::Local(address)]) => self.on_accumulator(*address, LocalAddr::with_full, span),
            ("accumulate" | "full", [value @ Value::Local(_), Value::Int(0)]) => Ok(Some(*value)),
            ("accumulate", [Value::Local(address), Value::Int(_)]) => {
                self.on_accumulator(*address, LocalAddr::with_accumulate, span)
            }
            ("full", [Value::Local(address), Value::Int(_)]) => {
                self.on_accumulator(*address, LocalAddr::with_full, span)
            }
            ("local", [Value::Int(bits)]) => Ok(u32::try_from(*bits).ok().map(|bits| Value::Local(LocalAddr(bits)))),
            ("f32bits", [Value::Int(bits)]) => Ok(u32::try_from(*bits).ok().map(Value::Float32Bits)),
            (function, values) => Ok(number_function(function, values)),
        };
        result?.ok_or_else(|| self.wrong_call(name, span))
    }

    fn wrong_call(&mut self, name: &Name, span: Span) -> Abort {
        let fault = match FUNCTIONS.iter().find(|function| function.name == &*name.text) {
            Some(Function { name, arguments, .. }) => {
                Fault::new(span, format!("wrong arguments for `{name}`")).help(format!("write {name}({arguments})"))
            }
            None => {
                let help = did_you_mean(&name.text, FUNCTIONS.iter().map(|function| function.name));
                Fault::new(name.span, format!("there is no function `{}`", name.text)).maybe_help(help)
            }
        };
        self.report(fault)
    }

    fn row(&mut self, row: i128, accumulator: bool, span: Span) -> Eval<Value> {
        let (memory, rows) = memory_of(self.config(span)?.layout(), accumulator);
        if !(0..i128::from(rows)).contains(&row) {
            let message = format!("row {row} is outside of the {memory}, which has {rows} rows");
            return Err(self.report(Fault::new(span, message)));
        }
        let row = row as u32;
        Ok(Value::Local(if accumulator { LocalAddr::accumulator(row) } else { LocalAddr::scratchpad(row) }))
    }

    fn on_accumulator(
        &mut self,
        address: LocalAddr,
        change: impl Fn(LocalAddr) -> LocalAddr,
        span: Span,
    ) -> Eval<Option<Value>> {
        let layout = self.config(span)?.layout();
        if address.is_acc() && !address.is_garbage(layout) {
            return Ok(Some(Value::Local(change(address))));
        }
        Err(self.report(Fault::new(span, "only an accumulator address has this property")))
    }

    fn norm(&mut self, address: &Expr, command: &Name) -> Eval<Value> {
        let span = address.span;
        let address = match self.eval(address)? {
            Value::Local(address) => address,
            other => return Err(self.wrong_kind(span, "a local address", other)),
        };
        let names = NormCmd::NAMES.iter().map(|(name, _)| *name);
        let Some((_, code)) = NormCmd::NAMES.iter().find(|(name, _)| *name == &*command.text) else {
            let list: Vec<&str> = names.clone().collect();
            let fault = Fault::new(command.span, format!("there is no normalization command `{}`", command.text));
            return Err(self.report(fault.help(format!("the commands are {}", list.join(", ")))));
        };
        let command = <NormCmd as pollux_isa::values::Bits>::from_bits(*code);
        let result = self.on_accumulator(address, |address| address.with_norm_cmd(command), span)?;
        result.ok_or(Abort::Statement)
    }
}

/// The functions on numbers; nothing if the arguments do not fit.
fn number_function(function: &str, values: &[Value]) -> Option<Value> {
    match (function, values) {
        ("abs", [Value::Int(value)]) => value.checked_abs().map(Value::Int),
        ("abs", [Value::Float(value)]) => Some(Value::Float(value.abs())),
        ("round" | "trunc", [Value::Int(value)]) => Some(Value::Int(*value)),
        ("trunc", [Value::Float(value)]) if value.is_finite() => Some(Value::Int(*value as i128)),
        ("round", [Value::Float(value)]) if value.is_finite() => Some(Value::Int(value.round_ties_even() as i128)),
        ("ceil_div", [Value::Int(value), Value::Int(divisor)]) if *divisor > 0 => {
            Some(Value::Int(value.div_euclid(*divisor) + i128::from(value.rem_euclid(*divisor) != 0)))
        }
        ("min" | "max", [first, rest @ ..]) => rest.iter().try_fold(*first, |best, value| {
            let better = if function == "min" { value::less(*value, best)? } else { value::less(best, *value)? };
            Some(if better { *value } else { best })
        }),
        _ => None,
    }
}
