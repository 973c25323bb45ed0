//! An observer that counts events: `cargo run -p pollux --example observer`.

use pollux::{Config, Cycle, Event, Observer, Program};

/// Requests at the memory port, and when the last of them was sent.
#[derive(Default)]
struct Requests {
    count: u64,
    last: Cycle,
}

impl Observer for Requests {
    fn event(&mut self, cycle: Cycle, event: &Event) {
        if let Event::Req { .. } = event {
            self.count += 1;
            self.last = cycle;
        }
    }
}

/// The example.
pub fn main() -> Result<(), pollux::Error> {
    let program = Program::matmul(&Config::default(), [32, 32, 32], &[1; 1024], &[2; 1024])?;
    let mut requests = Requests::default();
    let outcome = program.run().observed(&mut requests)?;
    println!("{} beats of requests, the last in cycle {} of {}", requests.count, requests.last, outcome.cycles());
    assert!(requests.count > 0 && requests.last < outcome.cycles());
    Ok(())
}
