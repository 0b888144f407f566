//! `tokenkeep request`: an HTTP request with the token, renewed and sent again on a 401.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response};
use reqwest_middleware::ClientBuilder;
use tokenkeep::http::{Origins, SessionMiddleware};
use tokenkeep::session::{Session, SessionError};
use url::Url;

use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::input;
use crate::wait;

/// Send an HTTP request with the token.
///
/// As with curl, the answer's body goes to standard output. On a 401 the token is renewed once and the request sent again.
/// The token goes to the URL's own origin alone (https, or http to this machine), and redirects are not followed. It exits
/// 0 on any HTTP status; with --fail 22 from 400 on.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tokenkeep request https://api.example.com/things
  tokenkeep request POST https://api.example.com/things -d '{\"name\": \"x\"}'
  tokenkeep request PUT https://api.example.com/blob --data-file blob.bin --fail")]
pub(crate) struct RequestArgs {
    /// Method (GET, or POST with a body) and URL
    #[arg(value_name = "[METHOD] URL", num_args = 1..=2, required = true)]
    pub(crate) target: Vec<String>,

    /// The method
    #[arg(long, short = 'X', value_name = "METHOD")]
    pub(crate) method: Option<String>,

    /// Header, `Name: value`, or @FILE with one a line; repeatable
    #[arg(long, short = 'H', value_name = "HEADER")]
    pub(crate) header: Vec<String>,

    /// Body; @FILE is read from a file, @- from standard input
    ///
    /// Without a Content-Type header it is sent as application/json if it begins with { or [, else as
    /// application/x-www-form-urlencoded. It is held in memory, so that it can be sent again after a 401.
    #[arg(long, short, value_name = "DATA", conflicts_with = "data_file")]
    pub(crate) data: Option<String>,

    /// File with the body; - is standard input
    ///
    /// Without a Content-Type header it is sent as application/octet-stream.
    #[arg(long, value_name = "FILE")]
    pub(crate) data_file: Option<PathBuf>,

    /// Write the answer's body to this file
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Print status and headers before the body
    #[arg(long, short)]
    pub(crate) include: bool,

    /// Exit 22 if the HTTP status is 400 or above, and print no body
    #[arg(long, short)]
    pub(crate) fail: bool,

    /// Certificate authority to trust besides the system's
    ///
    /// The session's own, from `login --ca-file`, is trusted too.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
}

/// Runs `request`.
pub(crate) async fn run(context: &Context, args: &RequestArgs) -> Result<Exit, CommandError> {
    let (method, url) = target(args)?;
    let origins = Origins::parse([url.origin().ascii_serialization()])
        .map_err(|error| CommandError::usage(error.to_string(), "tokenkeep request https://…"))?;
    let mut inputs: Vec<_> = args.header.iter().map(|header| ("--header", named_file(header))).collect();
    inputs.push(("--data", args.data.as_deref().and_then(named_file)));
    inputs.push(("--data-file", args.data_file.as_deref()));
    inputs.push(("--ca-file", args.ca_file.as_deref()));
    context.standard_input_once(&inputs, "put the others into files: --data-file FILE")?;
    let mut headers = headers(&args.header)?;
    let body = body(args, &mut headers)?.map(Bytes::from);
    let session = context.renewable_session().await?;
    let client = client(&session, args).await?;
    let client = ClientBuilder::new(client).with(SessionMiddleware::new(&session, origins)).build();
    let send = || {
        let request = client.request(method.clone(), url.clone()).headers(headers.clone());
        match &body {
            Some(body) => request.body(body.clone()),
            None => request,
        }
        .send()
    };
    let response = match send().await {
        Ok(response) => response,
        Err(error) => {
            // Without a token nothing was sent, so it may be sent now.
            wait::until_saved(context, &session, session_error(error)?).await?;
            send()
                .await
                .map_err(|error| session_error(error).map_or_else(|error| error, CommandError::from))?
        }
    };
    let status = response.status();
    if args.fail && status.as_u16() >= 400 {
        return Err(CommandError::new(
            Exit::HttpStatus,
            "http_status",
            format!("the API answered {status}"),
            "the same without --fail shows the answer's body",
        ));
    }
    print(context, args, response).await?;
    Ok(Exit::Done)
}

/// The file of `@FILE`.
fn named_file(text: &str) -> Option<&Path> {
    text.strip_prefix('@').map(Path::new)
}

/// Method and URL, in whichever way they were given.
fn target(args: &RequestArgs) -> Result<(Method, Url), CommandError> {
    let usage = |what: &str| CommandError::usage(what, "tokenkeep request [METHOD] URL");
    let (positional, url) = match args.target.as_slice() {
        [url] => (None, url),
        [method, url] if args.method.is_none() => (Some(method), url),
        _ => return Err(usage("the method is given twice")),
    };
    let has_body = args.data.is_some() || args.data_file.is_some();
    let method = match positional.or(args.method.as_ref()) {
        Some(name) => Method::from_bytes(name.to_ascii_uppercase().as_bytes())
            .map_err(|_| usage("the method is not one of HTTP"))?,
        None if has_body => Method::POST,
        None => Method::GET,
    };
    // The URL is not repeated: it may hold a key in its query.
    let url = Url::parse(url).map_err(|_| usage("the URL cannot be read: write it as https://host/path"))?;
    Ok((method, url))
}

fn headers(flags: &[String]) -> Result<HeaderMap, CommandError> {
    let mut headers = HeaderMap::new();
    for flag in flags {
        match flag.strip_prefix('@') {
            Some(path) => {
                let text = input::bytes("--header", Path::new(path))?;
                let text = String::from_utf8(text).map_err(|_| {
                    CommandError::usage("the file of --header is not text", "one `Name: value` a line")
                })?;
                for line in text.lines().filter(|line| !line.trim().is_empty()) {
                    add_header(&mut headers, line)?;
                }
            }
            None => add_header(&mut headers, flag)?,
        }
    }
    Ok(headers)
}

fn add_header(headers: &mut HeaderMap, line: &str) -> Result<(), CommandError> {
    // Values are not repeated in errors: a header is a common place for keys.
    let usage = |what: &str| CommandError::usage(what, "tokenkeep request -H 'Name: value' …");
    let (name, value) = line.split_once(':').ok_or_else(|| usage("a header is `Name: value`"))?;
    let name =
        HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| usage("that is no name of a header"))?;
    if name == AUTHORIZATION {
        return Err(CommandError::usage(
            "`request` sends the session's token as Authorization, and no other",
            "use curl for another one",
        ));
    }
    let mut value =
        HeaderValue::from_str(value.trim()).map_err(|_| usage("the value of a header cannot be sent"))?;
    value.set_sensitive(true);
    headers.append(name, value);
    Ok(())
}

/// The body, and the Content-Type that goes with it where none was given.
fn body(args: &RequestArgs, headers: &mut HeaderMap) -> Result<Option<Vec<u8>>, CommandError> {
    let (bytes, guess) = match (&args.data, &args.data_file) {
        (Some(data), _) => {
            let bytes = match data.strip_prefix('@') {
                Some(path) => input::bytes("--data", Path::new(path))?,
                None => data.clone().into_bytes(),
            };
            let json = matches!(bytes.iter().find(|byte| !byte.is_ascii_whitespace()), Some(b'{' | b'['));
            (bytes, if json { "application/json" } else { "application/x-www-form-urlencoded" })
        }
        (None, Some(path)) => (input::bytes("--data-file", path)?, "application/octet-stream"),
        (None, None) => return Ok(None),
    };
    headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(guess));
    Ok(Some(bytes))
}

/// A client that trusts the system's authorities, the session's and those of `--ca-file`, and follows no redirect.
async fn client(session: &Session, args: &RequestArgs) -> Result<reqwest::Client, CommandError> {
    let settings = session.settings().await?;
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("tokenkeep/", env!("CARGO_PKG_VERSION")));
    let own = settings.and_then(|settings| settings.ca_file);
    for path in [own.as_ref(), args.ca_file.as_ref()].into_iter().flatten() {
        let pem = input::bytes("--ca-file", path)?;
        let authorities = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if authorities.is_empty() {
            return Err(CommandError::usage(
                format!("{} holds no certificate in PEM", path.display()),
                "tokenkeep request --ca-file FILE …",
            ));
        }
        builder = builder.tls_certs_merge(authorities);
    }
    builder.build().map_err(|error| unreachable_api(&error))
}

/// Streams the answer out as it comes.
async fn print(context: &Context, args: &RequestArgs, mut response: Response) -> Result<(), CommandError> {
    let mut file = match &args.output {
        Some(path) => Some(File::create(path).map_err(|error| unwritten(path, &error))?),
        None => None,
    };
    if args.include {
        let mut head = format!("{:?} {}\r\n", response.version(), response.status()).into_bytes();
        for (name, value) in response.headers() {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        context.output.bytes(&head)?;
    }
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable_api(&error))? {
        match (&mut file, &args.output) {
            (Some(file), Some(path)) => file.write_all(&chunk).map_err(|error| unwritten(path, &error))?,
            _ => context.output.bytes(&chunk)?,
        }
    }
    Ok(())
}

/// What the session said about a request that got no answer.
///
/// # Errors
///
/// What else kept it from one.
fn session_error(error: reqwest_middleware::Error) -> Result<SessionError, CommandError> {
    match error {
        reqwest_middleware::Error::Reqwest(error) => Err(unreachable_api(&error)),
        reqwest_middleware::Error::Middleware(error) => {
            let cause = error.chain().find_map(|cause| cause.downcast_ref::<SessionError>()).cloned();
            cause.ok_or_else(|| {
                CommandError::new(Exit::Other, "request", error.to_string(), "tokenkeep status")
            })
        }
    }
}

/// The API could not be reached. Its URL is left out: a query can hold a key.
fn unreachable_api(error: &reqwest::Error) -> CommandError {
    let what = if error.is_timeout() {
        "did not answer in time"
    } else if error.is_connect() {
        "cannot be reached"
    } else if error.is_body() || error.is_decode() {
        "broke off its answer"
    } else {
        "could not be asked"
    };
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let why = if std::ptr::addr_eq(cause, error) { String::new() } else { format!(": {cause}") };
    CommandError::new(
        Exit::Unavailable,
        "api_unavailable",
        format!("the API {what}{why}"),
        "check the URL and the network, and run the command again",
    )
}

fn unwritten(path: &Path, error: &std::io::Error) -> CommandError {
    CommandError::new(
        Exit::Other,
        "output",
        format!("{} cannot be written: {error}", path.display()),
        "choose another file: --output FILE",
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn args(words: &[&str]) -> RequestArgs {
        let words = ["tokenkeep", "request"].iter().chain(words);
        match crate::args::Cli::try_parse_from(words).unwrap().command {
            crate::args::Command::Request(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_method_follows_from_the_body_unless_it_is_given_in_either_way() {
        let cases = [
            (&["https://h/"][..], "GET"),
            (&["post", "https://h/"], "POST"),
            (&["-X", "PATCH", "https://h/"], "PATCH"),
            (&["https://h/", "-d", "x"], "POST"),
            (&["https://h/", "--data-file", "f"], "POST"),
            (&["PUT", "https://h/", "-d", "x"], "PUT"),
        ];
        for (words, method) in cases {
            assert_eq!(target(&args(words)).unwrap().0.as_str(), method, "{words:?}");
        }
        for words in [&["GET", "https://h/", "-X", "POST"][..], &["G T", "https://h/"], &["canary"]] {
            let error = target(&args(words)).unwrap_err();
            assert_eq!(error.exit, Exit::Usage);
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
    }

    #[test]
    fn the_content_type_is_guessed_where_none_is_given() {
        let guess = |words: &[&str]| {
            let args = args(words);
            let mut headers = headers(&args.header).unwrap();
            let bytes = body(&args, &mut headers).unwrap();
            (bytes, headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap().to_owned()))
        };
        assert_eq!(guess(&["https://h/"]), (None, None));
        let json = guess(&["https://h/", "-d", " {\"a\": 1}"]);
        assert_eq!(json, (Some(b" {\"a\": 1}".to_vec()), Some("application/json".to_owned())));
        let form = guess(&["https://h/", "-d", "a=b"]);
        assert_eq!(form, (Some(b"a=b".to_vec()), Some("application/x-www-form-urlencoded".to_owned())));
        let given = guess(&["https://h/", "-d", "[]", "-H", "content-type: text/plain"]);
        assert_eq!(given.1.as_deref(), Some("text/plain"));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("body");
        std::fs::write(&file, b"\x00\x01").unwrap();
        let file = file.to_str().unwrap();
        let from_file = guess(&["https://h/", "--data-file", file]);
        assert_eq!(from_file, (Some(vec![0, 1]), Some("application/octet-stream".to_owned())));
        assert_eq!(guess(&["https://h/", "-d", &format!("@{file}")]).0, Some(vec![0, 1]));
    }

    #[test]
    fn a_header_that_cannot_be_sent_is_refused_without_being_repeated() {
        for header in ["canary", "na me: canary", "X-Key: canary\nX: y", "Authorization: Basic canary"] {
            let error = headers(&[header.to_owned()]).unwrap_err();
            assert_eq!(error.exit, Exit::Usage);
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
    }

    #[test]
    fn headers_come_from_a_file_too() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("headers");
        std::fs::write(&file, "X-Key: secret\n\nX-Other: b\n").unwrap();
        let headers = headers(&[format!("@{}", file.display())]).unwrap();
        assert_eq!(headers["x-key"], "secret");
        assert_eq!(headers["x-other"], "b");
        assert!(!format!("{headers:?}").contains("secret"), "values are marked as sensitive");
    }
}
