//! What is allowed before TLS and before AUTH, from the switches in the environment.

use std::ffi::{OsStr, OsString};

use plumb::ucspi::switch;
use plumb::{Error, Result};

/// The TLS and AUTH policy of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Whether what is read came through TLS.
    pub in_tls: bool,
    /// Whether STARTTLS is offered, through UCSPI-TLS.
    pub offers_tls: bool,
    /// Whether there is nothing before TLS but EHLO, NOOP, STARTTLS and QUIT (RFC 3207 4).
    pub force_tls: bool,
    /// Whether there is no mail before AUTH.
    pub require_auth: bool,
    /// Whether AUTH is allowed where there is no TLS.
    pub insecure_auth: bool,
    /// Whether AUTH is wanted and there is a password process.
    pub auth: bool,
    /// Which mechanisms may be offered of those that the password process has.
    pub mechanisms: Mechanisms,
}

/// SMTPAUTH's choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mechanisms {
    /// Unset, or `+cram`: all.
    #[default]
    All,
    /// `cram`: CRAM-MD5.
    OnlyCram,
    /// Empty: all but CRAM-MD5.
    NoCram,
}

impl Mechanisms {
    fn of(smtpauth: Option<&OsStr>) -> Self {
        let value = smtpauth.map(OsStr::as_encoded_bytes);
        match value.map(|value| value.strip_prefix(b"!").unwrap_or(value)) {
            Some(b"") => Self::NoCram,
            Some(b"cram") => Self::OnlyCram,
            _ => Self::All,
        }
    }

    /// Whether this one is among them.
    pub fn include(self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::OnlyCram => name == "CRAM-MD5",
            Self::NoCram => name != "CRAM-MD5",
        }
    }
}

impl Policy {
    /// Reads the switches; a contradiction is a permanent error that names both variables.
    pub fn from_env(env: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let on = |name: &str| switch(env(name).as_deref());
        let text = |name: &str| env(name).unwrap_or_default();
        let in_tls = on("SSL");
        let deny = first_on(on, ["DENY_TLS", "DISABLETLS"]);
        let ucspi = Ucspi::of(env("UCSPITLS").as_deref());
        let force = first_on(on, ["FORCE_TLS"])
            .or((ucspi == Ucspi::Demand).then_some("UCSPITLS"))
            .filter(|_| !in_tls);
        let require = first_on(on, ["REQUIRE_AUTH"])
            .or(text("SMTPAUTH").as_encoded_bytes().starts_with(b"!").then_some("SMTPAUTH"));
        let off = auth_off(&text("AUTH"), &text("SMTPAUTH"));
        let insecure_auth = on("ALLOW_INSECURE_AUTH") || text("FORCETLS") == "0";

        refuse_both(force, deny)?;
        refuse_both(require, off)?;
        refuse_both(require, deny.filter(|_| !in_tls && !insecure_auth))?;
        if let Some(name) = require.or(set(&env, "AUTH_CDB"))
            && env("SASLFD").is_none()
        {
            return Err(Error::permanent(format!("{name} needs SASLFD: {REPLACEMENT}")));
        }
        Ok(Self {
            in_tls,
            offers_tls: ucspi != Ucspi::Off
                && deny.is_none()
                && !in_tls
                && env("SSLCTLFD").is_some(),
            force_tls: force.is_some(),
            require_auth: require.is_some(),
            insecure_auth,
            auth: off.is_none() && env("SASLFD").is_some(),
            mechanisms: Mechanisms::of(env("SMTPAUTH").as_deref()),
        })
    }

    /// The policy once TLS has begun.
    pub fn after_handshake(self) -> Self {
        Self { in_tls: true, offers_tls: false, force_tls: false, ..self }
    }

    /// Whether AUTH has to wait for TLS.
    pub fn auth_needs_tls(&self) -> bool {
        !self.in_tls && (self.force_tls || !self.insecure_auth)
    }
}

/// What UCSPITLS asks for, in s/qmail's spelling; relaying for client certificates is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ucspi {
    Off,
    Offer,
    Demand,
}

impl Ucspi {
    fn of(value: Option<&OsStr>) -> Self {
        match value.map(OsStr::as_encoded_bytes) {
            None | Some(b"-") => Self::Off,
            Some(b"!" | b"@") => Self::Demand,
            Some(_) => Self::Offer,
        }
    }
}

fn first_on<const N: usize>(on: impl Fn(&str) -> bool, names: [&str; N]) -> Option<&str> {
    names.into_iter().find(|name| on(name))
}

fn set(env: impl Fn(&str) -> Option<OsString>, name: &str) -> Option<&str> {
    env(name).filter(|value| !value.is_empty()).map(|_| name)
}

/// The variable that switches AUTH off; AUTH counts as on where it is unset or empty.
fn auth_off(auth: &OsStr, smtpauth: &OsStr) -> Option<&'static str> {
    if matches!(smtpauth.as_encoded_bytes(), b"-" | b"0") {
        return Some("SMTPAUTH");
    }
    (!auth.is_empty() && !switch(Some(auth))).then_some("AUTH")
}

fn refuse_both(one: Option<&str>, other: Option<&str>) -> Result<()> {
    match (one, other) {
        (Some(one), Some(other)) => {
            Err(Error::permanent(format!("{one} and {other} contradict each other")))
        }
        _ => Ok(()),
    }
}

/// What to write in the run script instead of arguments and AUTH_CDB.
pub const REPLACEMENT: &str = "passwords are checked by authcheck: \
    authcheck -s users.cdb ... smtpd, or authcheck -s -x 'vchkpw /bin/true' ... smtpd";

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(settings: &str) -> std::result::Result<Policy, String> {
        let settings: Vec<(&str, &str)> =
            settings.split_whitespace().map(|word| word.split_once('=').unwrap()).collect();
        Policy::from_env(|wanted| {
            settings.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.into())
        })
        .map_err(|error| error.to_string())
    }

    #[test]
    fn contradictions_name_both_variables() {
        for (settings, names) in [
            ("FORCE_TLS=1 DENY_TLS=1", ["FORCE_TLS", "DENY_TLS"]),
            ("FORCE_TLS=1 DISABLETLS=1", ["FORCE_TLS", "DISABLETLS"]),
            ("UCSPITLS=! DENY_TLS=1", ["UCSPITLS", "DENY_TLS"]),
            ("REQUIRE_AUTH=1 AUTH=0 SASLFD=7", ["REQUIRE_AUTH", "AUTH"]),
            ("REQUIRE_AUTH=1 SMTPAUTH=- SASLFD=7", ["REQUIRE_AUTH", "SMTPAUTH"]),
            ("REQUIRE_AUTH=1 DENY_TLS=1 SASLFD=7", ["REQUIRE_AUTH", "DENY_TLS"]),
            ("SMTPAUTH=!cram AUTH=0 SASLFD=7", ["SMTPAUTH", "AUTH"]),
            ("REQUIRE_AUTH=1", ["REQUIRE_AUTH", "SASLFD"]),
            ("AUTH_CDB=x", ["AUTH_CDB", "SASLFD"]),
        ] {
            let error = policy(settings).unwrap_err();
            assert!(names.iter().all(|name| error.contains(name)), "{settings}: {error}");
        }
    }

    #[test]
    fn what_the_ring_in_front_passes_on_is_no_contradiction() {
        for settings in [
            "DENY_TLS=1 DISABLETLS=1 FORCETLS=0",
            "SSL=1 SSL_PROTOCOL=TLSv1.3 DENY_TLS=1 DISABLETLS=1 FORCETLS=0",
            "REQUIRE_AUTH=1 DENY_TLS=1 DISABLETLS=1 FORCETLS=0 SASLFD=7",
            "SSL=1 REQUIRE_AUTH=1 DENY_TLS=1 SASLFD=7",
            "SSL=1 FORCE_TLS=1 DENY_TLS=1",
            "FORCE_TLS=0 DENY_TLS=1 REQUIRE_AUTH=0 AUTH=0 SSL=0 ALLOW_INSECURE_AUTH=0 AUTH_CDB=",
            "REQUIRE_AUTH=1 AUTH= SASLFD=7",
        ] {
            assert!(policy(settings).is_ok(), "{settings}");
        }
    }

    #[test]
    fn switches() {
        let clear = Policy::default();
        assert_eq!(policy("").unwrap(), clear);
        let forced = Policy { force_tls: true, ..clear.clone() };
        assert_eq!(policy("FORCE_TLS=1").unwrap(), forced);
        assert_eq!(policy("SSL=1 FORCE_TLS=1").unwrap(), Policy { in_tls: true, ..clear.clone() });
        let offered = Policy { offers_tls: true, ..clear.clone() };
        assert_eq!(policy("UCSPITLS= SSLCTLFD=7").unwrap(), offered);
        assert_eq!(policy("UCSPITLS= SSLCTLFD=7 DISABLETLS=1").unwrap(), clear);
        assert_eq!(policy("UCSPITLS=- SSLCTLFD=7").unwrap(), clear);
        assert_eq!(policy("SSLCTLFD=7").unwrap(), clear);
        let demanded = Policy { force_tls: true, ..offered };
        assert_eq!(policy("UCSPITLS=! SSLCTLFD=7").unwrap(), demanded);
        assert_eq!(demanded.after_handshake(), Policy { in_tls: true, ..clear });
        assert!(policy("").unwrap().auth_needs_tls());
        for settings in ["SSL=1", "FORCETLS=0", "ALLOW_INSECURE_AUTH=1"] {
            assert!(!policy(settings).unwrap().auth_needs_tls(), "{settings}");
        }
        // Nothing that will be answered 530 may be offered: a client would send the password with it.
        for settings in ["FORCE_TLS=1 ALLOW_INSECURE_AUTH=1", "UCSPITLS=! SSLCTLFD=7 FORCETLS=0"] {
            let policy = policy(settings).unwrap();
            assert!(policy.auth_needs_tls() && !policy.after_handshake().auth_needs_tls());
        }
    }

    #[test]
    fn which_mechanisms() {
        let mechanisms = |settings: &str| {
            let policy = policy(settings).unwrap();
            let names = ["PLAIN", "CRAM-MD5"].map(|name| policy.mechanisms.include(name));
            (policy.auth, policy.require_auth, names)
        };
        for (settings, expected) in [
            ("", (false, false, [true, true])),
            ("SASLFD=7", (true, false, [true, true])),
            ("SASLFD=7 AUTH=1", (true, false, [true, true])),
            ("SASLFD=7 AUTH=0", (false, false, [true, true])),
            ("SASLFD=7 SMTPAUTH=-", (false, false, [true, true])),
            ("SASLFD=7 SMTPAUTH=0", (false, false, [true, true])),
            ("SASLFD=7 SMTPAUTH=", (true, false, [true, false])),
            ("SASLFD=7 SMTPAUTH=cram", (true, false, [false, true])),
            ("SASLFD=7 SMTPAUTH=+cram", (true, false, [true, true])),
            ("SASLFD=7 SMTPAUTH=!", (true, true, [true, false])),
            ("SASLFD=7 SMTPAUTH=!cram", (true, true, [false, true])),
            ("SASLFD=7 SMTPAUTH=!+cram", (true, true, [true, true])),
        ] {
            assert_eq!(mechanisms(settings), expected, "{settings}");
        }
    }
}
