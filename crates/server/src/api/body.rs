//! JSON bodies, with refusals that name the field.

use axum::body::{Body, Bytes};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use sandwire_protocol::limits::{CONTROL_BODY_MAX, EXEC_MESSAGE_MAX};
use serde::de::DeserializeOwned;

use super::ApiError;

/// Reads a body that must fit into memory.
async fn read(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(ApiError::too_large(format!("the body is larger than {limit} bytes")))
        }
        Err(error) => Err(ApiError::invalid(format!("the body broke off: {error}"))),
    }
}

/// A request of the control plane, or of the data plane without data.
pub(super) async fn json<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    json_of(body, CONTROL_BODY_MAX).await
}

/// A command, which may bring as much as on its socket.
pub(super) async fn command<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    json_of(body, EXEC_MESSAGE_MAX).await
}

async fn json_of<T: DeserializeOwned>(body: Body, limit: usize) -> Result<T, ApiError> {
    let body = read(body, limit).await?;
    Ok(parse(&body)?)
}

/// The settings of a sandbox, none of which has to be given: an empty body gives none, one that is not JSON is refused
/// like a value is, and what is wrong within a setting is told of that setting.
pub(super) async fn settings<T: DeserializeOwned + Default>(body: Body) -> Result<T, ApiError> {
    let body = read(body, CONTROL_BODY_MAX).await?;
    if body.is_empty() {
        return Ok(T::default());
    }
    parse(&body).map_err(|wrong| match wrong {
        Wrong::Document(message) => ApiError::validation("body", message),
        Wrong::Value { field, message } => {
            let message = if SECRET.iter().any(|secret| field.starts_with(secret)) {
                // The parser's words show what it stumbled over.
                "is not of the right form: names and values of variables are strings, and so are user and work_dir".into()
            } else {
                message
            };
            let setting = field.split_once(['.', '[']).map_or(&*field, |(setting, _)| setting);
            ApiError::validation(setting, message)
        }
    })
}

/// Settings whose values users may think secret.
const SECRET: [&str; 2] = ["env_vars", "run_config"];

/// What is wrong with a body.
enum Wrong {
    /// It is not one JSON document.
    Document(String),
    /// A value is missing, superfluous or of the wrong type.
    Value { field: String, message: String },
}

impl From<Wrong> for ApiError {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::Document(message) => Self::invalid(message),
            Wrong::Value { field, message } => Self::validation(&field, message),
        }
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Wrong> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| wrong(&error))?;
    json.end().map_err(|error| Wrong::Document(format!("the body is not one JSON document: {error}")))?;
    Ok(value)
}

fn wrong(error: &serde_path_to_error::Error<serde_json::Error>) -> Wrong {
    let field = match error.path().to_string() {
        root if root == "." => "body".to_owned(),
        field => field,
    };
    let message = error.inner().to_string();
    match error.inner().classify() {
        serde_json::error::Category::Data => Wrong::Value { field, message },
        _ => Wrong::Document(format!("the body is not JSON: {message}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandwire_protocol::{CreateSandbox, ServiceUrlRequest};

    #[test]
    fn what_is_wrong_is_named() {
        let refusal = |body: &str| {
            let wrong = parse::<ServiceUrlRequest>(body.as_bytes()).err().unwrap();
            format!("{:?}", ApiError::from(wrong))
        };
        assert!(refusal(r#"{"port":"a"}"#).contains(r#""loc": Array [String("body"), String("port")]"#));
        assert!(refusal(r#"{"port":1,"embed_origins":[2]}"#).contains("embed_origins[0]"));
        assert!(refusal("{}").contains("missing field `port`"));
        assert!(refusal(r#"{"port":1,"ports":2}"#).contains("unknown field `ports`"));
        for broken in ["", "{", "{\"port\":1} x", "\u{7f}"] {
            assert!(refusal(broken).contains("InvalidRequest"), "{broken}");
        }
    }

    #[tokio::test]
    async fn settings_are_named_and_may_be_absent() {
        let read = |body: &'static str| settings::<CreateSandbox>(Body::from(body));
        let default = CreateSandbox::default();
        assert_eq!((read("").await.unwrap(), read("{}").await.unwrap()), (default.clone(), default));
        for (body, field) in [
            (r#"{"name":7}"#, "name"),
            (r#"{"run_config":{"user":7}}"#, "run_config"),
            (r#"{"env_vars":{"A":7}}"#, "env_vars"),
            ("[]", "body"),
            ("{", "body"),
            ("{} x", "body"),
        ] {
            let refusal = format!("{:?}", read(body).await.unwrap_err());
            let named = format!(r#""loc": Array [String("body"), String("{field}")]"#);
            assert!(refusal.contains(&named), "{refusal}");
        }
        for body in [r#"{"env_vars":"TOKEN=s3cr3t"}"#, r#"{"run_config":{"env_vars":"s3cr3t"}}"#] {
            assert!(!format!("{:?}", read(body).await.unwrap_err()).contains("s3cr3t"));
        }
    }
}
