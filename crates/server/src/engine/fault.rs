//! Why a request to the engine failed, in the words of the wire.

use sandwire_protocol::ErrorType;

/// A failure with its type on the wire; the API turns it into a status or an error frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// Type on the wire.
    pub kind: ErrorType,
    /// For people.
    pub message: String,
}

impl Fault {
    /// A failure of that type.
    pub fn new(kind: ErrorType, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// A command could not run, or its end is unknown.
    pub fn command(message: impl Into<String>) -> Self {
        Self::new(ErrorType::CommandError, message)
    }

    /// Something inside the sandbox is not as it must be, which is nobody's request.
    pub fn inside(message: impl Into<String>) -> Self {
        Self::new(ErrorType::InternalError, message)
    }

    /// A descriptor from the sandbox found no room in the server.
    pub fn no_descriptor() -> Self {
        let message = "the server has as many files and connections open as it may; try again when there are fewer, or \
             raise its LimitNOFILE=";
        Self::new(ErrorType::ServiceUnavailable, message)
    }

    /// The request makes no sense.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorType::InvalidRequest, message)
    }

    /// The sandbox was stopped or died before it could do what was asked, or say that it did.
    pub fn left() -> Self {
        Self::new(
            ErrorType::NotReady,
            "the sandbox was stopped or ended meanwhile; whether it did that is not known",
        )
    }

    /// The sandbox's `init` is gone.
    pub fn gone() -> Self {
        Self::command("the sandbox ended")
    }
}
