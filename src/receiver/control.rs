//! The test receiver's own paths, by which a script reads the counts and changes the behaviour.

use axum::body::{Body, to_bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;

use super::behaviour::Behaviour;
use super::reply::plain;
use super::shared::Shared;

/// The longest behaviour, in bytes; it may hold a URL.
const MAX_BEHAVIOUR_BYTES: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    Stats,
    Ids,
    Behaviour,
    SetBehaviour,
    Reset,
}

impl Control {
    /// `None` is a webhook.
    pub fn of(method: &Method, path: &str) -> Option<Control> {
        let read = method == Method::GET;
        let write = method == Method::POST || method == Method::PUT;
        match path {
            "/_control/stats" | "/stats" if read => Some(Control::Stats),
            "/_control/ids" | "/ids" if read => Some(Control::Ids),
            "/_control/behaviour" | "/behaviour" if read => Some(Control::Behaviour),
            "/_control/behaviour" | "/behaviour" if write => Some(Control::SetBehaviour),
            "/_control/reset" if write => Some(Control::Reset),
            _ => None,
        }
    }
}

pub(super) async fn answer(shared: &Shared, control: Control, request: Request<Incoming>) -> Response<Body> {
    match control {
        Control::Stats => json(&shared.state().ledger.stats),
        Control::Ids => json(&shared.state().ledger.ids()),
        Control::Behaviour => plain(StatusCode::OK, format!("{}\n", shared.state().behaviour)),
        Control::SetBehaviour => set_behaviour(shared, request).await,
        Control::Reset => {
            let mut state = shared.state();
            state.ledger.reset();
            state.recorded.clear();
            plain(StatusCode::OK, "counting from zero\n")
        }
    }
}

async fn set_behaviour(shared: &Shared, request: Request<Incoming>) -> Response<Body> {
    let Ok(text) = to_bytes(Body::new(request.into_body()), MAX_BEHAVIOUR_BYTES).await else {
        return plain(StatusCode::PAYLOAD_TOO_LARGE, "behaviour: the text is too long\n");
    };
    match String::from_utf8_lossy(&text).parse::<Behaviour>() {
        Ok(behaviour) => {
            let confirmation = format!("{behaviour}\n");
            shared.state().behaviour = behaviour;
            plain(StatusCode::OK, confirmation)
        }
        Err(error) => plain(StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

fn json(value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let mut response = plain(StatusCode::OK, bytes);
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}
