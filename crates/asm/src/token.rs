//! Tokens of assembly text.

use crate::diagnostic::{Fault, MAX_FAULTS};
use crate::source::Span;

/// What a token is. Names borrow from the text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TokenKind<'t> {
    /// A plain name: keyword, mnemonic, operand or symbol.
    Name(&'t str),
    /// A name in backquotes: always a symbol.
    Quoted(&'t str),
    /// A whole number.
    Int(u64),
    /// A number with a point or an exponent.
    Float(f64),
    /// A string, its escapes replaced.
    Text(String),
    /// An operator or bracket.
    Sign(&'static str),
    /// What is no token; it has been reported.
    Wrong,
    /// End of a line.
    Newline,
    /// End of the text.
    End,
}

/// A token and its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token<'t> {
    pub kind: TokenKind<'t>,
    pub span: Span,
}

/// Operators and brackets; one that begins with another comes first.
const SIGNS: [&str; 33] = [
    "..", "==", "!=", "<=", ">=", "<<", ">>", "&&", "||", "=", "<", ">", "!", "&", "|", "^", "~", "+", "-", "*", "/",
    "%", "?", ":", ",", ".", "(", ")", "[", "]", "{", "}", ";",
];

/// Whether a plain name can begin with the character.
fn begins_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

/// Whether a plain name can continue with the character.
fn continues_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether the text has the form of a plain name.
pub(crate) fn is_plain_name(text: &str) -> bool {
    text.starts_with(begins_name) && text.chars().all(continues_name)
}

/// Divides a text into tokens, one at a time.
pub(crate) struct Lexer<'t> {
    source: u32,
    text: &'t str,
    position: usize,
    /// The text has ended, and its last line with it.
    ended: bool,
    /// What was no token, to be taken by who reads the tokens.
    pub faults: Vec<Fault>,
}

impl<'t> Lexer<'t> {
    pub fn new(source: u32, text: &'t str) -> Self {
        Self { source, text, position: 0, ended: false, faults: Vec::new() }
    }

    /// The next token; at the end of the text a newline, since the last line need not have one, then
    /// [`TokenKind::End`] for ever.
    pub fn next(&mut self) -> Token<'t> {
        self.token().unwrap_or_else(|| {
            let kind = if self.ended { TokenKind::End } else { TokenKind::Newline };
            self.ended = true;
            Token { kind, span: self.span(self.text.len()) }
        })
    }

    /// Leaves out the rest of the text.
    pub fn skip_to_end(&mut self) {
        self.position = self.text.len();
    }

    fn report(&mut self, fault: Fault) {
        // More are not shown.
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.position..]
    }

    /// The span from `start` to the current position.
    fn span(&self, start: usize) -> Span {
        Span { source: self.source, start: start as u32, end: self.position as u32 }
    }

    /// Takes characters while the condition holds.
    fn take(&mut self, condition: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let len = rest.find(|c| !condition(c)).unwrap_or(rest.len());
        self.position += len;
        &rest[..len]
    }

    fn token(&mut self) -> Option<Token<'t>> {
        self.skip_blanks();
        let start = self.position;
        let first = self.rest().chars().next()?;
        let kind = match first {
            '\n' => {
                self.position += 1;
                Some(TokenKind::Newline)
            }
            '"' => self.string(),
            '`' => self.quoted_name(),
            _ if begins_name(first) => Some(TokenKind::Name(self.take(continues_name))),
            _ if first.is_ascii_digit() => self.number(),
            _ => self.sign(first),
        };
        Some(Token { kind: kind.unwrap_or(TokenKind::Wrong), span: self.span(start) })
    }

    /// Skips blanks, remarks, and a backslash with the newline behind it.
    fn skip_blanks(&mut self) {
        loop {
            self.take(|c| matches!(c, ' ' | '\t' | '\r'));
            if self.rest().starts_with('#') {
                self.take(|c| c != '\n');
            } else if let Some(continued) = ["\\\n", "\\\r\n"].into_iter().find(|s| self.rest().starts_with(s)) {
                self.position += continued.len();
            } else {
                return;
            }
        }
    }

    fn sign(&mut self, first: char) -> Option<TokenKind<'t>> {
        if let Some(sign) = SIGNS.into_iter().find(|sign| self.rest().starts_with(sign)) {
            self.position += sign.len();
            return Some(TokenKind::Sign(sign));
        }
        let start = self.position;
        self.position += first.len_utf8();
        let fault = Fault::new(self.span(start), format!("unexpected character {first:?}"));
        self.report(match first {
            '\'' => fault.help("strings are written in double quotes"),
            '\\' => fault.help("a backslash joins lines only as the last character of a line"),
            _ => fault.help("a name with such characters is written in backquotes"),
        });
        None
    }

    fn quoted_name(&mut self) -> Option<TokenKind<'t>> {
        let start = self.position;
        self.position += 1;
        let name = self.take(|c| c != '`' && c != '\n');
        if !self.rest().starts_with('`') {
            self.report(Fault::new(self.span(start), "the backquoted name does not end on this line"));
            return None;
        }
        self.position += 1;
        if name.is_empty() || name.contains(char::is_control) {
            let message = "a name in backquotes must not be empty, nor contain control characters";
            self.report(Fault::new(self.span(start), message));
            return None;
        }
        Some(TokenKind::Quoted(name))
    }

    fn number(&mut self) -> Option<TokenKind<'t>> {
        let start = self.position;
        let digits = self.take(continues_name);
        let lower = digits.to_ascii_lowercase();
        let radix = [("0x", 16), ("0o", 8), ("0b", 2)].into_iter().find(|(prefix, _)| lower.starts_with(prefix));
        if let Some((prefix, radix)) = radix {
            let value = i128::from_str_radix(&lower[prefix.len()..].replace('_', ""), radix).ok();
            return self.int(start, value.filter(|_| !lower[prefix.len()..].starts_with('+')));
        }
        let fraction = self.rest().strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        if fraction {
            self.position += 1;
            self.take(continues_name);
        }
        // The sign of an exponent, and its digits.
        let exponent = self.text[start..self.position].ends_with(['e', 'E']);
        if exponent && self.rest().starts_with(['+', '-']) {
            self.position += 1;
            self.take(continues_name);
        }
        let number = self.text[start..self.position].replace('_', "");
        if fraction || exponent || number.contains(['e', 'E']) {
            let value = number.parse().ok().filter(|value: &f64| value.is_finite());
            if value.is_none() {
                self.report(Fault::new(self.span(start), format!("`{number}` is not a number")));
            }
            return value.map(TokenKind::Float);
        }
        let value = number.parse().ok();
        self.int(start, value)
    }

    fn int(&mut self, start: usize, value: Option<i128>) -> Option<TokenKind<'t>> {
        let text = &self.text[start..self.position];
        let problem = match value {
            Some(value) if u64::try_from(value).is_ok() => return Some(TokenKind::Int(value as u64)),
            None if !is_long_number(text) => format!("`{text}` is not a number"),
            _ => format!("`{text}` does not fit 64 bits"),
        };
        self.report(Fault::new(self.span(start), problem));
        None
    }

    fn string(&mut self) -> Option<TokenKind<'t>> {
        if self.rest().starts_with("\"\"\"") {
            return self.long_string();
        }
        let start = self.position;
        self.position += 1;
        let mut value = String::new();
        loop {
            value.push_str(self.take(|c| !matches!(c, '"' | '\\' | '\n')));
            match self.rest().chars().next() {
                Some('"') => {
                    self.position += 1;
                    return Some(TokenKind::Text(value));
                }
                Some('\\') => value.push(self.escape()),
                _ => {
                    let fault = Fault::new(self.span(start), "the string does not end on this line");
                    self.report(fault.help("text over several lines stands between three double quotes"));
                    return None;
                }
            }
        }
    }

    /// An escape sequence; a wrong one is reported and stands for itself.
    fn escape(&mut self) -> char {
        let start = self.position;
        self.position += 1;
        let letter = self.rest().chars().next().unwrap_or('\n');
        let simple = match letter {
            '"' | '\\' => Some(letter),
            'n' => Some('\n'),
            't' => Some('\t'),
            'r' => Some('\r'),
            '0' => Some('\0'),
            _ => None,
        };
        if let Some(c) = simple {
            self.position += 1;
            return c;
        }
        if let Some(rest) = self.rest().strip_prefix("u{")
            && let Some((digits, _)) = rest.split_once('}')
            && digits.len() <= 6
            && let Some(c) = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)
        {
            self.position += "u{}".len() + digits.len();
            return c;
        }
        let fault = Fault::new(self.span(start), "unknown escape in a string");
        self.report(fault.help("the escapes are \\\" \\\\ \\n \\r \\t \\0 and \\u{HEX}"));
        '\\'
    }

    /// Text between three double quotes, as it stands.
    fn long_string(&mut self) -> Option<TokenKind<'t>> {
        let start = self.position;
        let Some(len) = self.rest()[3..].find("\"\"\"") else {
            self.position += 3;
            let span = self.span(start);
            self.position = self.text.len();
            self.report(Fault::new(span, "the text that begins here has no closing three double quotes"));
            return None;
        };
        let value = self.rest()[3..3 + len].to_owned();
        self.position += len + 6;
        Some(TokenKind::Text(value))
    }
}

/// Whether a text consists of digits, so that it is a number, however large.
fn is_long_number(text: &str) -> bool {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', b'o' | b'O', ..] => (&text[2..], 8),
        [b'0', b'b' | b'B', ..] => (&text[2..], 2),
        _ => (text, 10),
    };
    digits.contains(|c: char| c.is_digit(radix)) && digits.chars().all(|c| c == '_' || c.is_digit(radix))
}

/// A string literal for a text, quotes included.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push_str(&format!("\\u{{{:x}}}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The tokens before the last newline, and what was none.
    fn read(text: &str) -> (Vec<TokenKind<'_>>, Vec<Fault>) {
        let mut lexer = Lexer::new(0, text);
        let mut kinds: Vec<_> =
            std::iter::from_fn(|| Some(lexer.next().kind).filter(|kind| *kind != TokenKind::End)).collect();
        assert_eq!(kinds.pop(), Some(TokenKind::Newline));
        (kinds, lexer.faults)
    }

    fn kinds(text: &str) -> Vec<TokenKind<'_>> {
        let (kinds, faults) = read(text);
        assert!(faults.is_empty(), "{faults:?}");
        kinds
    }

    #[test]
    fn a_range_is_not_a_fraction() {
        use TokenKind::{Float, Int, Sign};
        assert_eq!(kinds("0..4"), [Int(0), Sign(".."), Int(4)]);
        assert_eq!(kinds("0.5 1e-3 2E4 7e+1"), [Float(0.5), Float(1e-3), Float(2e4), Float(70.0)]);
        assert_eq!(kinds("0x1_F 0b101 0o17 1_000"), [Int(31), Int(5), Int(15), Int(1000)]);
    }

    #[test]
    fn remarks_and_joined_lines_leave_no_newline() {
        assert_eq!(kinds("a \\\n b # c\n"), [TokenKind::Name("a"), TokenKind::Name("b"), TokenKind::Newline]);
    }

    #[test]
    fn what_is_no_token_is_reported() {
        for text in [
            "§",
            "'",
            "\\ ",
            "\"a",
            "\"\"\"a",
            "`a",
            "``",
            "0x",
            "0b2",
            "1x",
            "0x1_0000_0000_0000_0000",
            "1e999",
            "\"\\q\"",
        ] {
            assert!(!read(text).1.is_empty(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_quoted_text_is_read_back(text in any::<String>()) {
            let literal = quote(&text);
            prop_assert_eq!(kinds(&literal), [TokenKind::Text(text)]);
        }
    }
}
