//! Who the client is, and its proof (RFC 6749, 2.3.1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::directory::{Client, ClientAuth};
use crate::message::{Incoming, OAuthError};
use crate::tenant::Tenant;

/// The client that sent a request, if it proves to be it.
pub(crate) fn client_of<'a>(tenant: &'a Tenant, request: &Incoming) -> Result<&'a Client, OAuthError> {
    let basic = basic_of(request)?;
    let in_body = request.form.get("client_secret");
    if basic.is_some() && in_body.is_some() {
        return Err(OAuthError::invalid_request("Only one way to authenticate may be used."));
    }
    let id = match (&basic, request.form.get("client_id")) {
        (Some((id, _)), Some(other)) if id != other => {
            return Err(OAuthError::invalid_request(
                "client_id differs from that of the Authorization header.",
            ));
        }
        (Some((id, _)), _) => id.as_str(),
        (None, Some(id)) => id,
        (None, None) => return Err(OAuthError::missing("client_id")),
    };
    let refused = || invalid_client(basic.is_some());
    let client = tenant.client(id).ok_or_else(refused)?;
    let by_basic = basic.as_ref().map(|(_, secret)| secret.as_str());
    let secret = match client.auth {
        // A public client has no secret to send: one that does is set up wrongly.
        ClientAuth::None if by_basic.is_some() || in_body.is_some() => return Err(refused()),
        ClientAuth::None => return Ok(client),
        ClientAuth::Basic => by_basic,
        ClientAuth::Post => in_body,
        ClientAuth::BasicOrPost => by_basic.or(in_body),
    };
    if secret.is_some() && secret == client.secret.as_deref() { Ok(client) } else { Err(refused()) }
}

/// The `client_id` in the Authorization header, for the log.
pub(crate) fn basic_id(request: &Incoming) -> Option<String> {
    basic_of(request).ok().flatten().map(|(id, _)| id)
}

fn basic_of(request: &Incoming) -> Result<Option<(String, String)>, OAuthError> {
    let Some(header) = request.header("authorization") else { return Ok(None) };
    let Some((scheme, encoded)) = header.split_once(' ') else { return Err(invalid_client(true)) };
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(invalid_client(true));
    }
    let decoded = STANDARD.decode(encoded.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
    let (id, secret) = pair.ok_or_else(|| invalid_client(true))?;
    Ok(Some((form_decoded(id), form_decoded(secret))))
}

/// Undoes form encoding. Text that was not encoded and has `&`, `=`, `+` or `%` in it comes out wrong, and is refused.
fn form_decoded(text: &str) -> String {
    let mut pairs = url::form_urlencoded::parse(text.as_bytes());
    match (pairs.next(), pairs.next()) {
        (Some((name, value)), None) if value.is_empty() => name.into_owned(),
        _ => String::new(),
    }
}

fn invalid_client(by_header: bool) -> OAuthError {
    let mut error = OAuthError::new(401, "invalid_client", "Unauthorized");
    if by_header {
        error.headers.push(("www-authenticate".to_owned(), "Basic realm=\"mock-auth0\"".to_owned()));
    }
    error
}
