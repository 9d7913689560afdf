//! The settings table of the TLS and AUTH policy: what is allowed before TLS, inside TLS and before AUTH.

use std::ffi::OsString;

use plumb::ucspi::switch;
use wire::Verb;

use crate::replies;

/// Where TLS comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// DENY_TLS: not at all.
    Denied,
    /// By STARTTLS, if the client likes.
    Offered,
    /// FORCE_TLS: by STARTTLS, before anything else.
    Required,
    /// SSL or -i: from the first byte.
    Immediate,
}

/// What the administrator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Where TLS comes from.
    pub tls: Tls,
    /// AUTH is not switched off.
    pub auth: bool,
    /// AUTH is allowed in clear, too.
    pub insecure_auth: bool,
    /// No mail without AUTH.
    pub require_auth: bool,
    /// -k: one program for the whole session.
    pub keep: bool,
}

/// Two settings that cannot both be meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contradiction(pub &'static str, pub &'static str);

impl From<Contradiction> for plumb::Error {
    fn from(Contradiction(one, other): Contradiction) -> plumb::Error {
        plumb::Error::permanent(format!("{one} contradicts {other}"))
    }
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Inside TLS.
    pub tls: bool,
    /// The program said 235.
    pub authenticated: bool,
}

impl Policy {
    /// Reads the switches; `immediate` is the option -i.
    ///
    /// # Errors
    /// The two settings that contradict each other.
    pub fn from_environment(
        variable: impl Fn(&str) -> Option<OsString>,
        immediate: bool,
    ) -> Result<Policy, Contradiction> {
        let on = |name: &str| switch(variable(name).as_deref());
        let ssl = on("SSL");
        let by_option = if immediate { "-i" } else { "SSL" };
        let (deny, force) = (on("DENY_TLS"), on("FORCE_TLS"));
        // Unset and empty are the same, and here mean 1.
        let auth = variable("AUTH").filter(|value| !value.is_empty());
        let auth = auth.is_none_or(|value| switch(Some(&value)));
        let policy = Policy {
            tls: match (immediate || ssl, deny, force) {
                (true, _, _) => Tls::Immediate,
                (_, true, _) => Tls::Denied,
                (_, _, true) => Tls::Required,
                _ => Tls::Offered,
            },
            auth,
            insecure_auth: on("ALLOW_INSECURE_AUTH"),
            require_auth: on("REQUIRE_AUTH"),
            keep: false,
        };
        match () {
            () if policy.tls == Tls::Immediate && deny => Err(Contradiction(by_option, "DENY_TLS")),
            () if policy.tls != Tls::Immediate && force && deny => {
                Err(Contradiction("FORCE_TLS", "DENY_TLS"))
            }
            () if policy.require_auth && !auth => Err(Contradiction("REQUIRE_AUTH", "AUTH")),
            () if policy.require_auth && deny && !policy.insecure_auth => {
                Err(Contradiction("REQUIRE_AUTH", "DENY_TLS"))
            }
            () => Ok(policy),
        }
    }

    /// Whether STARTTLS is shown to a client in clear.
    pub fn offers_starttls(&self) -> bool {
        matches!(self.tls, Tls::Offered | Tls::Required)
    }

    /// Whether AUTH may be offered and used now.
    pub fn allows_auth(&self, tls: bool) -> bool {
        self.auth && (tls || self.insecure_auth && self.tls != Tls::Required)
    }

    /// The refusal of a command that must not reach the program now.
    pub fn refusal(&self, verb: Verb, now: Progress) -> Option<&'static [u8]> {
        use Verb::*;
        let clear = !now.tls;
        match verb {
            Ehlo | Noop | Quit | StartTls => None,
            _ if clear && self.tls == Tls::Required => Some(replies::STARTTLS_FIRST),
            Auth if !self.auth => Some(replies::AUTH_UNKNOWN),
            Auth if !self.allows_auth(now.tls) => Some(replies::AUTH_NEEDS_TLS),
            Mail if self.require_auth && !now.authenticated => {
                Some(match self.allows_auth(now.tls) {
                    true => replies::AUTH_FIRST,
                    false => replies::STARTTLS_FIRST,
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(settings: &str, immediate: bool) -> Result<Policy, Contradiction> {
        let variables: Vec<(&str, &str)> =
            settings.split_whitespace().filter_map(|word| word.split_once('=')).collect();
        Policy::from_environment(
            |name| variables.iter().find(|(key, _)| *key == name).map(|(_, v)| v.into()),
            immediate,
        )
    }

    /// What AUTH and MAIL get: in clear, inside TLS, and MAIL after AUTH; "-" where the program decides.
    fn cell(settings: &str) -> String {
        let policy = policy(settings, false).unwrap();
        let code = |verb, tls, authenticated| {
            let refusal = policy.refusal(verb, Progress { tls, authenticated });
            refusal.map_or("-", |reply| str::from_utf8(&reply[..3]).unwrap())
        };
        let offered = |tls| if policy.allows_auth(tls) { "+" } else { "-" };
        format!(
            "clear {} {} {} tls {} {} {} {}",
            offered(false),
            code(Verb::Auth, false, false),
            code(Verb::Mail, false, false),
            offered(true),
            code(Verb::Auth, true, false),
            code(Verb::Mail, true, false),
            code(Verb::Mail, true, true),
        )
    }

    // DESIGN 4: the fifteen cells; a + where AUTH may be shown, codes where the wrapper refuses.
    #[test]
    fn the_table_of_fifteen_cells() {
        for (settings, expected) in [
            ("DENY_TLS=1 REQUIRE_AUTH=1 ALLOW_INSECURE_AUTH=1", "clear + - 530 tls + - 530 -"),
            ("DENY_TLS=1 ALLOW_INSECURE_AUTH=1", "clear + - - tls + - - -"),
            ("DENY_TLS=1 AUTH=0", "clear - 503 - tls - 503 - -"),
            ("REQUIRE_AUTH=1 ALLOW_INSECURE_AUTH=1", "clear + - 530 tls + - 530 -"),
            ("ALLOW_INSECURE_AUTH=1", "clear + - - tls + - - -"),
            ("AUTH=0 ALLOW_INSECURE_AUTH=1", "clear - 503 - tls - 503 - -"),
            ("REQUIRE_AUTH=1", "clear - 538 530 tls + - 530 -"),
            ("", "clear - 538 - tls + - - -"),
            ("AUTH=0", "clear - 503 - tls - 503 - -"),
            ("FORCE_TLS=1 REQUIRE_AUTH=1", "clear - 530 530 tls + - 530 -"),
            ("FORCE_TLS=1", "clear - 530 530 tls + - - -"),
            ("FORCE_TLS=1 AUTH=0", "clear - 530 530 tls - 503 - -"),
            ("SSL=1 REQUIRE_AUTH=1", "clear - 538 530 tls + - 530 -"),
            ("SSL=1", "clear - 538 - tls + - - -"),
            ("SSL=1 AUTH=0", "clear - 503 - tls - 503 - -"),
        ] {
            assert_eq!(cell(settings), expected, "{settings}");
        }
    }

    // DESIGN 4: REQUIRE_AUTH while AUTH still needs TLS asks for STARTTLS, else for AUTH.
    #[test]
    fn mail_is_told_what_is_missing() {
        let policy = policy("REQUIRE_AUTH=1", false).unwrap();
        let told = |tls| policy.refusal(Verb::Mail, Progress { tls, authenticated: false });
        assert_eq!(told(false), Some(replies::STARTTLS_FIRST));
        assert_eq!(told(true), Some(replies::AUTH_FIRST));
    }

    // RFC 3207 4: every command other than NOOP, EHLO, STARTTLS, or QUIT gets 530.
    #[test]
    fn required_tls_lets_only_four_verbs_pass() {
        use Verb::*;
        let policy = policy("FORCE_TLS=1", false).unwrap();
        for verb in [Helo, Mail, Rcpt, Data, Bdat, Rset, Vrfy, Expn, Help, Auth, Other] {
            let refusal = policy.refusal(verb, Progress::default());
            assert_eq!(refusal, Some(replies::STARTTLS_FIRST), "{verb:?}");
        }
        for verb in [Ehlo, Noop, Quit, StartTls] {
            assert_eq!(policy.refusal(verb, Progress::default()), None, "{verb:?}");
        }
    }

    // DESIGN 4: refused at start; 0, empty and unset are the same.
    #[test]
    fn contradictions_name_both_variables() {
        for (settings, immediate, pair) in [
            ("FORCE_TLS=1 DENY_TLS=1", false, Some(("FORCE_TLS", "DENY_TLS"))),
            ("SSL=1 DENY_TLS=1", false, Some(("SSL", "DENY_TLS"))),
            ("DENY_TLS=1", true, Some(("-i", "DENY_TLS"))),
            ("REQUIRE_AUTH=1 AUTH=0", false, Some(("REQUIRE_AUTH", "AUTH"))),
            ("REQUIRE_AUTH=1 DENY_TLS=1", false, Some(("REQUIRE_AUTH", "DENY_TLS"))),
            ("SSL=1 FORCE_TLS=1", false, None),
            ("FORCE_TLS=1 DENY_TLS=0", false, None),
            ("REQUIRE_AUTH=0 AUTH=0 DENY_TLS=1", false, None),
            ("REQUIRE_AUTH=1 DENY_TLS= FORCE_TLS=0", false, None),
            ("REQUIRE_AUTH=1 AUTH=", false, None),
        ] {
            let result = policy(settings, immediate);
            assert_eq!(result.err(), pair.map(|(a, b)| Contradiction(a, b)), "{settings}");
        }
    }
}
