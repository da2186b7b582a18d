//! What a webhook is answered with, the first time and again.

use std::time::Duration;

use serde_json::{Map, Value};

use super::super::event::HEADER_DUPLICATE;

/// What the work leads to. It is stored, and a duplicate gets it again.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub body: Option<Value>,
}

impl Answer {
    pub fn new(status: u16) -> Answer {
        Answer { status, body: None }
    }

    pub fn json(status: u16, body: Value) -> Answer {
        Answer { status, body: Some(body) }
    }

    pub(super) fn stored(status: Option<i32>, body: Option<&str>) -> Answer {
        let status = status.and_then(|status| u16::try_from(status).ok()).unwrap_or(200);
        Answer { status, body: body.and_then(|body| serde_json::from_str(body).ok()) }
    }

    /// The same again, with the word that it is a duplicate.
    fn again(&self) -> Value {
        let mut object = match &self.body {
            None => Map::new(),
            Some(Value::Object(object)) => object.clone(),
            Some(other) => Map::from_iter([("response".to_owned(), other.clone())]),
        };
        object.insert("duplicate".to_owned(), Value::Bool(true));
        Value::Object(object)
    }
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Handled<E> {
    /// The work was done, now.
    Done(Answer),
    /// It was done before, with this answer.
    Duplicate(Answer),
    /// Somebody else is at it.
    Busy(Duration),
    /// The work failed, and all that it did was undone. The event may come again.
    Failed(E),
}

/// A response, for any HTTP library. With the feature `layer`, axum takes it as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl<E> Handled<E> {
    /// 409 and not 503 for what is busy: a sender may take 503 for the service's state and stop sending everything else.
    pub fn reply(&self) -> Reply {
        match self {
            Handled::Done(answer) => json(answer.status, answer.body.as_ref()),
            Handled::Duplicate(answer) => {
                let mut reply = json(200, Some(&answer.again()));
                reply.headers.push((HEADER_DUPLICATE, "true".to_owned()));
                reply
            }
            Handled::Busy(wait) => {
                let mut reply = json(409, None);
                reply.headers.push(("retry-after", wait.as_secs().max(1).to_string()));
                reply
            }
            Handled::Failed(_) => json(500, None),
        }
    }
}

fn json(status: u16, body: Option<&Value>) -> Reply {
    let headers = body.iter().map(|_| ("content-type", "application/json".to_owned())).collect();
    Reply { status, headers, body: body.map(ToString::to_string).unwrap_or_default() }
}

#[cfg(feature = "layer")]
impl axum_core::response::IntoResponse for Reply {
    fn into_response(self) -> axum_core::response::Response {
        let status = http::StatusCode::from_u16(self.status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = axum_core::response::Response::new(axum_core::body::Body::from(self.body));
        *response.status_mut() = status;
        for (name, value) in self.headers {
            // All of them are ours: words and numbers.
            if let Ok(value) = http::HeaderValue::try_from(value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_duplicate_gets_the_earlier_answer_with_200_and_says_so() {
        for (body, expected) in [
            (None, json!({"duplicate": true})),
            (Some(json!({"order": 7})), json!({"order": 7, "duplicate": true})),
            (Some(json!([1, 2])), json!({"response": [1, 2], "duplicate": true})),
        ] {
            let reply = Handled::<()>::Duplicate(Answer { status: 201, body }).reply();
            assert_eq!((reply.status, serde_json::from_str(&reply.body).ok()), (200, Some(expected)));
            assert!(reply.headers.contains(&("webhook-duplicate", "true".into())), "{reply:?}");
        }
    }

    #[test]
    fn the_others_are_answered_as_they_are() {
        let done = Handled::<()>::Done(Answer::json(201, json!({"order": 7}))).reply();
        assert_eq!((done.status, done.body.as_str()), (201, r#"{"order":7}"#));
        let busy = Handled::<()>::Busy(Duration::from_millis(1)).reply();
        assert_eq!((busy.status, busy.headers), (409, vec![("retry-after", "1".to_owned())]));
        assert_eq!(Handled::Failed("secret").reply(), Reply { status: 500, headers: vec![], body: String::new() });
    }
}
