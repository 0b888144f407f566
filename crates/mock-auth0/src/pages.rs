//! The pages that people see: plain HTML forms, no scripts.

use http::StatusCode;

use crate::message::Answer;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{margin:0;min-height:100vh;display:grid;place-items:center;background:#f3f4f6;color:#1f2430;\
font:16px/1.5 system-ui,sans-serif}\
main{box-sizing:border-box;width:min(25rem,92vw);padding:2.25rem;background:#fff;border-radius:.75rem;\
box-shadow:0 1px 3px #0002,0 12px 32px #0001}\
h1{margin:0 0 .75rem;font-size:1.45rem;line-height:1.25}\
p{margin:.5rem 0 1rem}\
label{display:block;margin:.9rem 0 .3rem;font-weight:600}\
input{box-sizing:border-box;width:100%;padding:.65rem .75rem;border:1px solid #b8bec9;border-radius:.4rem;font:inherit}\
.code{font:600 1.6rem ui-monospace,monospace;letter-spacing:.12em;text-align:center}\
.row{display:flex;gap:.75rem;margin-top:1.5rem}\
button{flex:1;padding:.7rem;border:1px solid transparent;border-radius:.4rem;background:#3f59e4;color:#fff;\
font:inherit;font-weight:600;cursor:pointer}\
button.quiet{background:none;border-color:#b8bec9;color:inherit}\
.error{padding:.6rem .75rem;border-radius:.4rem;background:#fde8e8;color:#8f1d1d}\
.foot{margin:1.5rem 0 0;font-size:.85rem;opacity:.7}\
@media(prefers-color-scheme:dark){body{background:#15171c;color:#e8eaf0}main{background:#1f222a}\
input{background:#15171c;color:inherit;border-color:#4a5060}.error{background:#4a1d1d;color:#ffd7d7}}";

/// The first page of the device flow, with the code filled in where the address brought it.
pub(crate) fn user_code(prefilled: &str, error: Option<&str>) -> Answer {
    let body = format!(
        "<h1>Connect a device</h1><p>Enter the code that your device shows, and go on only if you have just started \
         this yourself.</p>{}<form method=post action=/activate><label for=user_code>Code</label>\
         <input class=code id=user_code name=user_code value=\"{}\" maxlength=12 autocomplete=off autocapitalize=characters \
         spellcheck=false required autofocus><div class=row><button>Continue</button></div></form>",
        error_box(error),
        escaped(prefilled),
    );
    page(status(error), "Connect a device", &body)
}

/// Asks for e-mail address and password, and sends them with `ticket` to `action`.
pub(crate) fn login(action: &str, ticket: &str, client: &str, error: Option<&str>) -> Answer {
    let body = format!(
        "<h1>Sign in</h1><p>to go on to <strong>{}</strong></p>{}<form method=post action=\"{}\">\
         <input type=hidden name=ticket value=\"{}\"><label for=username>E-mail address</label>\
         <input id=username name=username type=email autocomplete=username required autofocus>\
         <label for=password>Password</label>\
         <input id=password name=password type=password autocomplete=current-password required>\
         <div class=row><button name=action value=login>Sign in</button>\
         <button class=quiet name=action value=deny formnovalidate>Cancel</button></div></form>",
        escaped(client),
        error_box(error),
        escaped(action),
        escaped(ticket),
    );
    page(status(error), "Sign in", &body)
}

/// Asks a person who has signed in whether the device is theirs.
pub(crate) fn confirm(ticket: &str, user_code: &str, client: &str, scope: &str, email: &str) -> Answer {
    let body = format!(
        "<h1>Is this your device?</h1><p class=code>{}</p><p><strong>{}</strong> asks to act for <strong>{}</strong>\
         {}. Confirm only if your device shows this code.</p><form method=post action=/activate/confirm>\
         <input type=hidden name=ticket value=\"{}\"><div class=row><button name=action value=confirm>Confirm</button>\
         <button class=quiet name=action value=deny>Deny</button></div></form>",
        escaped(user_code),
        escaped(client),
        escaped(email),
        if scope.is_empty() { String::new() } else { format!(" with <em>{}</em>", escaped(scope)) },
        escaped(ticket),
    );
    page(StatusCode::OK, "Confirm the device", &body)
}

/// An end: good or bad.
pub(crate) fn message(status: StatusCode, title: &str, text: &str) -> Answer {
    page(status, title, &format!("<h1>{}</h1><p>{}</p>", escaped(title), escaped(text)))
}

fn status(error: Option<&str>) -> StatusCode {
    if error.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK }
}

fn error_box(error: Option<&str>) -> String {
    error.map(|text| format!("<p class=error role=alert>{}</p>", escaped(text))).unwrap_or_default()
}

fn page(status: StatusCode, title: &str, body: &str) -> Answer {
    Answer::html(
        status,
        format!(
            "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport \
             content=\"width=device-width,initial-scale=1\"><title>{}</title><style>{STYLE}</style></head>\
             <body><main>{body}<p class=foot>mock-auth0: a tenant for tests</p></main></body></html>",
            escaped(title),
        ),
    )
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Body;

    #[test]
    fn what_comes_from_outside_is_escaped() {
        let answer = user_code("\"><script>alert(1)</script>", Some("<b>'no'</b>"));
        let Body::Bytes(bytes) = answer.body else { panic!("a page has bytes") };
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(!text.contains("<script>") && !text.contains("<b>"));
        assert!(text.contains("&quot;&gt;&lt;script&gt;"));
    }
}
