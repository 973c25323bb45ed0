//! Drawing: one function a pane, from the view alone.

use pollux_session::{BlockView, HISTORY, Life, Local, Places};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Paragraph, Wrap};

use super::app::{App, Cell, PAST, Pane};
use crate::output::grouped;

/// A screen below this shows one pane.
const SMALL: (u16, u16) = (120, 36);

const HELP: &str = "\
 h l, arrows   a cycle back, forward       H L        16 cycles
 n N           next, previous step of a command
 c C           forward, back to a breakpoint
 o O           next, previous operation    e          end of the run
 g             go to a cycle or operation  m '        mark the cycle, go back to it
 b             set a breakpoint            w          show and watch rows or bytes
 W             who wrote the selected row  /          search a condition
 1 to 6, Tab   panes                       z          the pane alone
 j k, up down  select                      Enter      why is the selected command or block so
 v             what the array shows        :          a line as in a script
 Esc           ends a search, or a prompt  q          quit";

/// Draws all.
pub fn draw(frame: &mut Frame<'_>, app: &App) {
    let [body, status] = Layout::vertical([Constraint::Min(3), Constraint::Length(2)]).areas(frame.area());
    let small = body.width < SMALL.0 || body.height < SMALL.1;
    if app.help {
        frame.render_widget(Paragraph::new(HELP).block(Block::bordered().title("Keys")), body);
    } else if app.single || small {
        pane(frame, app, app.pane, body);
    } else {
        let [left, right] = Layout::horizontal([Constraint::Percentage(50); 2]).areas(body);
        let thirds = [Constraint::Percentage(28), Constraint::Percentage(44), Constraint::Percentage(28)];
        let [source, commands, why] = Layout::vertical(thirds).areas(left);
        let [blocks, array, memories] =
            Layout::vertical([Constraint::Length(22), Constraint::Fill(1), Constraint::Fill(1)]).areas(right);
        let places = [source, commands, blocks, array, memories, why];
        Pane::ALL.into_iter().zip(places).for_each(|(of, area)| pane(frame, app, of, area));
    }
    draw_status(frame, app, status);
}

fn pane(frame: &mut Frame<'_>, app: &App, of: Pane, area: Rect) {
    let selected = app.pane == of;
    let style = if selected { Style::new().add_modifier(Modifier::BOLD) } else { Style::new() };
    let title = match of {
        Pane::Array => format!("{}: {}", of.name(), app.cell.name()),
        Pane::Memories => format!("{}: {}", of.name(), places(&app.shown)),
        _ => of.name().to_owned(),
    };
    let block = Block::bordered().title(title).border_style(style);
    let inside = block.inner(area);
    let lines = match of {
        Pane::Source => source(app, inside),
        Pane::Commands => commands(app, inside),
        Pane::Blocks => blocks(app),
        Pane::Array => array(app),
        Pane::Memories => memories(app, inside),
        Pane::Why => why(app),
    };
    let text = Paragraph::new(Text::from(lines)).block(block);
    let text = if of == Pane::Why { text.wrap(Wrap { trim: true }) } else { text };
    frame.render_widget(text, area);
}

fn places(places: &Places) -> String {
    match places {
        Places::Rows(Local::Scratchpad, rows) => format!("spad[{:#x}..{:#x}]", rows.start, rows.end),
        Places::Rows(Local::Accumulator, rows) => format!("acc[{:#x}..{:#x}]", rows.start, rows.end),
        Places::Bytes(bytes) => format!("mem[{:#x}..{:#x}]", bytes.start, bytes.end),
    }
}

/// A line, marked if it is selected.
fn choose<'a>(line: Line<'a>, selected: bool) -> Line<'a> {
    if selected { line.style(Style::new().add_modifier(Modifier::REVERSED)) } else { line }
}

/// The program around the place at which the host stands.
fn source<'a>(app: &'a App, area: Rect) -> Vec<Line<'a>> {
    let Some(view) = &app.view else { return Vec::new() };
    let next = view.host.next.first();
    let here = next.and_then(|next| nth_line(app, view.host.item, next));
    let center = here.unwrap_or(app.source.len()) + app.selected[Pane::Source as usize];
    let first = center.saturating_sub(usize::from(area.height) / 2);
    let lines = app.source.iter().enumerate().skip(first).take(area.height.into());
    lines
        .map(|(i, text)| {
            let sign = if here == Some(i) { "> " } else { "  " };
            let style = if here == Some(i) { Style::new().add_modifier(Modifier::BOLD) } else { Style::new() };
            Line::styled(format!("{sign}{text}"), style)
        })
        .collect()
}

/// The line of the listing that an item stands in: items are its last lines, one each.
fn nth_line(app: &App, item: usize, text: &str) -> Option<usize> {
    let items = app.session.program().items.len();
    let guess = app.source.len().checked_sub(items)? + item;
    let is_it = |line: &usize| app.source.get(*line).is_some_and(|line| line.trim() == text.trim());
    (0..app.source.len()).filter(is_it).min_by_key(|line| line.abs_diff(guess))
}

/// Time runs to the right, the present at the right end.
fn commands<'a>(app: &'a App, area: Rect) -> Vec<Line<'a>> {
    const LABEL: usize = 32;
    let now = app.session.cycle();
    let width = usize::from(area.width).saturating_sub(LABEL + 1).min(PAST as usize) as u64;
    let start = (now + 1).saturating_sub(width);
    let height = usize::from(area.height);
    let at = app.selected[Pane::Commands as usize].min(app.lives.len().saturating_sub(1));
    let first = (at + 1).saturating_sub(height);
    let line = |(i, (life, text)): (usize, &'a (Life, String))| {
        let label = format!("{:>5} {text:<26.26}", life.seq);
        let strip: String = (start..=now).map(|cycle| letter(life, cycle, now)).collect();
        choose(
            Line::from(vec![Span::raw(label), Span::raw(" "), Span::raw(strip)]),
            i == at && app.pane == Pane::Commands,
        )
    };
    app.lives.iter().enumerate().skip(first).take(height).map(line).collect()
}

/// The letter of a command's stage in a cycle.
fn letter(life: &Life, cycle: u64, now: u64) -> char {
    if life.completed == Some(cycle) {
        return 'C';
    }
    let stages = life.stages(now + 1);
    stages.iter().find(|stage| (stage.start..stage.end).contains(&cycle)).map_or(' ', |stage| stage.letter)
}

fn blocks(app: &App) -> Vec<Line<'_>> {
    let Some(view) = &app.view else { return Vec::new() };
    let at = app.selected[Pane::Blocks as usize];
    let line = |(i, block): (usize, &BlockView)| {
        let color = match block.state {
            "busy" => Color::Green,
            "stalled" => Color::Red,
            "draining" => Color::Yellow,
            _ => Color::Reset,
        };
        let cycles = match block.cycles {
            HISTORY => format!("{HISTORY}+"),
            cycles => cycles.to_string(),
        };
        // The last cycles stand at the right, as many as there is room for.
        let strip: String = block.history.chars().rev().take(24).collect::<Vec<_>>().into_iter().rev().collect();
        let cause = block.cause.map_or(block.state, |cause| cause.name());
        let text = format!("{:<19}{strip:>24} {cycles:>4} ", block.block.name());
        choose(Line::from(vec![Span::raw(text), Span::styled(cause, color)]), i == at && app.pane == Pane::Blocks)
    };
    view.blocks.iter().enumerate().map(line).collect()
}

/// A cell has four characters.
fn array(app: &App) -> Vec<Line<'_>> {
    let Some(array) = &app.array else { return Vec::new() };
    let colors = [Color::Cyan, Color::Magenta, Color::Blue, Color::Yellow, Color::Green];
    let cell = |row: usize, column: usize| {
        let valid = array.valid[row][column];
        let (with, moving) = match array.computes_with[row][column] {
            1 => (array.c1[row][column], array.c2[row][column]),
            _ => (array.c2[row][column], array.c1[row][column]),
        };
        let text = match app.cell {
            Cell::Stationary => short(with),
            Cell::Moving => short(moving),
            Cell::Left if valid => short(array.a[row][column].into()),
            Cell::Above if valid => short(array.b[row][column]),
            Cell::Matrix if valid => format!("{:>3} ", array.matrix[row][column]),
            _ => "  . ".to_owned(),
        };
        let color = colors[usize::from(array.matrix[row][column]) % colors.len()];
        let style = if valid { Style::new().fg(color).add_modifier(Modifier::BOLD) } else { Style::new() };
        Span::styled(text, style)
    };
    (0..array.dim).map(|row| Line::from((0..array.dim).map(|column| cell(row, column)).collect::<Vec<_>>())).collect()
}

/// A number in three places and a space: large ones as powers of ten.
fn short(value: i32) -> String {
    let text = value.to_string();
    if text.len() <= 3 {
        return format!("{text:>3} ");
    }
    let digits = value.unsigned_abs().ilog10();
    let sign = if value < 0 { '-' } else { '+' };
    format!("{sign}e{digits} ")
}

fn memories(app: &App, area: Rect) -> Vec<Line<'_>> {
    let height = usize::from(area.height);
    let at = app.selected[Pane::Memories as usize];
    let first = (at + 1).saturating_sub(height);
    let written = |name: &str| -> Vec<&str> {
        let events = app.view.iter().flat_map(|view| &view.events);
        events.filter(|line| line.contains(name)).map(String::as_str).collect()
    };
    match &app.shown {
        Places::Rows(local, rows) => {
            let written = written(if *local == Local::Scratchpad { "spad_wr" } else { "acc_wr" });
            let shown = rows.clone().skip(first).take(height);
            shown
                .enumerate()
                .map(|(i, row)| {
                    let values = app.session.rows(*local, row..row + 1);
                    let values: Vec<String> = values.iter().flatten().map(|value| format!("{value:>4}")).collect();
                    let bold = if is_written(app, *local, row, &written) { Modifier::BOLD } else { Modifier::empty() };
                    let line = Line::styled(format!("{row:#06x} {}", values.join("")), Style::new().add_modifier(bold));
                    choose(line, first + i == at && app.pane == Pane::Memories)
                })
                .collect()
        }
        Places::Bytes(bytes) => {
            let lines = (bytes.start..bytes.end).step_by(16).skip(first).take(height);
            lines
                .map(|address| {
                    let len = (bytes.end - address).min(16) as usize;
                    let data = app.session.memory().read_vec(address, len);
                    let data: Vec<String> = data.iter().map(|byte| format!("{byte:02x}")).collect();
                    Line::raw(format!("{address:#010x} {}", data.join(" ")))
                })
                .collect()
        }
    }
}

/// An event of this cycle writes the row: `cycle,kind,bank,row,...`.
fn is_written(app: &App, local: Local, row: u32, events: &[&str]) -> bool {
    let layout = app.session.program().config.layout();
    let bits = if local == Local::Scratchpad { layout.sp_bank_row_bits } else { layout.acc_bank_row_bits };
    let place = format!(",{},{},", row >> bits, row & ((1 << bits) - 1));
    events.iter().any(|line| line.contains(&place))
}

fn why(app: &App) -> Vec<Line<'_>> {
    let Some(explanation) = &app.explanation else {
        return vec![Line::raw("Enter explains the selected command or block.")];
    };
    let mut lines = vec![Line::raw(explanation.sentence.as_str()), Line::raw("")];
    lines.extend(explanation.chain.iter().map(|reason| {
        let page = reason.page.as_ref().map_or_else(String::new, |page| format!(" ({page})"));
        Line::raw(format!("{}: {}{page}", reason.subject, reason.state))
    }));
    lines
}

fn draw_status(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let [place, message] = Layout::vertical([Constraint::Length(1); 2]).areas(area);
    let cycle = grouped(app.session.cycle());
    let ended = if app.session.ended() { ", the end" } else { "" };
    let operation = app.view.as_ref().and_then(|view| view.operation.as_ref());
    let operation = operation.map_or_else(String::new, |operation| format!(" | {}", operation.name));
    let breaks = match app.breakpoints.len() {
        0 => String::new(),
        1 => " | 1 breakpoint".to_owned(),
        count => format!(" | {count} breakpoints"),
    };
    let text = format!("cycle {cycle}{ended}{operation}{breaks}");
    frame.render_widget(Paragraph::new(text).style(Style::new().add_modifier(Modifier::REVERSED)), place);
    let text = match &app.prompt {
        Some((prompt, text)) => format!("{}{text}_", prompt.text()),
        None => app.message.clone(),
    };
    frame.render_widget(Paragraph::new(text), message);
}
