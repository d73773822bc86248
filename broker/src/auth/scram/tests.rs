use super::*;

/// The exchange printed in RFC 7677, section 3.
const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const LAST: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const VERIFIER: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn credential(password: &str) -> Credential {
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    from_password(Mechanism::ScramSha256, salt, password.as_bytes(), 4_096)
}

fn challenged(credential: Option<Credential>) -> (Server, Vec<u8>) {
    let first = read_first(FIRST.as_bytes()).unwrap();
    Server::challenge(Mechanism::ScramSha256, first, credential, b"secret", NONCE)
}

#[test]
fn the_exchange_is_that_of_the_standard() {
    let (server, challenge) = challenged(Some(credential("pencil")));
    assert_eq!(
        String::from_utf8(challenge).unwrap(),
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    assert_eq!(server.verify(LAST.as_bytes()).unwrap(), VERIFIER.as_bytes());
}

#[test]
fn a_wrong_password_and_an_unknown_user_fail_alike() {
    let (wrong, _) = challenged(Some(credential("pencils")));
    let (unknown, challenge) = challenged(None);
    assert_eq!(wrong.verify(LAST.as_bytes()), Err(Failed::Proof));
    assert_eq!(unknown.verify(LAST.as_bytes()), Err(Failed::Proof));
    // Asked again, the user that does not exist has the same salt.
    assert_eq!(challenged(None).1, challenge);
    assert!(String::from_utf8(challenge).unwrap().ends_with(",i=4096"));
}

#[test]
fn another_nonce_binding_or_proof_is_refused() {
    let (server, _) = challenged(Some(credential("pencil")));
    let proof = "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let ours = format!("rOprNGfwEbeRWgbNEkqO{NONCE}");
    let cases = [
        // What an `ends_with` would let through.
        (format!("c=biws,r=x{ours},{proof}"), Failed::Nonce),
        (format!("c=biws,r={NONCE},{proof}"), Failed::Nonce),
        (format!("c=biws,r={ours}x,{proof}"), Failed::Nonce),
        (format!("c=eSws,r={ours},{proof}"), Failed::Malformed),
        (format!("c=biws,r={ours}"), Failed::Malformed),
        (format!("c=biws,r={ours},p=AAAA"), Failed::Proof),
        (format!("c=biws,r={ours},p=****"), Failed::Malformed),
        (format!("r={ours},c=biws,{proof}"), Failed::Malformed),
        (String::new(), Failed::Malformed),
        ("x".repeat(LONGEST + 1), Failed::Malformed),
    ];
    for (message, failed) in cases {
        assert_eq!(
            server.verify(message.as_bytes()),
            Err(failed),
            "{message:.80}"
        );
    }
}

#[test]
fn first_messages_are_read_strictly() {
    let user = |message: &str| read_first(message.as_bytes()).map(|first| first.user);
    assert_eq!(user("n,,n=a=2Cb=3Dc,r=x").as_deref(), Ok("a,b=c"));
    assert_eq!(user("y,a=ann,n=ann,r=x,e=1").as_deref(), Ok("ann"));
    let cases = [
        ("", Failed::Malformed),
        ("n,,", Failed::Malformed),
        ("n,,n=ann", Failed::Malformed),
        ("n,,n=ann,r=", Failed::Malformed),
        ("n,,n=,r=x", Failed::Malformed),
        ("n,,n=a=b,r=x", Failed::Malformed),
        ("n,,r=x,n=ann", Failed::Malformed),
        ("q,,n=ann,r=x", Failed::Malformed),
        ("n,ann,n=ann,r=x", Failed::Malformed),
        ("n,,n=ann,r=x y", Failed::Malformed),
        ("p=tls-unique,,n=ann,r=x", Failed::Unsupported),
        ("n,,m=1,n=ann,r=x", Failed::Unsupported),
        ("n,,n=ann,r=x,tokenauth=true", Failed::Unsupported),
        ("n,a=bob,n=ann,r=x", Failed::OtherIdentity),
    ];
    for (message, failed) in cases {
        assert_eq!(user(message), Err(failed), "{message}");
    }
    assert_eq!(read_first(b"n,,n=\xff,r=x"), Err(Failed::Malformed));
}

#[test]
fn passwords_are_checked_against_what_scram_keeps() {
    for mechanism in Mechanism::ALL {
        let credential = from_password(mechanism, vec![7; 16], b"pencil", 4_096);
        assert!(is_password(mechanism, &credential, b"pencil"));
        assert!(!is_password(mechanism, &credential, b"pencils"));
        assert!(!is_password(
            mechanism,
            &decoy(mechanism, b"s", "ann"),
            b"pencil"
        ));
    }
}
