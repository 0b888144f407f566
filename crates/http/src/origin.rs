//! Where an access token may go.

use std::fmt;
use std::net::Ipv6Addr;
use std::sync::Arc;

use http::Uri;
use url::{Host, Url};

use crate::Error;

/// The origins that get the access token: scheme, host and port, compared exactly. Cheap to clone.
///
/// A token is as good as a password to whoever receives it, so there is no "any host": name the APIs that it was
/// issued for.
///
/// ```
/// use tokenkeep_http::Origins;
///
/// let origins = Origins::parse(["https://api.example.com", "http://localhost:8080"])?;
/// assert!(origins.serve_uri(&"https://api.example.com/things".parse()?));
/// assert!(!origins.serve_uri(&"https://api.example.com.evil.test/things".parse()?));
/// assert!(Origins::parse(["http://api.example.com"]).is_err(), "the token would be readable on its way");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Origins(Arc<[Origin]>);

/// RFC 6454: what must be equal for the token to be sent.
#[derive(Clone, PartialEq, Eq)]
struct Origin {
    https: bool,
    host: Host,
    port: u16,
}

impl Origins {
    /// Parses origins such as `https://api.example.com` or `http://127.0.0.1:8080`; the port of the scheme may be left
    /// out, and one `/` may stand at the end.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOrigin`] if there is none, if one has another scheme, a path, a query or a user name, or if one
    /// is plain http and not loopback (`localhost`, `127.0.0.0/8`, `[::1]`): the token would be readable on its way.
    pub fn parse<I>(origins: I) -> Result<Self, Error>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let origins =
            origins.into_iter().map(|text| Origin::parse(text.as_ref())).collect::<Result<Vec<_>, _>>()?;
        if origins.is_empty() {
            return Err(Error::InvalidOrigin {
                origin: "nothing".to_owned(),
                reason: "name at least one, such as https://api.example.com",
            });
        }
        Ok(Self(origins.into()))
    }

    /// Whether `url` is at one of the origins.
    pub fn serve_url(&self, url: &Url) -> bool {
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else { return false };
        self.0.iter().any(|own| own.scheme() == url.scheme() && own.host == host && own.port == port)
    }

    /// Whether `uri` is at one of the origins. One without scheme and host is not.
    pub fn serve_uri(&self, uri: &Uri) -> bool {
        let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else { return false };
        self.0.iter().any(|own| {
            own.scheme() == scheme
                && own.port == uri.port_u16().unwrap_or(own.default_port())
                && own.is_spelled(host)
        })
    }
}

impl Origin {
    fn parse(text: &str) -> Result<Self, Error> {
        let invalid = |origin: String, reason| Error::InvalidOrigin { origin, reason };
        // What does not parse is not repeated: it may hold a password.
        let url = Url::parse(text)
            .map_err(|_| invalid("an origin".to_owned(), "write it as https://host or https://host:port"))?;
        let https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(invalid(format!("{}:…", url.scheme()), "only https and http can be served")),
        };
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(invalid(format!("{}:…", url.scheme()), "it has no host"));
        };
        let origin = Self { https, host: host.to_owned(), port };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid(origin.to_string(), "an origin has no user name or password"));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(invalid(
                origin.to_string(),
                "an origin has no path or query: it is served as a whole",
            ));
        }
        if !https && !origin.is_loopback() {
            return Err(invalid(
                origin.to_string(),
                "over plain http anybody on the way could read the token; use https (http is for loopback only)",
            ));
        }
        Ok(origin)
    }

    fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    fn default_port(&self) -> u16 {
        if self.https { 443 } else { 80 }
    }

    fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        }
    }

    /// Whether a URI's host, which nobody has normalised, names this one. A spelling that only a lenient resolver would
    /// take for it (`127.1`, percent-encoding) does not.
    fn is_spelled(&self, host: &str) -> bool {
        match &self.host {
            Host::Domain(name) => host.eq_ignore_ascii_case(name),
            Host::Ipv4(address) => host.parse() == Ok(*address),
            Host::Ipv6(address) => {
                let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
                inner.and_then(|inner| inner.parse::<Ipv6Addr>().ok()) == Some(*address)
            }
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.host)?;
        if self.port == self.default_port() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str) -> String {
        Origins::parse([text]).unwrap_err().to_string()
    }

    #[test]
    fn scheme_host_and_port_must_all_be_equal() {
        let origins = Origins::parse([
            "https://API.example.com",
            "http://127.0.0.1:8080/",
            "https://[2001:db8::1]:8443",
        ])
        .unwrap();
        let cases = [
            ("https://api.example.com/a?b=c", true),
            ("https://api.example.com:443/", true),
            ("HTTPS://Api.Example.Com/", true),
            ("https://api.example.com", true),
            ("http://api.example.com/", false),
            ("http://api.example.com:443/", false),
            ("https://api.example.com:444/", false),
            ("https://example.com/", false),
            ("https://evil.api.example.com/", false),
            ("https://api.example.com.evil.test/", false),
            ("https://api.example.com./", false),
            ("https://api.example.com@evil.test/", false),
            ("https://evil.test/api.example.com", false),
            ("http://127.0.0.1:8080/", true),
            ("http://127.0.0.1/", false),
            ("https://127.0.0.1:8080/", false),
            ("http://127.0.0.2:8080/", false),
            ("http://localhost:8080/", false),
            ("https://[2001:db8::1]:8443/", true),
            ("https://[2001:db8:0::0:1]:8443/", true),
            ("https://[2001:db8::2]:8443/", false),
        ];
        for (address, expected) in cases {
            assert_eq!(origins.serve_url(&Url::parse(address).unwrap()), expected, "url {address}");
            assert_eq!(origins.serve_uri(&address.parse().unwrap()), expected, "uri {address}");
        }
        assert!(!origins.serve_uri(&Uri::from_static("/only/a/path")));
        assert!(!origins.serve_url(&Url::parse("data:text/plain,https://api.example.com").unwrap()));
        // A URI is not normalised on its way to the resolver, so no lenient spelling counts.
        assert!(!origins.serve_uri(&Uri::from_static("http://127.1:8080/")));
        assert!(!origins.serve_uri(&Uri::from_static("http://2130706433:8080/")));
    }

    #[test]
    fn plain_http_is_for_loopback_only() {
        for text in ["http://localhost", "http://LOCALHOST:1", "http://127.9.9.9:3000", "http://[::1]:1"] {
            assert!(Origins::parse([text]).is_ok(), "{text}");
        }
        for text in [
            "http://api.example.com",
            "http://10.0.0.1",
            "http://localhost.evil.test",
            "http://[::ffff:127.0.0.1]",
        ] {
            assert!(reason(text).contains("plain http"), "{text}");
        }
    }

    #[test]
    fn what_is_not_an_origin_is_refused_with_the_reason() {
        assert!(reason("https://api.example.com/v1").contains("no path"));
        assert!(reason("https://api.example.com/?a").contains("no path"));
        assert!(reason("https://api.example.com/#a").contains("no path"));
        assert!(reason("ftp://api.example.com").contains("only https"));
        assert!(reason("unix:/run/api.sock").contains("only https"));
        assert!(reason("api.example.com").contains("https://host"));
        assert!(Origins::parse(Vec::<String>::new()).unwrap_err().to_string().contains("at least one"));
        for text in ["https://alice:canary@api.example.com", "https://alice:canary@[", "canary"] {
            assert!(!reason(text).contains("canary") && !reason(text).contains("alice"), "{text}");
        }
    }

    #[test]
    fn debug_lists_them() {
        let origins = Origins::parse(["https://api.example.com:443", "http://[::1]:8080"]).unwrap();
        assert_eq!(format!("{origins:?}"), "[https://api.example.com, http://[::1]:8080]");
    }
}
