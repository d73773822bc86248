//! What a connection has proven so far.

use std::{net::IpAddr, sync::Arc};

use whimbrel_fleet::{View, credential::Mechanism as Scram};

use super::{Authority, Caller, Mechanism, scram};

/// Within this of having proven who it is, a client has no reason to do so again: Kafka's least interval.
const SOONEST_AGAIN_NS: u64 = 1_000_000_000;

/// Of one connection.
#[derive(Debug)]
pub(crate) struct Session {
    state: State,
}

#[derive(Debug)]
enum State {
    Unproven,
    /// A mechanism was chosen; `again` by who proves once more who it is.
    Proving {
        exchange: Exchange,
        again: Option<Proven>,
    },
    Proven(Proven),
    /// Nothing is heard any more.
    Over,
}

/// An exchange of tokens under way.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub mechanism: Mechanism,
    /// Tokens come without a request around them (SaslHandshake v0).
    pub is_raw: bool,
    pub scram: Option<scram::Server>,
    /// The client was told that its token is not believed, and has yet to take note (RFC 7628, 3.2.3).
    pub is_refused: bool,
}

/// Who it is, and for how long that holds.
#[derive(Clone, Debug)]
pub(crate) struct Proven {
    pub caller: Arc<Caller>,
    /// `None` for a certificate, and for who is not asked.
    pub by: Option<Mechanism>,
    since_ns: u64,
    until_ns: u64,
    /// The key that the password was checked against: with another one in the view it was changed.
    stored_key: Option<(Scram, Vec<u8>)>,
    /// Newest view in which that was looked for.
    looked_in: u64,
}

/// What may be asked now.
#[derive(Debug)]
pub(crate) enum Standing {
    Known(Arc<Caller>),
    /// Who has proven nothing yet, or has begun to prove it again.
    Unknown,
    /// It proved who it is too long ago, or with a password that holds no more.
    Expired,
    Over,
}

impl Proven {
    pub fn new(
        authority: &Authority,
        user: String,
        ip: IpAddr,
        by: Option<Mechanism>,
        stored_key: Option<(Scram, Vec<u8>)>,
        now_ns: u64,
    ) -> Self {
        let lasts = authority.options.max_reauth.0.as_nanos();
        // A certificate is proven once for a connection; Kafka asks for it again no more than we do.
        let lasts = match by {
            Some(_) if lasts > 0 => u64::try_from(lasts).unwrap_or(u64::MAX),
            _ => u64::MAX,
        };
        Self {
            caller: Arc::new(Caller::new(user, ip, &authority.options)),
            by,
            since_ns: now_ns,
            until_ns: now_ns.saturating_add(lasts),
            stored_key,
            looked_in: 0,
        }
    }

    /// It holds no longer than what it was proven with.
    pub fn at_most_until(self, until_ns: u64) -> Self {
        Self {
            until_ns: self.until_ns.min(until_ns),
            ..self
        }
    }

    /// For the client: how long it holds, 0 for as long as the connection.
    pub fn lifetime_ms(&self) -> i64 {
        match self.until_ns {
            u64::MAX => 0,
            until_ns => {
                let lasts_ms = until_ns.saturating_sub(self.since_ns) / 1_000_000;
                // 0 would say that it holds for ever.
                i64::try_from(lasts_ms.max(1)).unwrap_or(i64::MAX)
            }
        }
    }

    fn holds(&mut self, view: &View, now_ns: u64) -> bool {
        if now_ns >= self.until_ns {
            return false;
        }
        if self.looked_in != view.version
            && let Some((mechanism, key)) = &self.stored_key
        {
            let now = view.credentials.get(&self.caller.user, *mechanism);
            if now.is_none_or(|credential| credential.stored_key.0 != *key) {
                return false;
            }
            self.looked_in = view.version;
        }
        true
    }
}

/// The answer to who chooses a mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chosen {
    Done,
    /// Not now.
    OutOfOrder,
    NotOffered,
}

impl Session {
    pub fn unproven() -> Self {
        let state = State::Unproven;
        Self { state }
    }

    /// Of a client that has shown a certificate.
    pub fn certified(authority: &Authority, user: String, ip: IpAddr, now_ns: u64) -> Self {
        Self::proven(Proven::new(authority, user, ip, None, None, now_ns))
    }

    fn proven(proven: Proven) -> Self {
        let state = State::Proven(proven);
        Self { state }
    }

    pub fn is_proven(&self) -> bool {
        matches!(
            self.state,
            State::Proven(_) | State::Proving { again: Some(_), .. }
        )
    }

    /// True while the next frame is a token and nothing else.
    pub fn expects_raw_token(&self) -> bool {
        matches!(&self.state, State::Proving { exchange, .. } if exchange.is_raw)
    }

    pub fn standing(&mut self, view: &View, now_ns: u64) -> Standing {
        match &mut self.state {
            State::Unproven | State::Proving { .. } => Standing::Unknown,
            State::Proven(proven) => {
                if proven.holds(view, now_ns) {
                    Standing::Known(Arc::clone(&proven.caller))
                } else {
                    Standing::Expired
                }
            }
            State::Over => Standing::Over,
        }
    }

    /// `mechanism` is `None` where the listener does not offer the one that was asked for.
    pub fn choose(&mut self, mechanism: Option<Mechanism>, is_raw: bool, now_ns: u64) -> Chosen {
        let again = match std::mem::replace(&mut self.state, State::Over) {
            State::Unproven => None,
            State::Proven(proven) if now_ns.saturating_sub(proven.since_ns) >= SOONEST_AGAIN_NS => {
                Some(proven)
            }
            _ => return Chosen::OutOfOrder,
        };
        let Some(mechanism) = mechanism else {
            return Chosen::NotOffered;
        };
        // As whom it knows the client, it knows by that mechanism.
        if again
            .as_ref()
            .is_some_and(|known| known.by != Some(mechanism))
        {
            return Chosen::NotOffered;
        }
        let exchange = Exchange {
            mechanism,
            is_raw,
            scram: None,
            is_refused: false,
        };
        self.state = State::Proving { exchange, again };
        Chosen::Done
    }

    /// The exchange under way, taken out while a token is looked at; nothing else is heard meanwhile.
    pub fn take(&mut self) -> Option<(Exchange, Option<Proven>)> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Proving { exchange, again } => Some((exchange, again)),
            _ => None,
        }
    }

    pub fn go_on(&mut self, exchange: Exchange, again: Option<Proven>) {
        self.state = State::Proving { exchange, again };
    }

    /// False for who was somebody else before.
    pub fn prove(&mut self, proven: Proven, before: Option<&Proven>) -> bool {
        let same = before.is_none_or(|before| before.caller.user == proven.caller.user);
        if same {
            self.state = State::Proven(proven);
        }
        same
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Options;

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const HOUR_NS: u64 = 3_600_000_000_000;
    const BY: Option<Mechanism> = Some(Mechanism::ScramSha512);

    fn proven(user: &str, now_ns: u64) -> Proven {
        let authority = Authority::new(Options::default());
        Proven::new(&authority, user.into(), IP, BY, None, now_ns)
    }

    #[test]
    fn a_mechanism_is_chosen_once() {
        let mut session = Session::unproven();
        assert!(matches!(
            session.standing(&View::default(), 0),
            Standing::Unknown
        ));
        assert_eq!(session.choose(BY, false, 0), Chosen::Done);
        assert_eq!(session.choose(BY, false, 0), Chosen::OutOfOrder);
        assert!(matches!(
            session.standing(&View::default(), 0),
            Standing::Over
        ));
        let mut session = Session::unproven();
        assert_eq!(session.choose(None, false, 0), Chosen::NotOffered);
        assert!(session.take().is_none(), "there is no second try");
    }

    #[test]
    fn what_was_proven_holds_for_an_hour_and_may_be_proven_again() {
        let mut session = Session::proven(proven("ann", 5));
        let view = View::default();
        assert!(matches!(
            session.standing(&view, HOUR_NS),
            Standing::Known(_)
        ));
        assert!(matches!(
            session.standing(&view, HOUR_NS + 5),
            Standing::Expired
        ));
        assert_eq!(session.choose(BY, false, HOUR_NS + 6), Chosen::Done);
        assert!(session.is_proven());
        let (_, again) = session.take().unwrap();
        let other = proven("bob", HOUR_NS + 7);
        assert!(!session.prove(other, again.as_ref()));
        assert!(session.prove(proven("ann", HOUR_NS + 7), again.as_ref()));
        assert!(matches!(
            session.standing(&view, HOUR_NS + 8),
            Standing::Known(_)
        ));
        assert_eq!(proven("ann", 3).lifetime_ms(), 3_600_000);
    }

    #[test]
    fn it_holds_no_longer_than_the_token_and_never_for_ever() {
        let until = |until_ns| proven("ann", 5).at_most_until(until_ns);
        assert_eq!(until(2_000_005).lifetime_ms(), 2);
        assert_eq!(until(2 * HOUR_NS).lifetime_ms(), 3_600_000);
        assert_eq!(until(6).lifetime_ms(), 1);
        assert_eq!(until(1).lifetime_ms(), 1);
        let mut session = Session::proven(until(2_000_005));
        let view = View::default();
        assert!(matches!(
            session.standing(&view, 2_000_004),
            Standing::Known(_)
        ));
        assert!(matches!(
            session.standing(&view, 2_000_005),
            Standing::Expired
        ));
    }

    #[test]
    fn nobody_proves_again_at_once_or_by_another_mechanism() {
        let mut session = Session::proven(proven("ann", 0));
        assert_eq!(
            session.choose(BY, false, SOONEST_AGAIN_NS - 1),
            Chosen::OutOfOrder
        );
        let mut session = Session::proven(proven("ann", 0));
        let other = Some(Mechanism::Plain);
        assert_eq!(session.choose(other, false, HOUR_NS), Chosen::NotOffered);
    }

    #[test]
    fn a_changed_password_ends_what_was_proven_with_the_old_one() {
        use whimbrel_fleet::credential::CredentialChange;
        let authority = Authority::new(Options::default());
        let credential = scram::from_password(Scram::ScramSha256, vec![1; 16], b"a", 4_096);
        let key = Some((Scram::ScramSha256, credential.stored_key.0.clone()));
        let proven = Proven::new(&authority, "ann".into(), IP, BY, key, 0);
        let mut session = Session::proven(proven);
        let mut view = View {
            version: 1,
            ..View::default()
        };
        let mut change = CredentialChange {
            user: "ann".into(),
            mechanism: Scram::ScramSha256,
            credential: Some(credential),
        };
        view.credentials.apply(change.clone());
        assert!(matches!(session.standing(&view, 1), Standing::Known(_)));
        view.version = 2;
        change.credential = Some(scram::from_password(
            Scram::ScramSha256,
            vec![2; 16],
            b"b",
            4_096,
        ));
        view.credentials.apply(change);
        assert!(matches!(session.standing(&view, 1), Standing::Expired));
    }
}
