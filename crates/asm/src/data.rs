//! Contents of buffers and writes: lists, formulas, files, hexadecimal digits.

use crate::assembler::{Assembly, Eval};
use crate::ast::{Data, Expr, Item, Name, Text};
use crate::diagnostic::Fault;
use crate::npy;
use crate::program::ElementType;
use crate::source::Span;
use crate::value::Value;

/// Longest header of an `.npy` file that is looked at, in bytes.
const MAX_NPY_HEADER: u64 = 1 << 16;

/// A type as text.
fn type_text(element: ElementType, shape: &[u64]) -> String {
    let extents: Vec<String> = shape.iter().map(u64::to_string).collect();
    format!("{}[{}]", element.name(), extents.join(", "))
}

impl Assembly<'_> {
    /// The bytes of data for a type, little endian. `ty` is where the type stands.
    pub fn bytes(&mut self, data: &Data, element: ElementType, shape: &[u64], ty: Span) -> Eval<Vec<u8>> {
        let len = shape.iter().try_fold(element.size(), |len, extent| len.checked_mul(*extent)).unwrap_or(u64::MAX);
        self.reserve(len, ty)?;
        let mut bytes = Vec::new();
        match data {
            Data::List(items, span) => self.list(items, *span, element, shape, &mut bytes)?,
            Data::Fill(value) => {
                let mut one = Vec::new();
                self.element(value, element, &mut one)?;
                bytes = one.repeat((len / element.size()) as usize);
            }
            Data::Each(indices, value, span) => {
                if indices.len() != shape.len() {
                    let message = format!("{} needs {} indices", type_text(element, shape), shape.len());
                    return Err(self.report(Fault::new(*span, message)));
                }
                self.each(indices, value, element, shape, &mut bytes)?;
            }
            Data::Npy(path) => bytes = self.npy(path, element, shape, len)?,
            Data::Raw(path) => bytes = self.raw_file(path, len)?,
            Data::Hex(text) => bytes = self.hex(text, len)?,
        }
        Ok(bytes)
    }

    /// Appends an element.
    fn element(&mut self, expr: &Expr, element: ElementType, bytes: &mut Vec<u8>) -> Eval<()> {
        let value = match self.eval(expr)? {
            Value::Int(value) => value,
            other @ Value::Float(_) => {
                let message = format!("expected a whole number, found {}", other.kind());
                return Err(self.report(Fault::new(expr.span, message).help("round(x) makes a whole number")));
            }
            other => return Err(self.wrong_kind(expr.span, "a whole number", other)),
        };
        self.number(value, expr.span, element, bytes)
    }

    /// Appends an element of this value.
    fn number(&mut self, value: i128, span: Span, element: ElementType, bytes: &mut Vec<u8>) -> Eval<()> {
        self.step(1, span)?;
        let (min, max) = element.limits();
        if !(min.into()..=max.into()).contains(&value) {
            let message = format!("{value} does not fit {}, which holds {min} to {max}", element.name());
            return Err(self.report(Fault::new(span, message)));
        }
        element.append(bytes, value as i64);
        Ok(())
    }

    /// Appends a list: nested as the shape is, or all elements in one list.
    fn list(
        &mut self,
        items: &[Item],
        span: Span,
        element: ElementType,
        shape: &[u64],
        bytes: &mut Vec<u8>,
    ) -> Eval<()> {
        let nested = items.iter().any(|item| matches!(item, Item::List(_)));
        let expected = if nested { shape.first().copied().unwrap_or(1) } else { shape.iter().product() };
        if items.len() as u64 != expected {
            let parts = if nested { "rows" } else { "elements" };
            let message =
                format!("the list has {} {parts}, but {} needs {expected}", items.len(), type_text(element, shape));
            return Err(self.report(Fault::new(span, message)));
        }
        for item in items {
            let place = match item {
                Item::Number(_, start, end) => Span { source: span.source, start: *start, end: *end },
                Item::Value(expr) => expr.span,
                Item::List(list) => list.1,
            };
            match item {
                Item::Number(value, ..) if !nested => self.number((*value).into(), place, element, bytes)?,
                Item::Value(expr) if !nested => self.element(expr, element, bytes)?,
                Item::List(list) if shape.len() > 1 => self.list(&list.0, list.1, element, &shape[1..], bytes)?,
                _ => {
                    let message = format!("the list is not nested as {}", type_text(element, shape));
                    return Err(self.report(Fault::new(place, message)));
                }
            }
        }
        Ok(())
    }

    /// Appends the values of a formula of the indices.
    fn each(
        &mut self,
        indices: &[Name],
        value: &Expr,
        element: ElementType,
        shape: &[u64],
        bytes: &mut Vec<u8>,
    ) -> Eval<()> {
        let ([name, names @ ..], [extent, extents @ ..]) = (indices, shape) else {
            return self.element(value, element, bytes);
        };
        for index in 0..*extent {
            self.step(1, name.span)?;
            let locals = self.locals.len();
            self.bind(name, Value::Int(index.into()))?;
            let result = self.each(names, value, element, extents, bytes);
            self.locals.truncate(locals);
            result?;
        }
        Ok(())
    }

    fn npy(&mut self, path: &Text, element: ElementType, shape: &[u64], len: u64) -> Eval<Vec<u8>> {
        let contents = self.read_file(path, len.saturating_add(MAX_NPY_HEADER))?;
        let array = npy::read(&contents)
            .map_err(|error| self.report(Fault::new(path.span, format!("`{}`: {error}", path.value))))?;
        if (array.element, &*array.shape) == (element, shape) {
            return Ok(array.data);
        }
        let (found, expected) = (type_text(array.element, &array.shape), type_text(element, shape));
        let message = format!("`{}` holds {found}, but the buffer is {expected}", path.value);
        Err(self.report(Fault::new(path.span, message)))
    }

    fn raw_file(&mut self, path: &Text, len: u64) -> Eval<Vec<u8>> {
        let contents = self.read_file(path, len)?;
        if contents.len() as u64 == len {
            return Ok(contents);
        }
        let message = format!("`{}` has {} bytes, but {len} are needed", path.value, contents.len());
        Err(self.report(Fault::new(path.span, message)))
    }

    fn hex(&mut self, text: &Text, len: u64) -> Eval<Vec<u8>> {
        let digits: Option<Vec<u8>> = text
            .value
            .chars()
            .filter(|c| !c.is_whitespace())
            .map(|c| c.to_digit(16).map(|digit| digit as u8))
            .collect();
        let bytes = digits
            .filter(|digits| digits.len() % 2 == 0)
            .map(|digits| -> Vec<u8> { digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect() });
        let problem = match bytes {
            None => "expected two hexadecimal digits for each byte".to_owned(),
            Some(bytes) if bytes.len() as u64 == len => return Ok(bytes),
            Some(bytes) => format!("these are {} bytes, but {len} are needed", bytes.len()),
        };
        Err(self.report(Fault::new(text.span, problem)))
    }
}
