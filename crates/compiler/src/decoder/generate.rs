//! Generation of tokens: greedy, with early exit, or with a little model that proposes.

use pollux_sim::counts::EventCounts;

use super::passes::{Decoder, EarlyExit, PassOptions};
use crate::error::CompileError;
use crate::execute::Position;
use crate::report::Report;

/// A generated text and its cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// New tokens; none if nothing was [computed](Decoder::without_values).
    pub tokens: Vec<u32>,
    /// Cycles of the prompt.
    pub prefill_cycles: u64,
    /// Cycles of everything after it.
    pub decode_cycles: u64,
    /// Cycles of the prompt, and of everything after it, in which the host worked.
    pub host_cycles: [u64; 2],
    /// Mean number of blocks executed a token (early exit).
    pub layers: f64,
    /// Tokens that a little model proposed and the big one accepted.
    pub accepted: usize,
    /// Logits after the prompt.
    pub logits: Vec<f32>,
    /// Where the prompt's cycles went, if they were simulated.
    pub prefill: Option<Report>,
    /// Name, cycles and counts of each operation of a layer, summed over layers and passes: of the prompt, and of everything after
    /// it. Empty if nothing was counted.
    pub counted: [Vec<CountedPart>; 2],
    /// Where the last token's cycles went; none if the pass was cut into several programs.
    pub last: Option<Report>,
}

/// An operation's name, cycles and counts.
pub type CountedPart = (String, u64, EventCounts);

/// Generates tokens greedily, with early exit if given. `progress` is called now and then, with a count of tokens.
///
/// # Errors
/// See [`Decoder::forward`].
pub fn generate(
    decoder: &mut Decoder,
    prompt: &[u32],
    count: usize,
    exit: Option<EarlyExit>,
    progress: &mut dyn FnMut(usize, Position),
) -> Result<Generation, CompileError> {
    let mut pass = decoder.pass(prompt, PassOptions::default(), &mut |position| progress(0, position))?;
    let mut generation = Generation {
        tokens: vec![pass.token()],
        prefill_cycles: pass.cycles,
        decode_cycles: 0,
        host_cycles: [pass.host_cycles, 0],
        layers: 0.0,
        accepted: 0,
        logits: pass.logits.last().cloned().unwrap_or_default(),
        prefill: pass.report(),
        counted: [decoder.take_counted(), Vec::new()],
        last: None,
    };
    let tokens = &mut generation.tokens;
    while tokens.len() < count {
        let options = PassOptions { exit, ..PassOptions::default() };
        pass = decoder.pass(&tokens[tokens.len() - 1..], options, &mut |position| progress(tokens.len(), position))?;
        generation.layers += pass.layers as f64;
        generation.decode_cycles += pass.cycles;
        generation.host_cycles[1] += pass.host_cycles;
        generation.last = pass.report();
        tokens.push(pass.token());
    }
    if !decoder.computes() {
        tokens.clear();
    }
    generation.counted[1] = decoder.take_counted();
    generation.layers /= (count.max(2) - 1) as f64;
    Ok(generation)
}

/// Big/Little decoding (after arXiv 2302.07863): the little model proposes until it is not confident or has proposed
/// `draft` tokens; the big one runs all of them in one pass and accepts those that it would have chosen itself.
/// Its own token replaces the first other one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BigLittle {
    /// Most tokens proposed at a time.
    pub draft: usize,
    /// Probability below which the little model asks the big one.
    pub confidence: f32,
}

/// Generates tokens greedily with two models. The tokens are those of the big model.
///
/// # Errors
/// See [`Decoder::forward`].
pub fn generate_big_little(
    big: &mut Decoder,
    little: &mut Decoder,
    prompt: &[u32],
    count: usize,
    policy: BigLittle,
) -> Result<Generation, CompileError> {
    let first = big.forward(prompt)?;
    let second = little.forward(prompt)?;
    let counted = [big.take_counted(), little.take_counted()].concat();
    let (before, host_before) = (big.cycles + little.cycles, big.host_cycles + little.host_cycles);
    let (mut tokens, mut accepted) = (vec![first.token()], 0);
    while tokens.len() < count {
        let start = big.len();
        let draft = propose(little, tokens[tokens.len() - 1], policy, count - tokens.len())?;
        let mut batch = vec![tokens[tokens.len() - 1]];
        batch.extend(&draft);
        let options = PassOptions { every_row: true, exit: None };
        let verified = big.pass(&batch, options, &mut |_| ())?;
        let chosen = verified.tokens();
        let agreed = draft.iter().zip(&chosen).take_while(|(d, c)| d == c).count();
        accepted += agreed;
        tokens.extend(&chosen[..=agreed]);
        // Both caches hold the accepted tokens; the last chosen one is the next pass's input.
        big.truncate(start + agreed + 1);
        little.truncate(start + agreed + 1);
        catch_up(little, &batch, start, agreed)?;
    }
    tokens.truncate(count);
    Ok(Generation {
        tokens,
        prefill_cycles: first.cycles + second.cycles,
        decode_cycles: big.cycles + little.cycles - before,
        host_cycles: [first.host_cycles + second.host_cycles, big.host_cycles + little.host_cycles - host_before],
        layers: big.model().blocks.len() as f64,
        accepted,
        logits: first.logits.last().cloned().unwrap_or_default(),
        prefill: first.report(),
        counted: [counted, [big.take_counted(), little.take_counted()].concat()],
        last: None,
    })
}

/// Tokens of the little model behind `last`; at least one if there is room.
fn propose(little: &mut Decoder, last: u32, policy: BigLittle, room: usize) -> Result<Vec<u32>, CompileError> {
    let (mut draft, mut token) = (Vec::new(), last);
    while draft.len() < policy.draft.min(room.saturating_sub(1)) {
        let pass = little.forward(&[token])?;
        token = pass.token();
        draft.push(token);
        if pass.confidence() < policy.confidence {
            break;
        }
    }
    Ok(draft)
}

/// Gives the little model those of the batch's accepted tokens that it has not seen: its own last proposal.
fn catch_up(little: &mut Decoder, batch: &[u32], start: usize, agreed: usize) -> Result<(), CompileError> {
    let seen = little.len() - start;
    if seen < agreed + 1 {
        little.forward(&batch[seen..=agreed])?;
    }
    Ok(())
}
