//! All files of one run, for whichever viewers are asked for, and the part of the run that they show.

use std::io::{self, Write};
use std::ops::Range;

use pollux_isa::GemminiConfig;
use pollux_sim::observer::{Activity, Cycle, Event, Links, Observer, Span};
use pollux_sim::simulation::Moment;

use super::kanata::Kanata;
use super::perfetto::{Level, Perfetto};
use super::scratch::{self, Scratch, ScratchFile};
use super::waves::{self, Fst, Vcd, Waves};
use super::{Describe, LeftOut};

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Viewer {
    /// <https://ui.perfetto.dev>.
    Perfetto,
    /// Konata.
    Kanata,
    /// GTKWave and Surfer, compressed.
    Fst,
    /// The same as text.
    Vcd,
}

/// A file that was ended.
pub struct Finished<W> {
    /// What it is for.
    pub viewer: Viewer,
    /// Where it was written to, and what it does not show; or the first error of the writer.
    pub result: io::Result<(W, Option<String>)>,
}

/// What the files know of the program.
pub struct Subject<'p> {
    /// Its configuration.
    pub config: &'p GemminiConfig,
    /// Names of its operations.
    pub marks: Vec<String>,
    /// The text of its commands.
    pub describe: Box<dyn Fn() -> Describe<'p> + 'p>,
    /// Bytes of each file at most.
    pub budget: u64,
}

/// Makes a scratch file.
pub type NewScratch<'p> = Box<dyn Fn() -> io::Result<Box<dyn Scratch>> + 'p>;

/// The files of a run that is going on.
pub struct Files<'p, W: Write> {
    subject: Subject<'p>,
    scratch: NewScratch<'p>,
    perfetto: Option<Levels<'p, W>>,
    kanata: Option<Kanata<'p, W>>,
    fst: Option<Waves<Fst<W>>>,
    vcd: Option<Waves<Vcd<W>>>,
    /// Something was seen.
    begun: bool,
}

impl<'p, W: Write> Files<'p, W> {
    /// No files yet. Of Perfetto's levels and of FST files up to the budget is kept in memory until the end.
    pub fn new(subject: Subject<'p>) -> Self {
        Self::with_scratch(subject, Box::new(|| Ok(scratch::in_memory())))
    }

    /// No files yet. What is not written at once is kept in scratch files, so that memory does not grow with the run.
    pub fn with_scratch(subject: Subject<'p>, scratch: NewScratch<'p>) -> Self {
        Self { subject, scratch, perfetto: None, kanata: None, fst: None, vcd: None, begun: false }
    }

    /// Begins a file, of which a Perfetto file is of this level; by default of the finest that fits.
    ///
    /// # Errors
    /// A budget in which the header has no room, or a scratch file that cannot be made.
    pub fn begin(&mut self, viewer: Viewer, level: Option<Level>, out: W) -> io::Result<()> {
        let Subject { config, marks, describe, budget } = &self.subject;
        match viewer {
            Viewer::Perfetto => {
                let all = [Level::Operations, Level::Host, Level::Commands, Level::All];
                let tried = all.into_iter().filter(|tried| level.is_none_or(|level| level == *tried));
                let file = |level| {
                    let out = ScratchFile::new((self.scratch)()?);
                    Ok((Perfetto::new(out, level, describe(), marks.clone(), *budget), level))
                };
                let tried = tried.map(file).collect::<io::Result<_>>()?;
                self.perfetto = Some(Levels { tried, wanted: level.unwrap_or(Level::All), out });
            }
            Viewer::Kanata => self.kanata = Some(Kanata::new(out, describe(), *budget)),
            Viewer::Fst => self.fst = Some(waves::fst(out, (self.scratch)()?, config, 0, *budget)?),
            Viewer::Vcd => self.vcd = Some(waves::vcd(out, config, *budget)),
        }
        Ok(())
    }

    /// The run came to the window.
    pub fn begun(&self) -> bool {
        self.begun
    }

    /// Ends the files.
    pub fn finish(self) -> Vec<Finished<W>> {
        let note = |left_out: Option<LeftOut>| left_out.map(|left_out| left_out.to_string());
        let mut all = Vec::new();
        let mut end = |viewer, result| all.push(Finished { viewer, result });
        if let Some(levels) = self.perfetto {
            end(Viewer::Perfetto, levels.finish());
        }
        if let Some(kanata) = self.kanata {
            end(Viewer::Kanata, kanata.finish().map(|(file, left_out)| (file, note(left_out))));
        }
        if let Some(waves) = self.fst {
            end(Viewer::Fst, waves.finish().map(|(file, left_out)| (file, note(left_out))));
        }
        if let Some(waves) = self.vcd {
            end(Viewer::Vcd, waves.finish().map(|(file, left_out)| (file, note(left_out))));
        }
        all
    }
}

/// A Perfetto file at several levels, of which one is chosen in the end.
struct Levels<'p, W> {
    /// The finest last.
    tried: Vec<(Perfetto<'p, ScratchFile>, Level)>,
    /// The one that is written if it fits.
    wanted: Level,
    out: W,
}

impl<W: Write> Levels<'_, W> {
    /// Writes the finest level that shows everything, or the coarsest; and says what is missing.
    fn finish(mut self) -> io::Result<(W, Option<String>)> {
        let mut best = None;
        for (perfetto, level) in self.tried {
            let (file, left_out) = perfetto.finish()?;
            if best.is_none() || left_out.is_none() {
                best = Some((file, level, left_out));
            }
        }
        let Some((file, level, left_out)) = best else { return Ok((self.out, None)) };
        file.copy_to(&mut self.out)?;
        let shown = match level {
            Level::Operations => "operations and counters only",
            Level::Host => "the host's commands, not those of the station",
            Level::Commands | Level::All => "commands, not blocks",
        };
        let coarse = || format!("{shown}, as all would not fit; a window shows all");
        let note = left_out.map(|left_out| left_out.to_string()).or_else(|| (level != self.wanted).then(coarse));
        Ok((self.out, note))
    }
}

impl<W: Write> Observer for Files<'_, W> {
    const ACTIVITY: bool = true;
    const LINKS: bool = true;

    fn event(&mut self, _: Cycle, _: &Event) {}

    fn linked(&mut self, cycle: Cycle, event: &Event, links: &Links) {
        if let Some(levels) = &mut self.perfetto {
            levels.tried.iter_mut().for_each(|(perfetto, _)| perfetto.linked(cycle, event, links));
        }
        if let Some(kanata) = &mut self.kanata {
            kanata.linked(cycle, event, links);
        }
    }

    fn cycles(&mut self, span: Span, activity: &Activity) {
        self.begun = true;
        if let Some(Levels { tried, .. }) = &mut self.perfetto {
            // A level that has become too large is given up, unless it is the only one.
            if tried.len() > 1 && tried.last().is_some_and(|(perfetto, _)| perfetto.left_out().is_some()) {
                tried.pop();
            }
            tried.iter_mut().for_each(|(perfetto, _)| perfetto.cycles(span, activity));
        }
        if let Some(kanata) = &mut self.kanata {
            kanata.cycles(span, activity);
        }
        if let Some(waves) = &mut self.fst {
            waves.cycles(span, activity);
        }
        if let Some(waves) = &mut self.vcd {
            waves.cycles(span, activity);
        }
    }
}

/// The part of a run from one moment to another, each a cycle or the name of an operation; the whole run without either.
///
/// # Errors
/// A text that is neither, or an end that is not behind the start.
pub fn window(from: Option<&str>, to: Option<&str>, marks: &[String]) -> Result<Option<Range<Moment>>, String> {
    if from.is_none() && to.is_none() {
        return Ok(None);
    }
    let start = from.map_or(Ok(Moment::Cycle(0)), |text| moment("from", text, marks))?;
    let end = to.map_or(Ok(Moment::Cycle(Cycle::MAX)), |text| moment("to", text, marks))?;
    let empty = match (start, end) {
        (Moment::Cycle(start), Moment::Cycle(end)) => start >= end,
        (Moment::Mark(start), Moment::Mark(end)) => start >= end,
        _ => false,
    };
    match empty {
        true => Err("to is not behind from: nothing would be written".to_owned()),
        false => Ok(Some(start..end)),
    }
}

fn moment(flag: &str, text: &str, marks: &[String]) -> Result<Moment, String> {
    if let Some(mark) = marks.iter().position(|name| name == text) {
        return Ok(Moment::Mark(mark));
    }
    if let Ok(cycle) = text.parse() {
        return Ok(Moment::Cycle(cycle));
    }
    let names: Vec<&str> = marks.iter().take(8).map(String::as_str).collect();
    let names = match names.is_empty() {
        true => "the program has no operations".to_owned(),
        false => format!("there are {}", names.join(", ")),
    };
    Err(format!("{flag} {text}: neither a cycle nor the name of an operation ({names})"))
}
