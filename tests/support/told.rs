//! What a run of the command told.

use crate::Ran;

impl Ran {
    /// This run, if it ended with `code`.
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// Standard error as JSON: code, message and help.
    #[track_caller]
    pub fn error(&self) -> Told {
        let value: serde_json::Value =
            serde_json::from_str(&self.stderr).unwrap_or_else(|error| panic!("{error}: {self:#?}"));
        let part = |name: &str| value["error"][name].as_str().unwrap_or_default().to_owned();
        Told { code: part("code"), message: part("message"), help: part("help") }
    }
}

/// An error as `--json` tells it.
#[derive(Debug)]
pub struct Told {
    pub code: String,
    pub message: String,
    pub help: String,
}
