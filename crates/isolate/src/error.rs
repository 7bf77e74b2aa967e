//! Why a sandbox can't be made.

use std::io;
use std::path::Path;

use sandwire_init::wire::Failure;

/// A failure of this crate. Messages name the step and, where one is known, the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The machine, or what the server may do on it, lacks something that isolation needs.
    #[error("{what} is not available: {source}")]
    Unsupported {
        /// What is missing.
        what: String,
        /// What the kernel said.
        source: io::Error,
        /// How to get it.
        remedy: String,
    },
    /// A step on the host failed.
    #[error("{step}: {source}")]
    Host {
        /// The step, with the path it was about.
        step: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A step inside the new sandbox failed.
    #[error("inside the sandbox: {0}")]
    Inside(#[from] Failure),
    /// The sandbox's init ended or did not answer while the sandbox was made.
    #[error("the sandbox's init {0}")]
    Init(&'static str),
    /// A limit was asked for that can't be kept here.
    #[error("this machine can't limit {resource}: {remedy}")]
    LimitUnavailable {
        /// `memory`, `pids` or `cpu`.
        resource: &'static str,
        /// How to get it.
        remedy: String,
    },
}

impl Error {
    /// Whether the machine lacks what isolation needs, so that no later attempt can succeed without a change.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Unsupported { .. } | Self::LimitUnavailable { .. })
    }

    /// How to get what is missing, where that is known.
    #[must_use]
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Self::Unsupported { remedy, .. } | Self::LimitUnavailable { remedy, .. } => Some(remedy),
            _ => None,
        }
    }

    pub(crate) fn host(step: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let step = step.into();
        move |source| Self::Host { step, source }
    }

    pub(crate) fn path(step: &str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        Self::host(format!("{step} {}", path.display()))
    }

    pub(crate) fn unsupported(what: &str, remedy: &str) -> impl FnOnce(io::Error) -> Self {
        let (what, remedy) = (what.to_owned(), remedy.to_owned());
        move |source| Self::Unsupported { what, source, remedy }
    }
}
