//! Domains and addresses, as rules name them.

/// `example.org`, or with a dot in front of it everything below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Domain {
    Exactly(String),
    Below(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// `<>`
    Null,
    /// `user@example.org`, or a name without a domain
    Whole(Vec<u8>),
    /// `user@`
    User(Vec<u8>),
    /// `@example.org`, `@.example.org`
    At(Domain),
}

impl Domain {
    pub(super) fn parse(text: &str) -> Domain {
        let text = text.to_ascii_lowercase();
        if text.starts_with('.') { Domain::Below(text) } else { Domain::Exactly(text) }
    }

    pub(super) fn holds(&self, name: &[u8]) -> bool {
        match self {
            Domain::Exactly(domain) => name.eq_ignore_ascii_case(domain.as_bytes()),
            Domain::Below(domain) => {
                let above = name.len().checked_sub(domain.len());
                above
                    .filter(|&length| length > 0)
                    .and_then(|length| name.get(length..))
                    .is_some_and(|end| end.eq_ignore_ascii_case(domain.as_bytes()))
            }
        }
    }
}

impl Address {
    pub(super) fn parse(text: &str) -> Address {
        match text.rsplit_once('@') {
            _ if text == "<>" => Address::Null,
            Some(("", domain)) => Address::At(Domain::parse(domain)),
            Some((user, "")) => Address::User(user.into()),
            _ => Address::Whole(text.into()),
        }
    }

    pub(super) fn holds(&self, address: &[u8]) -> bool {
        let at = address.iter().rposition(|&byte| byte == b'@').unwrap_or(address.len());
        let (user, domain) = address.split_at_checked(at).unwrap_or((address, &[]));
        match self {
            Address::Null => address.is_empty(),
            Address::Whole(whole) => address.eq_ignore_ascii_case(whole),
            Address::User(wanted) => user.eq_ignore_ascii_case(wanted),
            Address::At(wanted) => {
                domain.strip_prefix(b"@").is_some_and(|domain| wanted.holds(domain))
            }
        }
    }
}
