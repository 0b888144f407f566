//! The binary.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use mock_auth0::DEMO_USER;
use serde_json::{Value, json};

/// Ends the process with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn start(args: &[&str]) -> (Running, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mock-auth0"))
        .args(args)
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (Running(child), out)
}

#[tokio::test]
async fn it_prints_one_line_of_json_and_serves_what_the_line_says() {
    let ca_file = std::env::temp_dir().join(format!("mock-auth0-ca-{}.pem", std::process::id()));
    let ca_arg = ca_file.to_str().unwrap();
    let (_running, mut out) = start(&[
        "--json",
        "--tls",
        ca_arg,
        "--client-id",
        "mine",
        "--no-rotation",
        "--access-token-lifetime",
        "7",
        "--refresh-token-idle",
        "9",
        "--overlap",
        "11",
        "--revocation",
        "grant",
        "--delay-after",
        "1",
        "--signing",
        "es256",
    ]);
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let said: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&said["client_id"], &said["ca_file"]), (&json!("mine"), &json!(ca_arg)));

    let pem = std::fs::read(&ca_file).unwrap();
    std::fs::remove_file(&ca_file).unwrap();
    let ca = reqwest::Certificate::from_pem(&pem).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap();
    let issuer = said["issuer"].as_str().unwrap();
    let form = [
        ("grant_type", "password"),
        ("client_id", "mine"),
        ("username", said["user"]["email"].as_str().unwrap()),
        ("password", said["user"]["password"].as_str().unwrap()),
    ];
    let answer = client.post(format!("{issuer}oauth/token")).form(&form).send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["expires_in"], 7);
    let get = async |path: &str| {
        let answer = client.get(format!("{issuer}{path}")).send().await.unwrap();
        answer.json::<Value>().await.unwrap()
    };
    let settings = get("_mock/settings").await;
    assert_eq!((&settings["rotation"], &settings["overlap_ms"]), (&json!(false), &json!(11)));
    assert_eq!((&settings["revocation"], &settings["refresh_idle_secs"]), (&json!("grant"), &json!(9)));
    assert_eq!(get("_mock/requests").await[0]["faults"], json!(["delay_after"]));
    let discovery = get(".well-known/openid-configuration").await;
    assert_eq!(discovery["id_token_signing_alg_values_supported"], json!(["ES256"]));
}

#[test]
fn it_tells_a_person_what_to_use() {
    let (_running, out) = start(&[]);
    let lines: Vec<String> = out.lines().take(6).map(Result::unwrap).collect();
    let value = |name: &str| {
        let line = lines.iter().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{lines:?}"));
        line[name.len()..].trim().to_owned()
    };
    assert!(value("issuer").starts_with("http://127.0.0.1:"));
    assert_eq!(value("client id"), "mock-client");
    assert!(value("user").starts_with(DEMO_USER.0));
    assert!(value("admin").ends_with("/_mock/counters"));
}
