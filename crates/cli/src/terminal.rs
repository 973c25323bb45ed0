//! The panes of `pollux debug`: [`app`] is what they show and what keys do, [`panes`] draws it. Here is the loop around them.

mod app;
mod panes;

use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pollux_session::{Condition, Session};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind};

use app::App;

/// Time for which a key is waited for while a search runs.
const NO_TIME: Duration = Duration::ZERO;

/// Shows a session until the user quits.
///
/// # Errors
/// The terminal's.
pub fn run(mut session: Session, breakpoints: Vec<Condition>) -> io::Result<()> {
    // Esc ends a search. What else is pressed meanwhile is not for the search, and gets lost.
    static INTERRUPTED: AtomicBool = AtomicBool::new(false);
    session.watch(|_| {
        if event::poll(NO_TIME).is_ok_and(|ready| ready)
            && matches!(event::read(), Ok(Event::Key(key)) if key.code == KeyCode::Esc)
        {
            INTERRUPTED.store(true, Ordering::Relaxed);
        }
        if INTERRUPTED.swap(false, Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let mut app = App::new(session, breakpoints);
    let mut terminal = ratatui::init();
    let result = show(&mut terminal, &mut app);
    ratatui::restore();
    result
}

fn show(terminal: &mut DefaultTerminal, app: &mut App) -> io::Result<()> {
    while !app.quit {
        app.refresh();
        terminal.draw(|frame| panes::draw(frame, app))?;
        if let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
        {
            app.key(key);
        }
    }
    Ok(())
}
