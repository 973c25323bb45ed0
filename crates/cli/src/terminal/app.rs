//! What the panes show, and what keys do. No state of the machine is kept but the session's.

use pollux_asm::{Disassembler, disassemble};
use pollux_session::script::Line;
use pollux_session::{
    ArrayView, Condition, Explanation, Found, Life, Local, Places, Session, SessionError, Subject, View,
};
use pollux_sim::observer::Cycle;
use pollux_sim::report::Block;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// A pane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pane {
    /// The program.
    Source,
    /// Commands over time.
    Commands,
    /// What the blocks do.
    Blocks,
    /// The array register by register.
    Array,
    /// Rows of a memory.
    Memories,
    /// An explanation.
    Why,
}

impl Pane {
    /// All, by the keys 1 to 6.
    pub const ALL: [Self; 6] = [Self::Source, Self::Commands, Self::Blocks, Self::Array, Self::Memories, Self::Why];

    /// Its title.
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "1 Source",
            Self::Commands => "2 Commands",
            Self::Blocks => "3 Blocks",
            Self::Array => "4 Array",
            Self::Memories => "5 Memories",
            Self::Why => "6 Why",
        }
    }
}

/// What the cells of the array show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// The register that is computed with.
    Stationary,
    /// The register that moves.
    Moving,
    /// A from the left.
    Left,
    /// The partial sum or operand from above.
    Above,
    /// The matrix of the row, or a bubble.
    Matrix,
}

impl Cell {
    const ALL: [Self; 5] = [Self::Stationary, Self::Moving, Self::Left, Self::Above, Self::Matrix];

    /// What it is, for the title.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stationary => "register computed with",
            Self::Moving => "register that moves",
            Self::Left => "A from the left",
            Self::Above => "B or partial sum from above",
            Self::Matrix => "matrix number, . is a bubble",
        }
    }
}

/// What the prompt is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// `:`: a line of a script.
    Command,
    /// `g`: a cycle or the name of an operation.
    Goto,
    /// `b`: a condition.
    Break,
    /// `w`: rows or bytes.
    Watch,
    /// `/`: a condition to go to.
    Search,
}

impl Prompt {
    /// What stands before the text.
    pub fn text(self) -> &'static str {
        match self {
            Self::Command => ":",
            Self::Goto => "go to cycle or operation: ",
            Self::Break => "break at condition: ",
            Self::Watch => "watch spad[..], acc[..] or mem[..]: ",
            Self::Search => "search condition: ",
        }
    }
}

/// The terminal's state.
pub struct App {
    pub session: Session,
    pub view: Option<View>,
    pub array: Option<ArrayView>,
    /// Commands, and their text.
    pub lives: Vec<(Life, String)>,
    /// The program as text.
    pub source: Vec<String>,
    pub explanation: Option<Explanation>,
    pub pane: Pane,
    /// Only the selected pane is shown.
    pub single: bool,
    pub cell: Cell,
    /// Place in the list of each pane.
    pub selected: [usize; 6],
    pub shown: Places,
    pub breakpoints: Vec<Condition>,
    pub prompt: Option<(Prompt, String)>,
    pub message: String,
    pub help: bool,
    pub quit: bool,
    /// Cycles that `m` kept.
    bookmark: Option<Cycle>,
    /// The cycle of which view, array and lives are.
    of: Option<Cycle>,
}

/// Cycles before the present that the commands' pane shows.
pub const PAST: u64 = 96;

impl App {
    /// At the session's cycle.
    pub fn new(session: Session, breakpoints: Vec<Condition>) -> Self {
        let source = disassemble(session.program()).lines().map(str::to_owned).collect();
        Self {
            session,
            view: None,
            array: None,
            lives: Vec::new(),
            source,
            explanation: None,
            pane: Pane::Commands,
            single: false,
            cell: Cell::Stationary,
            selected: [0; 6],
            shown: Places::Rows(Local::Scratchpad, 0..64),
            breakpoints,
            prompt: None,
            message: "? lists the keys".to_owned(),
            help: false,
            quit: false,
            bookmark: None,
            of: None,
        }
    }

    /// Brings what is shown up to date.
    pub fn refresh(&mut self) {
        if self.of == Some(self.session.cycle()) {
            return;
        }
        let shown = self.session.view().and_then(|view| {
            let array = self.session.array()?;
            let lives = self.session.lives(PAST)?;
            Ok((view, array, lives))
        });
        match shown {
            Ok((view, array, lives)) => {
                let disassembler = Disassembler::new(self.session.program());
                let named = |life: Life| {
                    let text = disassembler.command(life.command);
                    (life, text)
                };
                self.lives = lives.into_iter().map(named).collect();
                (self.view, self.array) = (Some(view), Some(array));
                self.of = Some(self.session.cycle());
                self.explanation = None;
            }
            Err(error) => self.message = error.to_string(),
        }
    }

    /// The row of a list that is selected.
    pub fn selection(&self) -> usize {
        self.selected[self.pane as usize]
    }

    fn done<T>(&mut self, result: Result<T, SessionError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.message = error.to_string();
                None
            }
        }
    }

    /// What a key does.
    pub fn key(&mut self, key: KeyEvent) {
        if let Some((prompt, mut text)) = self.prompt.take() {
            match key.code {
                KeyCode::Esc => {}
                KeyCode::Enter => self.entered(prompt, text.trim()),
                KeyCode::Backspace => {
                    text.pop();
                    self.prompt = Some((prompt, text));
                }
                KeyCode::Char(c) => self.prompt = Some((prompt, text + &c.to_string())),
                _ => self.prompt = Some((prompt, text)),
            }
            return;
        }
        self.message.clear();
        self.help = false;
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => self.quit = true,
            KeyCode::Char('q') => self.quit = true,
            KeyCode::Char('l') | KeyCode::Right => self.move_by(1),
            KeyCode::Char('h') | KeyCode::Left => self.move_by(-1),
            KeyCode::Char('L') => self.move_by(16),
            KeyCode::Char('H') => self.move_by(-16),
            KeyCode::Char('n') => self.search("accepted or issued or completed", true),
            KeyCode::Char('N') => self.search("accepted or issued or completed", false),
            KeyCode::Char('c') => self.go_to_breakpoint(true),
            KeyCode::Char('C') => self.go_to_breakpoint(false),
            KeyCode::Char('o') => self.go_to_operation(true),
            KeyCode::Char('O') => self.go_to_operation(false),
            KeyCode::Char('e') => {
                let end = self.session.goto_end();
                self.done(end);
            }
            KeyCode::Char('m') => {
                self.bookmark = Some(self.session.cycle());
                self.message = format!("' goes back to cycle {}", self.session.cycle());
            }
            KeyCode::Char('\'') => self.go_to_bookmark(),
            KeyCode::Char(c @ '1'..='6') => self.pane = Pane::ALL[c as usize - '1' as usize],
            KeyCode::Tab => self.pane = Pane::ALL[(self.pane as usize + 1) % Pane::ALL.len()],
            KeyCode::Char('z') => self.single = !self.single,
            KeyCode::Char('v') => self.cell = Cell::ALL[(self.cell as usize + 1) % Cell::ALL.len()],
            KeyCode::Down | KeyCode::Char('j') => self.selected[self.pane as usize] += 1,
            KeyCode::Up | KeyCode::Char('k') => {
                let selected = &mut self.selected[self.pane as usize];
                *selected = selected.saturating_sub(1);
            }
            KeyCode::Enter => self.explain(),
            KeyCode::Char('W') => self.who_wrote(),
            KeyCode::Char('g') => self.ask(Prompt::Goto),
            KeyCode::Char('b') => self.ask(Prompt::Break),
            KeyCode::Char('w') => self.ask(Prompt::Watch),
            KeyCode::Char('/') => self.ask(Prompt::Search),
            KeyCode::Char(':') => self.ask(Prompt::Command),
            KeyCode::Char('?') => self.help = true,
            _ => self.message = "? lists the keys".to_owned(),
        }
    }

    fn ask(&mut self, prompt: Prompt) {
        self.prompt = Some((prompt, String::new()));
    }

    fn move_by(&mut self, cycles: i64) {
        let moved = if cycles > 0 {
            self.session.step(cycles.unsigned_abs())
        } else {
            self.session.back(cycles.unsigned_abs())
        };
        self.done(moved);
    }

    fn go_to_bookmark(&mut self) {
        match self.bookmark {
            Some(cycle) => {
                let there = self.session.goto(cycle);
                self.done(there);
            }
            None => self.message = "no cycle is marked: m marks the present one".to_owned(),
        }
    }

    fn find(&mut self, condition: &Condition, forward: bool) {
        let found = match forward {
            true => self.session.run_until(condition),
            false => self.session.reverse_until(condition),
        };
        match self.done(found) {
            Some(Found::Hit(_)) => self.message = format!("{condition}"),
            Some(Found::Nothing(_)) => self.message = format!("not found: {condition}"),
            None => {}
        }
    }

    fn search(&mut self, text: &str, forward: bool) {
        let condition = self.session.condition(text);
        if let Some(condition) = self.done(condition) {
            self.find(&condition, forward);
        }
    }

    fn go_to_breakpoint(&mut self, forward: bool) {
        if self.breakpoints.is_empty() {
            self.message = "there is no breakpoint: b sets one".to_owned();
            return;
        }
        let texts: Vec<String> = self.breakpoints.iter().map(ToString::to_string).collect();
        self.search(&texts.join(" or "), forward);
    }

    fn go_to_operation(&mut self, forward: bool) {
        let marks = self.session.marks();
        if marks == 0 {
            self.message = "the program has no operations".to_owned();
            return;
        }
        let any: Vec<String> = (0..marks).map(|mark| format!("mark {mark}")).collect();
        self.search(&any.join(" or "), forward);
    }

    fn entered(&mut self, prompt: Prompt, text: &str) {
        match prompt {
            Prompt::Goto => self.go_to(text),
            Prompt::Search => self.search(text, true),
            Prompt::Break => {
                let condition = self.session.condition(text);
                if let Some(condition) = self.done(condition) {
                    self.message = format!("c and C stop at: {condition}");
                    self.breakpoints.push(condition);
                }
            }
            Prompt::Watch => match Places::parse(text, self.session.program()) {
                Some(Ok(places)) => {
                    let condition = self.session.condition(&format!("{text} written"));
                    let condition = self.done(condition);
                    self.breakpoints.extend(condition);
                    (self.shown, self.pane) = (places, Pane::Memories);
                }
                Some(Err(problem)) => self.message = problem,
                None => self.message = "write spad[ROWS], acc[ROWS] or mem[BYTES]".to_owned(),
            },
            Prompt::Command => self.command(text),
        }
    }

    fn go_to(&mut self, text: &str) {
        if let Ok(cycle) = text.parse() {
            let there = self.session.goto(cycle);
            self.done(there);
            return;
        }
        let mark = format!("mark \"{text}\"");
        self.search(&mark, true);
        if self.session.ended() {
            self.search(&mark, false);
        }
    }

    fn command(&mut self, text: &str) {
        match Line::parse(text) {
            Ok(Some(Line::Why(subject))) => self.why(subject),
            Ok(Some(line)) => {
                let result = self.session.execute(&line);
                if let Some(result) = self.done(result) {
                    self.message = result.to_string();
                }
            }
            Ok(None) => {}
            Err(error) => self.message = error.to_string(),
        }
    }

    fn why(&mut self, subject: Subject) {
        let why = self.session.why(subject);
        if let Some(explanation) = self.done(why) {
            self.explanation = Some(explanation);
            self.pane = Pane::Why;
        }
    }

    /// Explains what is selected: a command, a block, or the host.
    fn explain(&mut self) {
        let at = self.selection();
        let subject = match self.pane {
            Pane::Commands => {
                self.lives.get(at.min(self.lives.len().saturating_sub(1))).map(|(life, _)| Subject::Command(life.seq))
            }
            Pane::Blocks => Block::ALL.get(at).map(|block| Subject::Block(*block)),
            _ => Some(Subject::Host),
        };
        match subject {
            Some(subject) => self.why(subject),
            None => self.message = "nothing is selected".to_owned(),
        }
    }

    /// Goes back to the write of the row that is selected.
    fn who_wrote(&mut self) {
        let Places::Rows(local, rows) = &self.shown else {
            self.message = "W is for rows of the local memories: w shows them".to_owned();
            return;
        };
        let name = if *local == Local::Scratchpad { "spad" } else { "acc" };
        let row = (rows.start as usize + self.selected[Pane::Memories as usize]).min(rows.end as usize - 1);
        self.search(&format!("{name}[{row}] written"), false);
    }
}

#[cfg(test)]
mod tests {
    use pollux_session::Options;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent};

    use super::*;
    use crate::terminal::panes;

    const PROGRAM: &str = "\
config small4
buffer A: i8[4, 4] = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]]
buffer C: i8[4, 4]
mark \"load\"
config_ld stride=4
config_st stride=4
mvin dram=A local=spad(0) cols=4 rows=4
mark \"store\"
mvout dram=C local=spad(0) cols=4 rows=4
fence
";

    fn app() -> App {
        let program = pollux_asm::assemble("text", PROGRAM).expect("it is well formed");
        App::new(Session::new(program, Options::default()).expect("it starts"), Vec::new())
    }

    fn press(app: &mut App, keys: &str) {
        for key in keys.chars() {
            let code = if key == '\n' { KeyCode::Enter } else { KeyCode::Char(key) };
            app.key(KeyEvent::new(code, KeyModifiers::NONE));
            app.refresh();
        }
    }

    fn screen(app: &mut App, width: u16, height: u16) -> String {
        app.refresh();
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen");
        terminal.draw(|frame| panes::draw(frame, app)).expect("it is drawn");
        terminal.backend().to_string()
    }

    #[test]
    fn keys_step_forward_and_back_and_stop_at_the_ends() {
        let mut app = app();
        press(&mut app, "lll");
        assert_eq!(app.session.cycle(), 3);
        press(&mut app, "hhhhh");
        assert_eq!(app.session.cycle(), 0);
        press(&mut app, "e");
        let end = app.session.cycle();
        press(&mut app, "l");
        assert_eq!(app.session.cycle(), end);
        press(&mut app, "g7\n");
        assert_eq!(app.session.cycle(), 7);
    }

    #[test]
    fn a_breakpoint_is_found_forward_and_back() {
        let mut app = app();
        press(&mut app, "bspad[0] written\nc");
        let hit = app.session.cycle();
        assert!(hit > 0 && !app.session.ended(), "{}", app.message);
        press(&mut app, "eC");
        assert_eq!(app.session.cycle(), hit);
        press(&mut app, "bspad[99999]\n");
        assert!(app.message.contains("rows 99999 are not in this memory"), "{}", app.message);
    }

    #[test]
    fn all_panes_on_a_large_screen() {
        let mut app = app();
        press(&mut app, "bspad[0] written\nc");
        insta::assert_snapshot!(screen(&mut app, 160, 50));
    }

    #[test]
    fn one_pane_on_a_small_screen() {
        let mut app = app();
        press(&mut app, ":until spad[0] written\n3z");
        insta::assert_snapshot!(screen(&mut app, 80, 24));
        press(&mut app, ":why issue_stores\n");
        insta::assert_snapshot!(screen(&mut app, 80, 24));
    }
}
