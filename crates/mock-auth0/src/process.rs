//! What happens to a request between its arrival and its answer.
//!
//! Runs as a task of its own, so that it ends even if the client goes away: a grant takes effect or does not, and never
//! by half.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use crate::bad_answer::{reply, with_headers, with_members};
use crate::endpoint::Endpoint;
use crate::fault_book::Plan;
use crate::message::{Answer, Incoming, OAuthError, Reply};
use crate::shared::Shared;
use crate::{api, authorize, device, oauth, token};

/// A request under its number in the log.
pub(crate) struct Job {
    pub(crate) id: u64,
    pub(crate) endpoint: Endpoint,
    pub(crate) request: Incoming,
}

pub(crate) async fn process(shared: &Arc<Shared>, job: &Job) -> Reply {
    let grant = match job.endpoint {
        Endpoint::Token => job.request.form.get("grant_type"),
        _ => None,
    };
    let plan = shared.faults.take(job.endpoint, grant);
    shared.log.hit_by(job.id, &plan.names());
    if let Some(ms) = plan.delay_ms() {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
    if plan.holds() {
        shared.faults.hold().await;
    }
    if let Some(fault) = plan.instead() {
        return dressed(reply(fault, None, shared.clock.now_ms()), &plan);
    }
    let (answer, effect) = dispatch(shared, job, &plan);
    if effect {
        shared.log.took_effect(job.id);
    }
    if let Some(ms) = plan.delay_after_ms() {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
    if plan.holds_after() {
        shared.faults.hold().await;
    }
    let changed = match plan.members() {
        Some(members) => with_members(answer, members),
        None => answer,
    };
    let reply = match plan.after() {
        Some(fault) => reply(fault, Some(changed), shared.clock.now_ms()),
        None => Reply::Whole(changed),
    };
    dressed(reply, &plan)
}

fn dressed(reply: Reply, plan: &Plan) -> Reply {
    match (reply, plan.headers()) {
        (Reply::Whole(answer), Some(headers)) => Reply::Whole(with_headers(answer, headers)),
        (reply, _) => reply,
    }
}

/// The answer, and whether a grant took effect.
fn dispatch(shared: &Shared, job: &Job, plan: &Plan) -> (Answer, bool) {
    let now_ms = shared.clock.now_ms();
    let request = &job.request;
    let mut tenant = shared.tenant();
    let tenant = &mut *tenant;
    let plain = |result: Result<Answer, OAuthError>| result.unwrap_or_else(OAuthError::answer);
    match job.endpoint {
        Endpoint::Discovery => (oauth::discovery(tenant), false),
        Endpoint::Jwks => (oauth::jwks(tenant), false),
        Endpoint::Token => match token::answer(tenant, request, plan, now_ms) {
            Ok(answer) => (answer, true),
            Err(error) => (error.answer(), false),
        },
        Endpoint::DeviceCode => (plain(oauth::device_code(tenant, request, now_ms)), false),
        Endpoint::Userinfo => (oauth::userinfo(tenant, request, now_ms), false),
        Endpoint::Revoke => match oauth::revoke(tenant, request) {
            Ok(done) => done,
            Err(error) => (error.answer(), false),
        },
        Endpoint::Api => (api::answer(tenant, request, now_ms), false),
        Endpoint::Activate => (device::page(tenant, request, now_ms), false),
        Endpoint::Authorize => (authorize::page(tenant, request, now_ms), false),
        Endpoint::Other => (Answer::json(StatusCode::NOT_FOUND, &json!({"error": "Not Found"})), false),
    }
}

/// One word for the log: `error` of a JSON answer, or what happened to the connection.
pub(crate) fn outcome(reply: &Reply) -> String {
    let answer = match reply {
        Reply::Whole(answer) => answer,
        Reply::Half(_) => return "half".to_owned(),
        Reply::Reset => return "reset".to_owned(),
        Reply::Close => return "close".to_owned(),
        Reply::Silence => return "silence".to_owned(),
    };
    if answer.status.is_success() {
        return "ok".to_owned();
    }
    let error = answer.object().and_then(|mut object| object.remove("error"));
    match error.as_ref().and_then(|error| error.as_str()) {
        Some(error) => error.to_owned(),
        None => answer.status.as_str().to_owned(),
    }
}
