//! Decoders of the GPT-2 family: a KV cache, prefill, token-by-token generation, early exit, and Big/Little decoding.
//!
//! What is lowered is `pollux_model`'s [`QuantisedDecoder`](pollux_model::decoder::QuantisedDecoder): pre-norm blocks with an int32 residual stream. The host looks
//! the embedding up, shifts the stream where its unit changes, decides what to run next, and takes the likeliest token; so
//! each pass is a program of its own on one memory, which keeps weights and caches. Keys and values are written straight
//! into the cache by the products that make them.

mod block;
mod generate;
mod passes;
mod text;

pub use block::BlockBuffers;
pub use generate::{BigLittle, CountedPart, Generation, generate, generate_big_little};
pub use passes::{CompiledPrompt, Decoder, EarlyExit, Pass, PassOptions, compile_prompt};
pub use text::DecoderModel;
