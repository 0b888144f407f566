//! `mock-auth0`: the tenant as a command, in the foreground.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use mock_auth0::{
    Api, Client, DEMO_AUDIENCE, DEMO_CLIENT, DEMO_SERVICE, DEMO_USER, Endpoint, Fault, FaultRule, MockAuth0,
    Revocation, Signing,
};
use serde_json::json;

/// A real HTTP server that behaves as an Auth0 tenant, to test against. Keeps nothing; stops with Ctrl-C.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Host name in the issuer.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Spell the issuer without a slash at the end.
    #[arg(long)]
    issuer_without_slash: bool,
    /// Print one line of JSON in place of text.
    #[arg(long)]
    json: bool,
    /// Serve TLS, and write the CA's certificate to this file.
    #[arg(long, value_name = "CA_FILE")]
    tls: Option<PathBuf>,
    /// Signature algorithm of tokens.
    #[arg(long, value_enum, default_value_t = Alg::Rs256)]
    signing: Alg,
    /// Id of the public client.
    #[arg(long, default_value = DEMO_CLIENT)]
    client_id: String,
    /// Lifetime of access tokens, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    access_token_lifetime: u64,
    /// Lifetime of id tokens, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 36_000)]
    id_token_lifetime: u64,
    /// Lifetime of refresh tokens from the sign-in, in seconds.
    #[arg(long, value_name = "SECONDS")]
    refresh_token_lifetime: Option<u64>,
    /// How long a refresh token may lie unused, in seconds.
    #[arg(long, value_name = "SECONDS")]
    refresh_token_idle: Option<u64>,
    /// Do not rotate refresh tokens.
    #[arg(long)]
    no_rotation: bool,
    /// For how long the previous refresh token may be used again, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    overlap: u64,
    /// What a revocation kills.
    #[arg(long, value_enum, default_value_t = Kill::Family)]
    revocation: Kill,
    /// Issue access tokens that are random strings.
    #[arg(long)]
    opaque_access_tokens: bool,
    /// Polling interval of devices, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    device_interval: u64,
    /// Answer every token request so much later than it arrives, in milliseconds.
    #[arg(long, value_name = "MS")]
    delay: Option<u64>,
    /// Answer every token request so much later than its grant took effect, in milliseconds.
    #[arg(long, value_name = "MS")]
    delay_after: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Alg {
    Rs256,
    Es256,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kill {
    Token,
    Family,
    Grant,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mock = start(&args)?;
    if let (Some(path), Some(pem)) = (&args.tls, mock.ca_pem()) {
        std::fs::write(path, pem).with_context(|| format!("cannot write the CA to {}", path.display()))?;
    }
    for (ms, fault) in
        [(args.delay, Fault::delay as fn(Duration) -> Fault), (args.delay_after, Fault::delay_after)]
    {
        if let Some(ms) = ms {
            let rule = FaultRule::new(fault(Duration::from_millis(ms))).at(Endpoint::Token);
            mock.add_fault(rule.always());
        }
    }
    announce(&args, &mock).context("cannot write to standard output")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(tokio::signal::ctrl_c()).context("cannot wait for Ctrl-C")
}

fn start(args: &Args) -> anyhow::Result<MockAuth0> {
    let (service, secret) = DEMO_SERVICE;
    let mut builder = MockAuth0::builder()
        .port(args.port)
        .host(&args.host)
        .client(Client::public(&args.client_id).name("Demo application"))
        .client(Client::confidential(service, secret).name("Demo service"))
        .api(Api::new(DEMO_AUDIENCE).scopes(["read:things", "write:things"]))
        .signing(match args.signing {
            Alg::Rs256 => Signing::Rs256,
            Alg::Es256 => Signing::Es256,
        })
        .revocation(match args.revocation {
            Kill::Token => Revocation::Token,
            Kill::Family => Revocation::Family,
            Kill::Grant => Revocation::Grant,
        })
        .access_token_lifetime(Duration::from_secs(args.access_token_lifetime))
        .id_token_lifetime(Duration::from_secs(args.id_token_lifetime))
        .rotation(!args.no_rotation)
        .overlap(Duration::from_millis(args.overlap))
        .device_codes(Duration::from_secs(900), Duration::from_secs(args.device_interval));
    let mut changes = json!({});
    if let Some(secs) = args.refresh_token_lifetime {
        changes["refresh_absolute_secs"] = json!(secs);
    }
    if let Some(secs) = args.refresh_token_idle {
        changes["refresh_idle_secs"] = json!(secs);
    }
    builder = builder.configure(&changes)?;
    if args.issuer_without_slash {
        builder = builder.issuer_without_slash();
    }
    if args.tls.is_some() {
        builder = builder.tls();
    }
    if args.opaque_access_tokens {
        builder = builder.opaque_access_tokens();
    }
    Ok(builder.start_blocking()?)
}

/// One line for a program, a few for a person.
fn announce(args: &Args, mock: &MockAuth0) -> std::io::Result<()> {
    let (email, password) = DEMO_USER;
    let (service, secret) = DEMO_SERVICE;
    let mut out = std::io::stdout().lock();
    if args.json {
        let line = json!({
            "issuer": mock.issuer(), "domain": mock.domain(), "client_id": mock.client_id(),
            "audience": mock.audience(), "user": {"email": email, "password": password},
            "service": {"client_id": service, "client_secret": secret}, "ca_file": args.tls,
        });
        writeln!(out, "{line}")?;
    } else {
        writeln!(out, "issuer     {}", mock.issuer())?;
        writeln!(out, "client id  {}", mock.client_id())?;
        writeln!(out, "audience   {}", mock.audience())?;
        writeln!(out, "user       {email}   password: {password}")?;
        writeln!(out, "service    {service}   secret: {secret}")?;
        writeln!(out, "admin      {}", mock.url("/_mock/counters"))?;
        if let Some(path) = &args.tls {
            writeln!(out, "CA         {}", path.display())?;
        }
    }
    out.flush()
}
