//! What is wrong with a program's text: where, why, and what would be right.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{LabeledSpan, MietteSpanContents, SourceCode};
use thiserror::Error;

use crate::source::{NotText, SourceFile, Sources, Span};

/// Errors after which an assembly stops.
pub(crate) const MAX_FAULTS: usize = 50;
/// Bytes of a line before and behind an error that are drawn, and of the error's place itself.
const DRAWN_AROUND: usize = 400;
const MAX_LABEL: usize = 1000;
/// Characters of a message or remark, which may quote the text.
const MAX_MESSAGE: usize = 4000;

/// One error in assembly text. It implements [`miette::Diagnostic`], so that `miette` can draw it.
#[derive(Debug, Clone, Error)]
#[error("{message}")]
pub struct Diagnostic {
    /// What is wrong.
    pub message: String,
    /// The file.
    pub file: Arc<SourceFile>,
    /// Where; the first label is the error's own place.
    pub labels: Vec<Label>,
    /// What would be right, or how to find out.
    pub help: Option<String>,
}

/// A remark on a range of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Bytes of the file.
    pub span: Range<usize>,
    /// The remark, possibly empty.
    pub text: String,
}

impl Diagnostic {
    /// Line and column (in characters) of the error, both from 1.
    pub fn position(&self) -> (usize, usize) {
        let offset = self.labels.first().map_or(0, |label| label.span.start);
        position(&self.file.text, offset)
    }
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

impl miette::Diagnostic for Diagnostic {
    fn help(&self) -> Option<Box<dyn fmt::Display + '_>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&*self.file)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let labels = self.labels.iter().enumerate().map(|(index, label)| {
            let text = (!label.text.is_empty()).then(|| label.text.clone());
            match index {
                0 => LabeledSpan::new_primary_with_span(text, label.span.clone()),
                _ => LabeledSpan::new_with_span(text, label.span.clone()),
            }
        });
        Some(Box::new(labels))
    }
}

impl SourceCode for SourceFile {
    fn read_span<'a>(
        &'a self,
        span: &miette::SourceSpan,
        lines_before: usize,
        lines_after: usize,
    ) -> Result<Box<dyn miette::SpanContents<'a> + 'a>, miette::MietteError> {
        let window = self.window(span.offset(), span.offset() + span.len());
        let Range { start, .. } = window;
        let shifted = (span.offset() - start, span.len()).into();
        let inner = self.text[window].as_bytes().read_span(&shifted, lines_before, lines_after)?;
        let before = self.text[..start].as_bytes();
        let line = inner.line() + before.iter().filter(|byte| **byte == b'\n').count();
        // Only without lines before has the column a meaning.
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let cut = if lines_before == 0 && inner.line() == 0 { start - line_start } else { 0 };
        let place = (inner.span().offset() + start, inner.span().len()).into();
        let (data, column, lines) = (inner.data(), inner.column() + cut, inner.line_count());
        Ok(Box::new(MietteSpanContents::new_named(self.name.clone(), data, place, line, column, lines)))
    }
}

impl SourceFile {
    /// The part of the text that is enough to draw a place with a line before and behind; of a very long line, as of a
    /// file that is no text for people, only what is near.
    fn window(&self, start: usize, end: usize) -> Range<usize> {
        let text = &*self.text;
        let near = text.floor_char_boundary(start.min(text.len()).saturating_sub(DRAWN_AROUND));
        let before = &text[near..start.min(text.len())];
        // From the start of the line before, or of the place's own line, if they are near.
        let own_line = before.rfind('\n').map(|newline| newline + 1);
        let line_before = own_line.and_then(|line| before[..line - 1].rfind('\n')).map(|newline| newline + 1);
        let first = match line_before.or(own_line) {
            Some(line) if near > 0 => near + line,
            _ => near,
        };
        first..text.ceil_char_boundary(end.saturating_add(DRAWN_AROUND).min(text.len()))
    }
}

/// The errors of one assembly, in the order of their places; never empty.
#[derive(Debug, Clone, Error)]
#[error("{}", summary(.0))]
pub struct Diagnostics(pub Vec<Diagnostic>);

fn summary(diagnostics: &[Diagnostic]) -> String {
    match diagnostics.len() {
        1 => "the program has an error".to_owned(),
        MAX_FAULTS.. => {
            format!("the program has at least {MAX_FAULTS} errors; these were found before the assembler gave up")
        }
        n => format!("the program has {n} errors"),
    }
}

impl Diagnostics {
    /// The one error of what is no text, however long it is.
    pub(crate) fn not_text(name: &str, reason: &NotText) -> Self {
        let message = format!("`{name}` is not assembly text: {reason}");
        let file = Arc::new(SourceFile { name: name.to_owned(), text: "".into() });
        Self(vec![Diagnostic { message, file, labels: Vec::new(), help: None }])
    }

    /// The error of a file that cannot be read.
    pub(crate) fn unreadable(name: String, reason: &str) -> Self {
        let message = format!("cannot read `{name}`: {reason}");
        let file = Arc::new(SourceFile { name, text: "".into() });
        Self(vec![Diagnostic { message, file, labels: Vec::new(), help: None }])
    }

    /// The errors with their source lines, without colours: drawn with the feature `fancy`, else in words.
    pub fn render(&self) -> String {
        #[cfg(feature = "fancy")]
        let handler =
            miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor()).with_width(120);
        #[cfg(not(feature = "fancy"))]
        let handler = miette::NarratableReportHandler::new();
        let mut out = String::new();
        for diagnostic in &self.0 {
            // Writing to a string cannot fail.
            let _ = handler.render_report(&mut out, diagnostic);
        }
        out
    }
}

impl miette::Diagnostic for Diagnostics {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        Some(Box::new(self.0.iter().map(|diagnostic| diagnostic as &dyn miette::Diagnostic)))
    }
}

/// A diagnostic under construction, with positions that may be in several files.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// The error's place.
    pub span: Span,
    message: String,
    label: String,
    help: Vec<String>,
    also: Vec<(Span, String)>,
}

impl Fault {
    /// An error at a place.
    pub fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), label: String::new(), help: Vec::new(), also: Vec::new() }
    }

    /// The remark on the error's place.
    pub fn label(mut self, text: impl Into<String>) -> Self {
        self.label = text.into();
        self
    }

    /// A line of help.
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    /// A line of help, if there is any.
    pub fn maybe_help(self, text: Option<String>) -> Self {
        match text {
            Some(text) => self.help(text),
            None => self,
        }
    }

    /// A remark on another place.
    pub fn also(mut self, span: Span, text: impl Into<String>) -> Self {
        self.also.push((span, text.into()));
        self
    }

    /// The diagnostic. Remarks on other files become help, since a drawing shows one file.
    pub fn finish(self, sources: &Sources) -> Diagnostic {
        let file = sources.get(self.span.source);
        let range = |span: Span| range(&sources.get(span.source).text, span);
        let mut labels = vec![Label { span: range(self.span), text: short(self.label) }];
        let mut help = self.help;
        for (span, text) in self.also {
            if span.source == self.span.source {
                labels.push(Label { span: range(span), text });
            } else {
                let other = sources.get(span.source);
                let (line, column) = position(&other.text, span.start as usize);
                help.push(format!("{}:{line}:{column}: {text}", other.name));
            }
        }
        let help = (!help.is_empty()).then(|| short(help.join("\n")));
        Diagnostic { message: short(self.message), file: file.clone(), labels, help }
    }
}

/// The place; of a long one, the beginning.
fn range(text: &str, span: Span) -> Range<usize> {
    let (start, end) = (span.start as usize, span.end as usize);
    start..end.min(text.ceil_char_boundary((start + MAX_LABEL).min(text.len())))
}

/// A message that may quote a text of any length.
pub(crate) fn short(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        message.push('\u{2026}');
    }
    message
}
