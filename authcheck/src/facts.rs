//! What is known about all records of a users.cdb together: its seal, and the work that a login takes which does not exist.

use crate::cost;
use crate::record::Record;
use crate::secret::Secret;
use crate::text;

/// What is known about all records together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// From which the salts of logins that do not exist are derived.
    pub secret: Secret,
    /// The work that a login takes that does not exist.
    pub decoy: Decoy,
    /// SCRAM iterations, if every record can do SCRAM.
    pub scram: Option<u32>,
    /// Whether a record can do CRAM-MD5.
    pub cram: bool,
}

/// A hash to be computed where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoy {
    /// A hash string.
    Hash(Secret),
    /// A SCRAM verifier with these iterations.
    Scram(u32),
}

impl Facts {
    /// The facts about these records, which go on with the `secret` of the file that they replace.
    pub fn of<'a>(records: impl Iterator<Item = &'a Record> + Clone, secret: Secret) -> Self {
        let mut works: Vec<(Decoy, usize)> = Vec::new();
        for decoy in records.clone().filter_map(Decoy::of) {
            match works.iter_mut().find(|(seen, _)| seen.same_work(&decoy)) {
                Some((_, count)) => *count = count.saturating_add(1),
                None => works.push((decoy, 1)),
            }
        }
        let decoy = works.into_iter().max_by_key(|(_, count)| *count).map(|(decoy, _)| decoy);
        let mut iterations =
            records.clone().map(|record| Some(record.scram.as_ref()?.iterations()));
        let first = iterations.next().flatten();
        Self {
            secret,
            decoy: decoy.unwrap_or_default(),
            scram: first.filter(|_| iterations.all(|count| count.is_some())),
            cram: records.clone().any(|record| record.cram.is_some()),
        }
    }

    /// Of a file without a seal only its first record is known: PLAIN and LOGIN it is, then.
    pub(crate) fn of_unsealed(first: Option<Record>) -> Self {
        let decoy = first.as_ref().and_then(Decoy::of).filter(Decoy::can_be_computed);
        let decoy = decoy.unwrap_or_default();
        Self { secret: Secret::default(), decoy, scram: None, cram: false }
    }

    pub(crate) fn parse(seal: &[u8]) -> Option<Self> {
        let mut lines = str::from_utf8(seal).ok()?.lines();
        let mut next = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix('=');
        next("sum")?;
        let secret = text::unhex::<SECRET>(next("secret")?.as_bytes())?;
        let scram = next("scram-sha-256")?.parse().ok()?;
        let cram = next("cram-md5")? == "1";
        let decoy = Decoy::parse(next("decoy")?);
        let scram = Some(scram).filter(|count| *count > 0);
        Some(Self { secret: secret.as_ref().into(), decoy, scram, cram })
    }

    pub(crate) fn seal(&self) -> Secret {
        let (sum, secret) = ("0".repeat(SUM_HEX), text::hex(&self.secret));
        let (scram, cram) = (self.scram.unwrap_or(0), u8::from(self.cram));
        let decoy = self.decoy.text();
        let lines = format!(
            "sum={sum}\nsecret={secret}\nscram-sha-256={scram}\ncram-md5={cram}\ndecoy={decoy}\n"
        );
        Secret::new(lines.into_bytes())
    }
}

impl Decoy {
    pub(crate) fn of(record: &Record) -> Option<Self> {
        let scram = record.scram.as_ref().map(|scram| Self::Scram(scram.iterations()));
        record.password.clone().map(Self::Hash).or(scram)
    }

    fn parse(text: &str) -> Self {
        let iterations = text.strip_prefix("scram:").and_then(|count| count.parse().ok());
        iterations.map_or_else(|| Self::Hash(text.as_bytes().into()), Self::Scram)
    }

    fn text(&self) -> String {
        match self {
            Self::Hash(hash) => hash.text().unwrap_or_default().to_owned(),
            Self::Scram(iterations) => format!("scram:{iterations}"),
        }
    }

    /// Where the first record's hash is of no use, a login that does not exist must still be refused.
    fn can_be_computed(&self) -> bool {
        match self {
            Self::Hash(hash) => cost::check(hash.text().unwrap_or_default()).is_ok(),
            Self::Scram(_) => true,
        }
    }

    pub(crate) fn same_work(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Hash(one), Self::Hash(two)) => {
                one.text().map(cost::work) == two.text().map(cost::work)
            }
            _ => self == other,
        }
    }
}

impl Default for Decoy {
    /// A hash of nothing at the cost of a new one.
    fn default() -> Self {
        let hash = format!("{DECOY_COST}${}${}", "A".repeat(22), "A".repeat(43));
        Self::Hash(Secret::new(hash.into_bytes()))
    }
}

/// Bytes of the secret, so that guessing it is no better than guessing a key of SHA-256.
pub const SECRET: usize = 32;

/// Hex digits of the sum in a seal.
pub(crate) const SUM_HEX: usize = 64;

/// What password::argon2id() makes.
const DECOY_COST: &str = "$argon2id$v=19$m=19456,t=2,p=1";
