//! The keys of a client's properties that concern security.

use std::collections::BTreeMap;

use super::{Login, SecurityError, TlsFiles};
use crate::sasl::{Credentials, Mechanism, Password, Sasl, Tokens};

/// What the keys come to.
#[derive(Debug)]
pub(super) struct Settings {
    pub tls: Option<TlsFiles>,
    pub sasl: Option<Login>,
}

impl Settings {
    pub(super) fn read(text: &str) -> Result<Self, SecurityError> {
        let mut keys = Keys(pairs(text));
        let protocol = keys.take("security.protocol");
        let protocol = protocol.as_deref().unwrap_or("PLAINTEXT");
        let (tls, sasl) = match protocol.to_ascii_uppercase().as_str() {
            "PLAINTEXT" => (false, false),
            "SSL" => (true, false),
            "SASL_PLAINTEXT" => (false, true),
            "SASL_SSL" => (true, true),
            _ => {
                let reason = "is none of PLAINTEXT, SSL, SASL_PLAINTEXT and SASL_SSL";
                return Err(SecurityError::setting("security.protocol", reason));
            }
        };
        let found_sasl = keys.sasl()?;
        let found_tls = keys.tls()?;
        keys.refuse_the_rest()?;
        let sasl = if sasl {
            let missing = || SecurityError::setting("sasl.username", "is missing");
            Some(found_sasl.ok_or_else(missing)?)
        } else {
            None
        };
        let tls = if tls {
            let missing = || {
                let reason = "is missing: name the certificates that brokers are believed by";
                SecurityError::setting("ssl.ca.location", reason)
            };
            Some(found_tls.ok_or_else(missing)?)
        } else {
            None
        };
        Ok(Self { tls, sasl })
    }
}

/// Where tokens come from.
const ENDPOINT: &str = "sasl.oauthbearer.token.endpoint.url";

struct Keys(BTreeMap<String, String>);

impl Keys {
    fn take(&mut self, key: &str) -> Option<String> {
        self.0.remove(key)
    }

    fn sasl(&mut self) -> Result<Option<Login>, SecurityError> {
        let named = self.take("sasl.mechanism");
        let named = named.or(self.take("sasl.mechanisms"));
        if named.as_deref() == Some(Sasl::BEARER) {
            return self.bearer().map(Some);
        }
        let jaas = self.take("sasl.jaas.config").unwrap_or_default();
        let user = self.take("sasl.username").or(quoted(&jaas, "username"));
        let password = self.take("sasl.password").or(quoted(&jaas, "password"));
        let (Some(user), Some(password)) = (user, password) else {
            return Ok(None);
        };
        let named = named.ok_or_else(|| SecurityError::setting("sasl.mechanism", "is missing"))?;
        let mechanism = Mechanism::from_name(&named).ok_or_else(|| {
            let reason =
                format!("`{named}` is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER");
            SecurityError::setting("sasl.mechanism", reason)
        })?;
        Ok(Some(Sasl::Password(Credentials {
            mechanism,
            user,
            password: Password(password),
        })))
    }

    /// Kafka's clients take a token from a file by the same key as from an OIDC server.
    fn bearer(&mut self) -> Result<Login, SecurityError> {
        let refused = |reason: &str| SecurityError::setting(ENDPOINT, reason);
        // Names the class that logs in, and nothing besides.
        self.take("sasl.jaas.config");
        self.take("sasl.login.callback.handler.class");
        let from = self.take(ENDPOINT).ok_or_else(|| refused("is missing"))?;
        let path = from
            .strip_prefix("file://")
            .filter(|path| path.starts_with('/'))
            .ok_or_else(|| refused("is no file:///path to a file that holds a token"))?;
        Ok(Sasl::Bearer(Tokens::File(path.into())))
    }

    fn tls(&mut self) -> Result<Option<TlsFiles>, SecurityError> {
        let trusted = self.take("ssl.truststore.location");
        let kind = self.take("ssl.truststore.type");
        if trusted.is_some() && kind.as_deref() != Some("PEM") {
            let reason = "only PEM is read here; `keytool -exportcert -rfc` writes it";
            return Err(SecurityError::setting("ssl.truststore.type", reason));
        }
        let certificate = self.take("ssl.certificate.location");
        let key = self.take("ssl.key.location");
        let own = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
            (None, None) => None,
            _ => {
                let reason = "certificate and key belong together";
                return Err(SecurityError::setting("ssl.key.location", reason));
            }
        };
        if let Some(check) = self.take("ssl.endpoint.identification.algorithm")
            && !check.eq_ignore_ascii_case("https")
        {
            let reason = "the broker's name is always checked";
            return Err(SecurityError::setting(
                "ssl.endpoint.identification.algorithm",
                reason,
            ));
        }
        let ca = self.take("ssl.ca.location").or(trusted);
        Ok(ca.map(|ca| TlsFiles { ca: ca.into(), own }))
    }

    fn refuse_the_rest(&self) -> Result<(), SecurityError> {
        let about = ["security.", "sasl.", "ssl."];
        let unknown = |key: &&String| about.iter().any(|prefix| key.starts_with(prefix));
        match self.0.keys().find(unknown) {
            Some(key) => Err(SecurityError::setting(key, "is not known here")),
            None => Ok(()),
        }
    }
}

/// `key=value`, `key: value` or `key value` a line; `#` and `!` begin comments, a backslash at the end goes on.
fn pairs(text: &str) -> BTreeMap<String, String> {
    let mut pairs = BTreeMap::new();
    let mut line = String::new();
    for part in text.lines() {
        let part = part.trim();
        if line.is_empty() && (part.is_empty() || part.starts_with(['#', '!'])) {
            continue;
        }
        if let Some(begun) = part.strip_suffix('\\') {
            line.push_str(begun);
            continue;
        }
        line.push_str(part);
        let whole = std::mem::take(&mut line);
        let (key, value) = whole
            .split_once(['=', ':'])
            .or_else(|| whole.split_once(char::is_whitespace))
            .unwrap_or((&whole, ""));
        pairs.insert(key.trim().to_owned(), value.trim().to_owned());
    }
    pairs
}

/// `name="value"` of a JAAS line; a quote within is escaped with a backslash.
fn quoted(jaas: &str, name: &str) -> Option<String> {
    let (_, rest) = jaas.split_once(&format!("{name}=\""))?;
    let mut value = String::new();
    let mut letters = rest.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => return Some(value),
            '\\' => value.extend(letters.next()),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn librdkafkas_keys_and_kafkas_mean_the_same() {
        let ours = "# of ann\nsecurity.protocol=SASL_SSL\nsasl.mechanisms: SCRAM-SHA-512\nsasl.username = ann\n\
            sasl.password=of=ann\nssl.ca.location=/ca.pem\nclient.id=x\n";
        let theirs = "security.protocol=sasl_ssl\nsasl.mechanism=SCRAM-SHA-512\n\
            sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \\\n  \
            username=\"ann\" password=\"of=ann\";\n\
            ssl.truststore.location=/ca.pem\nssl.truststore.type=PEM\n";
        let wanted = Sasl::Password(Credentials {
            mechanism: Mechanism::ScramSha512,
            user: "ann".to_owned(),
            password: Password("of=ann".to_owned()),
        });
        for text in [ours, theirs] {
            let read = Settings::read(text).unwrap();
            assert_eq!(read.sasl.as_ref(), Some(&wanted));
            assert_eq!(read.tls.unwrap().ca.to_str(), Some("/ca.pem"));
        }
        assert!(!format!("{wanted:?}").contains("of=ann"));
    }

    #[test]
    fn a_token_comes_from_the_file_that_is_named() {
        let text = "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=OAUTHBEARER\n\
            sasl.oauthbearer.token.endpoint.url=file:///run/token\n\
            sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;\n";
        let read = Settings::read(text).unwrap();
        assert_eq!(
            read.sasl,
            Some(Sasl::Bearer(Tokens::File("/run/token".into())))
        );
    }

    #[test]
    fn without_a_protocol_there_is_neither() {
        let read = Settings::read("bootstrap.servers=a:1\n").unwrap();
        assert!(read.tls.is_none() && read.sasl.is_none());
    }

    #[test]
    fn what_would_be_passed_over_is_refused() {
        let sasl = "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.username=a\nsasl.password=b\n";
        assert!(Settings::read(sasl).is_ok());
        for (text, key) in [
            ("security.protocol=TLS", "security.protocol"),
            ("security.protocol=SSL", "ssl.ca.location"),
            ("security.protocol=SASL_PLAINTEXT", "sasl.username"),
            (&format!("{sasl}sasl.mechanism=GSSAPI"), "sasl.mechanism"),
            (&format!("{sasl}sasl.kerberos.x=1"), "sasl.kerberos.x"),
            (
                "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=OAUTHBEARER",
                "sasl.oauthbearer.token.endpoint.url",
            ),
            (
                "sasl.mechanism=OAUTHBEARER\nsasl.oauthbearer.token.endpoint.url=ldap://x",
                "sasl.oauthbearer.token.endpoint.url",
            ),
            ("ssl.truststore.location=/a.jks", "ssl.truststore.type"),
            ("ssl.key.location=/a", "ssl.key.location"),
            (
                "ssl.endpoint.identification.algorithm=",
                "ssl.endpoint.identification.algorithm",
            ),
        ] {
            let refused = Settings::read(text).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("{key}:")), "{refused}");
        }
    }
}
