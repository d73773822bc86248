use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};
use whimbrel_runtime::unit::Span;

use super::*;

/// RFC 7515, A.2 and A.3: tokens of somebody else, one claim of which is `"exp":1300819380`.
const RFC_RSA: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
const RFC_EC: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
const RFC_END_MS: i64 = 1_300_819_380_000;
const MODULUS: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";

const NOW_MS: i64 = 1_767_225_600_000;
const NOW_S: i64 = NOW_MS / 1_000;
const NAMED: &str = r#"{"alg":"ES256","kid":"one"}"#;

struct Issuer {
    pair: EcdsaKeyPair,
}

impl Issuer {
    fn new() -> Self {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let made = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref(), &random).unwrap();
        Self { pair }
    }

    fn point(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn jwk(&self, kid: Option<&str>) -> Value {
        let (x, y) = self.point()[1..].split_at(32);
        let [x, y] = [x, y].map(|it| URL_SAFE_NO_PAD.encode(it));
        let mut jwk = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y });
        if let Some(kid) = kid {
            jwk["kid"] = kid.into();
        }
        jwk
    }

    fn token(&self, header: &str, claims: &Value) -> String {
        let signed = unsigned(header, claims);
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(signature.unwrap());
        format!("{signed}.{signature}")
    }
}

/// Header and claims, without the last dot.
fn unsigned(header: &str, claims: &Value) -> String {
    let [header, claims] = [header, &claims.to_string()].map(|it| URL_SAFE_NO_PAD.encode(it));
    format!("{header}.{claims}")
}

fn claims() -> Value {
    json!({ "iss": "https://issuer", "aud": "kafka", "sub": "ann", "exp": NOW_S + 60 })
}

fn with(key: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[key] = value.into();
    claims
}

fn without(key: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(key);
    claims
}

fn written(dir: &Path, keys: &[Value]) -> PathBuf {
    let path = dir.join("keys.json");
    std::fs::write(&path, json!({ "keys": keys }).to_string()).unwrap();
    path
}

fn rules(jwks: PathBuf) -> OauthBearer {
    OauthBearer {
        jwks: vec![jwks],
        issuer: Some("https://issuer".into()),
        audience: vec!["kafka".into(), "other".into()],
        clock_skew: Span::secs(10),
        ..OauthBearer::default()
    }
}

struct Setting {
    dir: tempfile::TempDir,
    issuer: Issuer,
    tokens: Tokens,
}

fn setting() -> Setting {
    let dir = tempfile::tempdir().unwrap();
    let issuer = Issuer::new();
    let file = written(dir.path(), &[issuer.jwk(Some("one"))]);
    let tokens = Tokens::open(rules(file)).unwrap();
    Setting {
        dir,
        issuer,
        tokens,
    }
}

impl Setting {
    fn told(&self, token: &str) -> Result<Token, Failed> {
        self.tokens.check(&message(token), NOW_MS)
    }

    fn of(&self, claims: &Value) -> Result<Token, Failed> {
        self.told(&self.issuer.token(NAMED, claims))
    }
}

fn message(token: &str) -> Vec<u8> {
    format!("n,,\x01auth=Bearer {token}\x01\x01").into_bytes()
}

fn refused<T>(why: Refused) -> Result<T, Failed> {
    Err(Failed::Token(why))
}

fn ann(until_s: i64) -> Result<Token, Failed> {
    Ok(Token {
        user: "ann".into(),
        until_ms: until_s * 1_000,
    })
}

#[test]
fn the_tokens_of_the_standard_hold_until_they_end() {
    let rsa = json!({ "kty": "RSA", "n": MODULUS, "e": "AQAB", "kid": "2010-12-29" });
    let ec = json!({
        "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    });
    let secret = json!({ "kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ" });
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path(), &[secret, json!("odd"), rsa, ec]);
    let rules = OauthBearer {
        issuer: Some("joe".into()),
        audience: Vec::new(),
        principal_claim: "iss".into(),
        ..rules(file)
    };
    let tokens = Tokens::open(rules).unwrap();
    for token in [RFC_RSA, RFC_EC] {
        let joe = tokens.check(&message(token), RFC_END_MS - 1).unwrap();
        assert_eq!(joe.user, "joe");
        assert_eq!(joe.until_ms, RFC_END_MS + 10_000);
        let late = tokens.check(&message(token), RFC_END_MS + 10_000);
        assert_eq!(late, refused(Refused::Expired));
        // One letter of the claims, then one of the signature.
        for at in [40, token.len() - 20] {
            let mut other = token.to_owned().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            assert!(
                tokens.check(&message(&other), RFC_END_MS - 1).is_err(),
                "{at}"
            );
        }
    }
}

#[test]
fn what_a_token_says_decides_and_what_it_lacks_is_not_made_up() {
    let setting = setting();
    assert_eq!(setting.of(&claims()), ann(NOW_S + 70));
    let several = with("aud", json!(["x", "other"]));
    assert_eq!(setting.of(&several), ann(NOW_S + 70));
    assert_eq!(setting.of(&with("exp", NOW_S - 9)), ann(NOW_S + 1));
    assert_eq!(setting.of(&with("nbf", NOW_S + 10)), ann(NOW_S + 70));
    assert_eq!(
        setting
            .of(&with("exp", NOW_S as f64 + 0.5))
            .map(|it| it.until_ms),
        Ok(NOW_MS + 10_500)
    );
    let cases = [
        (with("exp", NOW_S - 10), Refused::Expired),
        (with("exp", -1e300), Refused::Expired),
        (with("exp", "soon"), Refused::Malformed),
        (without("exp"), Refused::NoEnd),
        (with("nbf", NOW_S + 11), Refused::TooEarly),
        (with("nbf", Value::Null), Refused::Malformed),
        (with("iss", "https://issuer/"), Refused::Issuer),
        (without("iss"), Refused::Issuer),
        (with("aud", "kafkas"), Refused::Audience),
        (with("aud", json!({ "kafka": 1 })), Refused::Audience),
        (without("aud"), Refused::Audience),
        (without("sub"), Refused::Principal),
        (with("sub", ""), Refused::Principal),
        (with("sub", 7), Refused::Principal),
        (with("sub", "ann\nbob"), Refused::Principal),
        (with("sub", "a".repeat(1_025)), Refused::Principal),
        (json!("ann"), Refused::Malformed),
    ];
    for (claims, why) in cases {
        assert_eq!(setting.of(&claims), refused(why), "{claims}");
    }
    assert!(setting.of(&with("exp", 1e300)).is_ok(), "no overflow");
}

#[test]
fn scopes_that_are_asked_for_must_all_be_there_and_are_named() {
    let mut setting = setting();
    setting.tokens.rules.scope = vec!["read".into(), "write".into()];
    for good in [json!("write x read"), json!(["read", "write"])] {
        assert_eq!(setting.of(&with("scope", good)), ann(NOW_S + 70));
    }
    for bad in [json!("read"), json!(["read write"]), json!(1), Value::Null] {
        assert_eq!(setting.of(&with("scope", bad)), refused(Refused::Scope));
    }
    let told: Value = serde_json::from_slice(&setting.tokens.refusal(Refused::Scope)).unwrap();
    assert_eq!(
        told,
        json!({ "status": "insufficient_scope", "scope": "read write" })
    );
    assert_eq!(
        setting.tokens.refusal(Refused::Audience),
        br#"{"status":"invalid_token"}"#,
        "and nothing of why"
    );
}

#[test]
fn a_token_does_not_choose_how_it_is_checked() {
    let setting = setting();
    let claims = claims();
    // The public key as a secret that both know.
    let signed = unsigned(r#"{"alg":"HS256","kid":"one"}"#, &claims);
    let secret = hmac::Key::new(hmac::HMAC_SHA256, setting.issuer.point());
    let tag = URL_SAFE_NO_PAD.encode(hmac::sign(&secret, signed.as_bytes()));
    assert_eq!(
        setting.told(&format!("{signed}.{tag}")),
        refused(Refused::Algorithm)
    );
    for none in ["none", "None", "NONE", "", "ES384", "es256"] {
        let header = format!(r#"{{"alg":"{none}","kid":"one"}}"#);
        let token = format!("{}.", unsigned(&header, &claims));
        assert_eq!(setting.told(&token), refused(Refused::Algorithm), "{none}");
    }
    let cases = [
        (r#"{"alg":"RS256","kid":"one"}"#, Refused::Key),
        (r#"{"alg":"ES256","kid":"two"}"#, Refused::Key),
        (r#"{"kid":"one"}"#, Refused::Malformed),
        (r#"{"alg":"ES256","alg":"ES256"}"#, Refused::Malformed),
        (
            r#"{"alg":"ES256","kid":"one","crit":["exp"]}"#,
            Refused::Malformed,
        ),
        (r#"{"alg":"ES256","kid":1}"#, Refused::Malformed),
        ("ES256", Refused::Malformed),
    ];
    for (header, why) in cases {
        let token = setting.issuer.token(header, &claims);
        assert_eq!(setting.told(&token), refused(why), "{header}");
    }
    // Its own key, in the token.
    let other = Issuer::new();
    let header = json!({ "alg": "ES256", "kid": "one", "jwk": other.jwk(Some("one")) });
    let token = other.token(&header.to_string(), &claims);
    assert_eq!(setting.told(&token), refused(Refused::Signature));
}

#[test]
fn without_a_kid_the_only_key_is_meant_and_of_several_none() {
    let setting = setting();
    let token = setting.issuer.token(r#"{"alg":"ES256"}"#, &claims());
    assert_eq!(setting.told(&token), ann(NOW_S + 70));
    written(
        setting.dir.path(),
        &[setting.issuer.jwk(Some("one")), Issuer::new().jwk(None)],
    );
    assert_eq!(setting.told(&token), refused(Refused::Key));
    assert_eq!(setting.of(&claims()), ann(NOW_S + 70));
}

#[test]
fn what_is_no_token_is_refused_before_anything_is_made_of_it() {
    let setting = setting();
    let good = setting.issuer.token(NAMED, &claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    let deep = URL_SAFE_NO_PAD.encode("[".repeat(10_000));
    let bad = [
        "a".to_owned(),
        "..".to_owned(),
        signed.to_owned(),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.{signature}"),
        format!("{header}.{deep}.{signature}"),
        format!("{deep}.{payload}.{signature}"),
        format!("{signed}.{signature}A"),
        format!("A{good}"),
    ];
    for token in bad {
        let answer = setting.told(&token);
        assert!(
            matches!(
                answer,
                Err(Failed::Token(Refused::Malformed | Refused::Signature))
            ),
            "{token}: {answer:?}"
        );
    }
    // Nothing but those letters is a token at all.
    for token in [
        format!("{good}="),
        format!("{good}/"),
        format!("{good} x"),
        String::new(),
    ] {
        assert_eq!(setting.told(&token), Err(Failed::Malformed), "{token}");
    }
    let huge = format!("{signed}{}.{signature}", "A".repeat(LONGEST));
    assert_eq!(setting.told(&huge), Err(Failed::Malformed));
}

#[test]
fn messages_are_framed_as_the_standard_says_and_no_other_way() {
    let token = |bytes: &'static [u8]| read(bytes).map(|first| first.token);
    assert_eq!(token(b"n,,\x01auth=Bearer a.b.c\x01\x01"), Some("a.b.c"));
    assert_eq!(token(b"y,,\x01auth=bearer   a.b-_\x01\x01"), Some("a.b-_"));
    let extended = b"n,a=ann,\x01auth=Bearer a.b.\x01traceId=1 2\x01host=x\x01\x01";
    let first = read(extended).unwrap();
    assert_eq!(first.token, "a.b.");
    assert_eq!(first.authorized.as_deref(), Some("ann"));
    let escaped = read(b"n,a=a=2Cb=3Dc,\x01auth=Bearer t\x01\x01").unwrap();
    assert_eq!(escaped.authorized.as_deref(), Some("a,b=c"));
    let bad: [&[u8]; 18] = [
        b"",
        b"\x01",
        b"n,,\x01\x01",
        b"n,,\x01auth=Bearer t\x01",
        b"n,,\x01auth=Bearer t\x01\x01\x01",
        b"n,,\x01auth=Bearer t\x01\x01x",
        b"n,,\x01auth=Bearer t\x01auth=Bearer u\x01\x01",
        b"n,,\x01auth=Bearer\x01\x01",
        b"n,,\x01auth=Bearer \x01\x01",
        b"n,,\x01auth=Basic t\x01\x01",
        b"n,,\x01token=t\x01\x01",
        b"n,,\x01auth=Bearer t\x01k1=v\x01\x01",
        b"n,,\x01auth=Bearer t\x01k=\x01\x01",
        b"n,,\x01auth=Bearer t\x01k=\xc3\xa9\x01\x01",
        b"n,ann,\x01auth=Bearer t\x01\x01",
        b"n,a==41,\x01auth=Bearer t\x01\x01",
        b"p=tls-unique,,\x01auth=Bearer t\x01\x01",
        b"n,,auth=Bearer t",
    ];
    for message in bad {
        assert_eq!(read(message), None, "{}", String::from_utf8_lossy(message));
    }
}

#[test]
fn nobody_asks_to_be_somebody_else() {
    let setting = setting();
    let token = setting.issuer.token(NAMED, &claims());
    let asks = |name: &str| {
        let message = format!("n,a={name},\x01auth=Bearer {token}\x01\x01");
        setting.tokens.check(message.as_bytes(), NOW_MS)
    };
    assert_eq!(asks("ann"), ann(NOW_S + 70));
    assert_eq!(asks("root"), Err(Failed::OtherIdentity));
}

#[test]
fn tokens_without_signatures_are_taken_where_that_is_asked_for_and_nowhere_else() {
    let unsecured = OauthBearer {
        unsecured_tokens: true,
        ..OauthBearer::default()
    };
    let tokens = Tokens::open(unsecured).unwrap();
    let signed = unsigned(r#"{"alg":"none"}"#, &claims());
    let check = |token: &str| tokens.check(&message(token), NOW_MS);
    assert_eq!(check(&format!("{signed}.")), ann(NOW_S + 90));
    assert_eq!(
        check(&format!("{signed}.AAAA")),
        refused(Refused::Malformed)
    );
    let ended = unsigned(r#"{"alg":"none"}"#, &with("exp", NOW_S - 30));
    assert_eq!(check(&format!("{ended}.")), refused(Refused::Expired));
    let setting = setting();
    let real = setting.issuer.token(NAMED, &claims());
    assert_eq!(check(&real), refused(Refused::Algorithm));
    assert_eq!(
        setting.told(&format!("{signed}.")),
        refused(Refused::Algorithm)
    );
}

#[test]
fn keys_that_change_are_read_again_and_those_of_before_hold_until_then() {
    let setting = setting();
    let next = Issuer::new();
    let of_next = next.token(r#"{"alg":"ES256","kid":"two"}"#, &claims());
    assert_eq!(setting.told(&of_next), refused(Refused::Key));
    let file = setting.dir.path().join("keys.json");
    for broken in ["", "{\"keys\":[", "{\"keys\":[]}"] {
        std::fs::write(&file, broken).unwrap();
        assert_eq!(setting.of(&claims()), ann(NOW_S + 70), "{broken}");
    }
    std::fs::remove_file(&file).unwrap();
    assert_eq!(setting.of(&claims()), ann(NOW_S + 70));
    written(setting.dir.path(), &[next.jwk(Some("two"))]);
    assert_eq!(setting.told(&of_next), ann(NOW_S + 70));
    assert_eq!(setting.of(&claims()), refused(Refused::Key));
}

#[test]
fn files_that_are_no_sets_of_public_keys_are_named_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let issuer = Issuer::new();
    let one = issuer.jwk(Some("one"));
    let but = |key: &str, value: Value| {
        let mut jwk = one.clone();
        jwk[key] = value;
        jwk
    };
    let short = json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" });
    let cases = [
        (vec![], "none of the files"),
        (
            vec![json!({ "kty": "oct", "k": "AQAB" }), short],
            "none of the files",
        ),
        (vec![but("use", json!("enc"))], "none of the files"),
        (vec![but("alg", json!("RS256"))], "none of the files"),
        (vec![but("crv", json!("P-384"))], "none of the files"),
        (vec![but("x", json!("AQAB"))], "none of the files"),
        (vec![but("key_ops", json!(["sign"]))], "none of the files"),
        (vec![but("d", json!("AQAB"))], "private key"),
        (
            vec![one.clone(), Issuer::new().jwk(Some("one"))],
            "two keys",
        ),
    ];
    let opened = |file: PathBuf| Tokens::open(rules(file)).map(|_| ());
    for (keys, word) in cases {
        let error = opened(written(dir.path(), &keys)).unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
    }
    let file = dir.path().join("other");
    for (text, word) in [("no", "not a JSON"), (&*" ".repeat(2 << 20), "1 MiB")] {
        std::fs::write(&file, text).unwrap();
        let error = opened(file.clone()).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("other"), "{error}");
    }
    for missing in [
        dir.path().join("missing"),
        dir.path().to_owned(),
        "/dev/zero".into(),
    ] {
        assert!(opened(missing).is_err());
    }
}

proptest! {
    #[test]
    fn nothing_that_is_sent_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        text in "[a-z{}\\[\\]\":,0-9.-]{0,60}",
    ) {
        let unsecured = OauthBearer {
            unsecured_tokens: true,
            ..OauthBearer::default()
        };
        let tokens = Tokens::open(unsecured).unwrap();
        let _whatever = tokens.check(&bytes, NOW_MS);
        let framed = [b"n,,\x01auth=Bearer ", &bytes[..], b"\x01\x01"].concat();
        let _whatever = tokens.check(&framed, NOW_MS);
        let parts = [r#"{"alg":"none"}"#, &text].map(|it| URL_SAFE_NO_PAD.encode(it));
        let _whatever = tokens.check(&message(&format!("{}.", parts.join("."))), NOW_MS);
    }
}
