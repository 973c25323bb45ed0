//! Instructions: from named operands to a command.

use pollux_isa::table::{FieldKind, FieldSpec, InstructionSpec, Requirement};
use pollux_isa::{Command, GemminiConfig, RoccCommand, StreamItem};

use crate::assembler::{Abort, Assembly, Eval};
use crate::ast::{Expr, ExprKind, Name, Operand};
use crate::diagnostic::Fault;
use crate::source::Span;
use crate::suggest::did_you_mean;
use crate::value::Value;

/// Operands of `raw` and their largest values.
const RAW_OPERANDS: [(&str, u64); 3] = [("funct", 127), ("rs1", u64::MAX), ("rs2", u64::MAX)];

impl Assembly<'_> {
    /// An instruction of the table.
    pub fn instruction(
        &mut self,
        spec: &'static InstructionSpec,
        name: &Name,
        operands: &[Operand],
        span: Span,
    ) -> Eval<()> {
        let config = self.config(span)?;
        if !spec.requires.is_met(&config) {
            return Err(self.not_in_build(spec.requires, name, &config));
        }
        // Every operand is looked at, so that all errors of the line are found.
        let mut values = Vec::new();
        let mut failed = Ok(());
        for (index, operand) in operands.iter().enumerate() {
            let value = self.once(&operands[..index], operand).and_then(|()| self.operand(&config, spec, operand));
            match value {
                Ok(value) => values.push(value),
                Err(Abort::Assembly) => return Err(Abort::Assembly),
                Err(abort) => failed = Err(abort),
            }
        }
        let is_given = |field: &FieldSpec| operands.iter().any(|operand| &*operand.name.text == field.name);
        let missing = spec.fields.iter().filter(|field| field.default.is_none() && !is_given(field));
        let missing: Vec<String> = missing.map(|field| format!("`{}`", field.name)).collect();
        // An unknown name was probably meant for a missing operand.
        let all_known = operands.iter().all(|operand| spec.field(&operand.name.text).is_some());
        if !missing.is_empty() && all_known {
            let message = format!("{} needs {}", spec.mnemonic, missing.join(", "));
            failed = Err(self.report(Fault::new(name.span, message)));
        }
        failed?;
        let command = Command::from_operands(&config, spec.mnemonic, &values).map_err(|error| error.to_string());
        let encoded = command.and_then(|command| command.encode(&config).map_err(|error| error.to_string()));
        match encoded {
            Ok(command) => self.emit(StreamItem::Command(command), span),
            Err(error) => Err(self.report(Fault::new(span, error))),
        }
    }

    fn not_in_build(&mut self, requires: Requirement, name: &Name, config: &GemminiConfig) -> Abort {
        let message = format!("configuration `{}` does not have {}", config.name, name.text);
        let help = format!("the instruction needs a configuration with {}", requires.condition());
        self.report(Fault::new(name.span, message).help(help))
    }

    /// Refuses an operand that the line has had already.
    fn once(&mut self, earlier: &[Operand], operand: &Operand) -> Eval<()> {
        match earlier.iter().find(|earlier| earlier.name.text == operand.name.text) {
            None => Ok(()),
            Some(earlier) => {
                let fault = Fault::new(operand.name.span, format!("operand `{}` is given twice", operand.name.text));
                Err(self.report(fault.also(earlier.name.span, "first here")))
            }
        }
    }

    fn operand(
        &mut self,
        config: &GemminiConfig,
        spec: &'static InstructionSpec,
        operand: &Operand,
    ) -> Eval<(&'static str, u64)> {
        let Operand { name, value } = operand;
        let Some(field) = spec.field(&name.text) else {
            return Err(self.unknown_operand(spec.mnemonic, name, spec.fields.iter().map(|field| field.name)));
        };
        let bits = match value {
            Some(expr) => self.field_bits(config, field, expr)?,
            None if field.kind == FieldKind::Flag => 1,
            None => return Err(self.no_value(name)),
        };
        let place = value.as_ref().map_or(name.span, |value| value.span);
        match field.check(config, spec.mnemonic, bits) {
            Ok(()) => Ok((field.name, bits)),
            Err(error) => Err(self.report(Fault::new(place, error.to_string()).help(field.meaning))),
        }
    }

    fn unknown_operand<'n>(
        &mut self,
        mnemonic: &str,
        name: &Name,
        names: impl Iterator<Item = &'n str> + Clone,
    ) -> Abort {
        let list: Vec<&str> = names.clone().collect();
        let fault = Fault::new(name.span, format!("{mnemonic} has no operand `{}`", name.text));
        let fault = fault.maybe_help(did_you_mean(&name.text, names));
        self.report(fault.help(format!("the operands of {mnemonic} are {}", list.join(", "))))
    }

    fn no_value(&mut self, name: &Name) -> Abort {
        let fault = Fault::new(name.span, format!("operand `{}` needs a value", name.text));
        self.report(fault.help(format!("write {}=VALUE", name.text)))
    }

    /// The bits of a value in a field.
    fn field_bits(&mut self, config: &GemminiConfig, field: &'static FieldSpec, expr: &Expr) -> Eval<u64> {
        if let (FieldKind::Named(_), ExprKind::Name(name)) = (field.kind, &expr.kind)
            && let Some(bits) = field.value_of(&name.text)
        {
            return Ok(bits);
        }
        let value = match (field.kind, &expr.kind) {
            // A name that is no value of the field: say what are, before it is looked up.
            (FieldKind::Named(names), ExprKind::Name(name)) if !self.is_known(name) => {
                let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
                let fault = Fault::new(expr.span, format!("`{}` is not a value of `{}`", name.text, field.name));
                let fault = fault.maybe_help(did_you_mean(&name.text, names.iter().copied()));
                return Err(self.report(fault.help(format!("the values are {}", names.join(", ")))));
            }
            _ => self.eval(expr)?,
        };
        match (field.kind, value) {
            (FieldKind::LocalAddress, Value::Local(address)) => Ok(address.0.into()),
            (FieldKind::LocalAddress, other) => {
                let message = format!("expected a local address, found {}", other.kind());
                let help = "a local address is a region, spad(ROW), acc(ROW) or garbage";
                Err(self.report(Fault::new(expr.span, message).help(help)))
            }
            (FieldKind::Float32, Value::Float32Bits(bits)) => Ok(bits.into()),
            (FieldKind::Float32, Value::Float(value)) => self.float32(value, expr.span),
            (FieldKind::Float32, Value::Int(value)) => self.float32(value as f64, expr.span),
            (FieldKind::Signed, Value::Int(value)) => self.signed(value, field.kept_bits(config), expr.span),
            (FieldKind::Float32, other) => Err(self.wrong_kind(expr.span, "a number", other)),
            (_, Value::Int(value)) => {
                let outside = || {
                    let allowed = field.allowed(config);
                    Fault::new(expr.span, format!("{} = {value} is not allowed: it must be {allowed}", field.name))
                };
                u64::try_from(value).map_err(|_| self.report(outside().help(field.meaning)))
            }
            (FieldKind::DramAddress, other) => {
                let message = format!("expected a main memory address, found {}", other.kind());
                let help = "a main memory address is a buffer, an element of one, or a number";
                Err(self.report(Fault::new(expr.span, message).help(help)))
            }
            (_, other) => Err(self.wrong_kind(expr.span, "a whole number", other)),
        }
    }

    fn float32(&mut self, value: f64, span: Span) -> Eval<u64> {
        let rounded = value as f32;
        if rounded.is_finite() || !value.is_finite() {
            return Ok(rounded.to_bits().into());
        }
        Err(self.report(Fault::new(span, format!("{value:e} is too large for a float32"))))
    }

    /// A number in two's complement of so many bits.
    fn signed(&mut self, value: i128, bits: u32, span: Span) -> Eval<u64> {
        let limit = 1i128 << (bits - 1);
        if (-limit..limit).contains(&value) {
            return Ok((value as u64) & ((1 << bits) - 1));
        }
        let message = format!("{value} is not allowed: it must be {} to {}", -limit, limit - 1);
        Err(self.report(Fault::new(span, message)))
    }

    /// A command given by its registers.
    pub fn raw(&mut self, operands: &[Operand], span: Span) -> Eval<()> {
        let mut values = [None; RAW_OPERANDS.len()];
        for (index, operand) in operands.iter().enumerate() {
            self.once(&operands[..index], operand)?;
            let name = &operand.name;
            let Some(position) = RAW_OPERANDS.iter().position(|(raw, _)| *raw == &*name.text) else {
                return Err(self.unknown_operand("raw", name, RAW_OPERANDS.iter().map(|(name, _)| *name)));
            };
            let expr = operand.value.as_ref().ok_or_else(|| self.no_value(name))?;
            let (value, limit) = (self.int(expr)?, RAW_OPERANDS[position].1);
            if !(0..=i128::from(limit)).contains(&value) {
                let message = format!("{} = {value} is not allowed: it must be 0 to {limit}", name.text);
                return Err(self.report(Fault::new(expr.span, message)));
            }
            values[position] = Some(value as u64);
        }
        match values {
            [Some(funct), Some(rs1), Some(rs2)] => {
                self.emit(StreamItem::Command(RoccCommand { funct: funct as u8, rs1, rs2 }), span)
            }
            _ => Err(self.report(Fault::new(span, "raw needs `funct`, `rs1` and `rs2`"))),
        }
    }
}
