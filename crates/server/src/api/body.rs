//! JSON bodies, with refusals that name the field.

use axum::body::{Body, Bytes};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use sandwire_protocol::limits::CONTROL_BODY_MAX;
use serde::de::DeserializeOwned;

use super::ApiError;

/// Reads a body that must fit into memory.
pub(super) async fn read(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(ApiError::too_large(format!("the body is larger than {limit} bytes")))
        }
        Err(error) => Err(ApiError::invalid(format!("the body broke off: {error}"))),
    }
}

/// A request of the control plane.
pub(super) async fn json<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    let body = read(body, CONTROL_BODY_MAX).await?;
    parse(&body)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| refused(&error))?;
    json.end().map_err(|error| ApiError::invalid(format!("the body is not one JSON document: {error}")))?;
    Ok(value)
}

fn refused(error: &serde_path_to_error::Error<serde_json::Error>) -> ApiError {
    let field = match error.path().to_string() {
        root if root == "." => "body".to_owned(),
        field => field,
    };
    match error.inner().classify() {
        serde_json::error::Category::Data => ApiError::validation(&field, error.inner().to_string()),
        _ => ApiError::invalid(format!("the body is not JSON: {}", error.inner())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandwire_protocol::ServiceUrlRequest;

    #[test]
    fn what_is_wrong_is_named() {
        let refusal = |body: &str| format!("{:?}", parse::<ServiceUrlRequest>(body.as_bytes()).unwrap_err());
        assert!(refusal(r#"{"port":"a"}"#).contains(r#""loc": Array [String("body"), String("port")]"#));
        assert!(refusal(r#"{"port":1,"embed_origins":[2]}"#).contains("embed_origins[0]"));
        assert!(refusal("{}").contains("missing field `port`"));
        assert!(refusal(r#"{"port":1,"ports":2}"#).contains("unknown field `ports`"));
        for broken in ["", "{", "{\"port\":1} x", "\u{7f}"] {
            assert!(refusal(broken).contains("InvalidRequest"), "{broken}");
        }
    }
}
