//! The one table from [`Error`] to gRPC statuses with `google.rpc` details.
//!
//! What a client did wrong is told in full. What went wrong in here is told in general and logged
//! in full: a path or an operating system's message is none of a remote client's business.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::proto;
use crate::error::Error;

/// The domain of every reason, as in `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "nearbit";

/// The reason of a refusal for want of room for writes, which passes.
pub const TOO_MANY_WRITES: &str = "TOO_MANY_WRITES";

/// How long a client should wait before it tries again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The longest text in a status, in bytes: statuses travel as headers, which clients limit to 8 or
/// 16 KiB in all, and the text stands in them up to three times.
const MAX_TEXT_BYTES: usize = 1000;

/// What the table says of an error, before it is put into a status or a [`proto::Problem`].
struct Verdict {
    code: Code,
    reason: String,
    message: String,
    /// The field at fault and what is wrong with it.
    violation: Option<(String, String)>,
    /// The kind and name of what is missing or in the way.
    resource: Option<(&'static str, String)>,
    retry: bool,
}

impl Verdict {
    fn new(code: Code, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
            message: clip(message.into()),
            violation: None,
            resource: None,
            retry: false,
        }
    }
}

/// The table.
fn verdict(error: &Error) -> Verdict {
    let message = error.to_string();
    match error {
        Error::Invalid { place, message: wrong } => Verdict {
            violation: Some((clip(place.clone()), clip(wrong.clone()))),
            ..Verdict::new(Code::InvalidArgument, "INVALID_FIELD", message)
        },
        Error::NotFound { kind, name, .. } => Verdict {
            resource: Some((kind, clip(name.clone()))),
            ..Verdict::new(Code::NotFound, reason(kind, "NOT_FOUND"), message)
        },
        Error::Exists { kind, name, .. } => Verdict {
            resource: Some((kind, clip(name.clone()))),
            ..Verdict::new(Code::AlreadyExists, reason(kind, "EXISTS"), message)
        },
        Error::Unavailable { .. } => {
            let message = "not available now; try again, and see the server's log if it stays so";
            Verdict {
                retry: true,
                ..Verdict::new(Code::Unavailable, "TEMPORARILY_UNAVAILABLE", message)
            }
        }
        Error::Damaged { .. } => Verdict::new(
            Code::DataLoss,
            "DATA_DAMAGED",
            "stored data is damaged; the server's log names the file",
        ),
        Error::Io { .. } if error.is_full() => Verdict::new(
            Code::ResourceExhausted,
            "DISK_FULL",
            "the server's disk is full; nothing of this group was written",
        ),
        Error::Exhausted { .. } => Verdict::new(Code::ResourceExhausted, "TOO_MUCH_ASKED", message),
        Error::Timeout => Verdict::new(Code::DeadlineExceeded, "DEADLINE_PASSED", message),
        Error::Interrupted => Verdict::new(Code::Cancelled, "INTERRUPTED", message),
        _ => {
            Verdict::new(Code::Internal, "INTERNAL", "the server failed at this; its log says why")
        }
    }
}

/// The beginning of a text that is too long.
fn clip(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        let end = (0..=MAX_TEXT_BYTES).rfind(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or(0));
        text.push_str(" ...");
    }
    text
}

/// `COLLECTION_NOT_FOUND` and its like.
fn reason(kind: &str, what: &str) -> String {
    format!("{}_{what}", kind.to_uppercase().replace(' ', "_"))
}

/// The status of `error`.
pub fn status(error: &Error) -> Status {
    status_with(error, [])
}

/// The status of `error`, with further facts in its `ErrorInfo`.
pub fn status_with<const N: usize>(error: &Error, facts: [(&str, String); N]) -> Status {
    log(error);
    let verdict = verdict(error);
    let facts = facts.map(|(key, value)| (key.to_owned(), value));
    let mut details = ErrorDetails::with_error_info(verdict.reason, DOMAIN, facts);
    if let Some((field, wrong)) = verdict.violation {
        details.add_bad_request_violation(field, wrong);
    }
    if let Some((kind, name)) = verdict.resource {
        details.set_resource_info(kind, name, "", "");
    }
    if verdict.retry {
        details.set_retry_info(Some(RETRY_DELAY));
    }
    Status::with_error_details(verdict.code, verdict.message, details)
}

/// The same for one item of a stream that goes on.
pub fn problem(error: &Error) -> proto::Problem {
    log(error);
    let Verdict { code, reason, message, violation, .. } = verdict(error);
    let (field, message) = violation.unwrap_or((String::new(), message));
    proto::Problem { code: code as u32, reason, field, message }
}

/// Whether the fault is in here and not in what was asked.
fn is_ours(error: &Error) -> bool {
    !matches!(
        error,
        Error::Invalid { .. }
            | Error::NotFound { .. }
            | Error::Exists { .. }
            | Error::Exhausted { .. }
            | Error::Timeout
    )
}

fn log(error: &Error) {
    if is_ours(error) {
        tracing::error!(%error, "a call failed");
    } else {
        tracing::debug!(%error, "a call was refused");
    }
}

/// A refusal for which the table has no [`Error`]: of the transport, or of a limit.
pub fn refuse(code: Code, reason: &str, message: impl Into<String>) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, []);
    if code == Code::Unavailable || reason == TOO_MANY_WRITES {
        details.set_retry_info(Some(RETRY_DELAY));
    }
    Status::with_error_details(code, message, details)
}

/// The same status, but for a message over the limit: tonic calls that OUT_OF_RANGE, gRPC
/// everywhere else RESOURCE_EXHAUSTED.
pub fn as_elsewhere(status: Status) -> Status {
    if status.code() != Code::OutOfRange {
        return status;
    }
    refuse(
        Code::ResourceExhausted,
        "MESSAGE_TOO_LARGE",
        format!("{}; send or ask for less at a time", status.message()),
    )
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// One error of every kind that can reach a client, and what it becomes.
    #[test]
    fn the_table() {
        let secret = "/secret/place";
        let io = |kind: io::ErrorKind| {
            Error::io("write", secret)(io::Error::new(kind, "the system's words"))
        };
        let exists = Error::Exists { kind: "collection", name: "x".into(), hint: "y".into() };
        let unavailable =
            Error::Unavailable { what: format!("{secret} is held"), hint: "wait".into() };
        let exhausted = Error::Exhausted { what: "too many hits".into(), hint: "limit".into() };
        for (error, code, reason) in [
            (Error::invalid("code", "wrong"), Code::InvalidArgument, "INVALID_FIELD"),
            (Error::not_found("record", "x", "y"), Code::NotFound, "RECORD_NOT_FOUND"),
            (exists, Code::AlreadyExists, "COLLECTION_EXISTS"),
            (unavailable, Code::Unavailable, "TEMPORARILY_UNAVAILABLE"),
            (Error::damaged(secret, 7, "a checksum"), Code::DataLoss, "DATA_DAMAGED"),
            (io(io::ErrorKind::StorageFull), Code::ResourceExhausted, "DISK_FULL"),
            (io(io::ErrorKind::QuotaExceeded), Code::ResourceExhausted, "DISK_FULL"),
            (io(io::ErrorKind::PermissionDenied), Code::Internal, "INTERNAL"),
            (exhausted, Code::ResourceExhausted, "TOO_MUCH_ASKED"),
            (Error::Timeout, Code::DeadlineExceeded, "DEADLINE_PASSED"),
            (Error::Interrupted, Code::Cancelled, "INTERRUPTED"),
        ] {
            let status = status_with(&error, [("written", "3".to_owned())]);
            assert_eq!(status.code(), code, "{error}");
            assert!(!status.message().contains("secret"), "{status:?}");
            assert!(!status.message().contains("system's"), "{status:?}");
            let details = status.get_error_details();
            let info = details.error_info().unwrap();
            assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "nearbit"));
            assert_eq!(info.metadata["written"], "3");
            assert_eq!(details.retry_info().is_some(), code == Code::Unavailable);
            let problem = problem(&error);
            assert_eq!((problem.code, problem.reason.as_str()), (code as u32, reason));
        }
    }

    /// What a client sends comes back in a status, and a status has to fit into headers.
    #[test]
    fn statuses_are_short() {
        let long = "ä".repeat(1 << 20);
        for error in [
            Error::invalid(long.clone(), long.clone()),
            Error::not_found("collection", long.clone(), long.clone()),
        ] {
            let status = status(&error);
            assert!(status.message().len() < 1100);
            assert!(status.details().len() < 4000);
            assert!(status.message().ends_with(" ..."));
        }
    }

    #[test]
    fn bad_input_names_its_field() {
        let error = Error::invalid("code", "expected 8 bytes").within("records[17].");
        let details = status(&error).get_error_details();
        let violation = &details.bad_request().unwrap().field_violations[0];
        assert_eq!(violation.field, "records[17].code");
        assert_eq!(violation.description, "expected 8 bytes");
        assert_eq!(problem(&error).field, "records[17].code");
    }
}
