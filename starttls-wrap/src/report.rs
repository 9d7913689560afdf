//! The outcome of `--check` as text and as JSON.

use crate::check::Finding;
use crate::policy::{Contradiction, Policy, Tls};

/// For people.
pub fn text(findings: &[Finding], policy: &Result<Policy, Contradiction>) -> String {
    let mut out = String::new();
    for finding in findings {
        out.push_str(&certificate_text(finding));
    }
    match policy {
        Ok(policy) => out.push_str(&format!("policy: {}\n", policy_text(policy))),
        Err(Contradiction(one, other)) => {
            out.push_str(&format!("PROBLEM: {one} contradicts {other}\n"));
        }
    }
    let count = problems(findings, policy);
    out.push_str(&match count {
        0 => "no problems\n".to_owned(),
        1 => "1 problem\n".to_owned(),
        count => format!("{count} problems\n"),
    });
    out
}

/// For programs: one object.
pub fn json(findings: &[Finding], policy: &Result<Policy, Contradiction>) -> String {
    let certificates: Vec<String> = findings.iter().map(certificate_json).collect();
    let policy_json = match policy {
        Ok(policy) => format!("\"policy\":{}", string(&policy_text(policy))),
        Err(Contradiction(one, other)) => {
            format!("\"contradiction\":[{},{}]", string(one), string(other))
        }
    };
    let count = problems(findings, policy);
    format!(
        "{{\"certificates\":[{}],{policy_json},\"problems\":{count}}}\n",
        certificates.join(",")
    )
}

/// How many things must be mended.
pub fn problems(findings: &[Finding], policy: &Result<Policy, Contradiction>) -> usize {
    let found = findings.iter().map(|finding| finding.problems.len()).sum::<usize>();
    found.saturating_add(usize::from(policy.is_err()))
}

fn certificate_text(finding: &Finding) -> String {
    let mut lines = vec![finding.certificate.display().to_string()];
    if let Some(summary) = &finding.summary {
        lines.push(format!("  names    {}", summary.names.join(" ")));
        lines.push(format!("  expires  {}, {} days left", summary.expires, summary.days_left));
        lines.push(format!("  chain    {}", finding.chain));
    }
    if !finding.algorithm.is_empty() {
        let key = finding.key.display();
        lines.push(format!("  key      {}, matches, in {key}", finding.algorithm));
    }
    lines.extend(finding.tlsa().iter().map(|record| format!("  tlsa     {record}")));
    lines.extend(finding.problems.iter().map(|problem| format!("  PROBLEM  {problem}")));
    lines.join("\n").trim_start().to_owned() + "\n"
}

fn certificate_json(finding: &Finding) -> String {
    let mut fields = vec![
        format!("\"certificate\":{}", string(&finding.certificate.to_string_lossy())),
        format!("\"key\":{}", string(&finding.key.to_string_lossy())),
    ];
    if let Some(summary) = &finding.summary {
        fields.push(format!("\"names\":{}", strings(&summary.names)));
        fields.push(format!("\"expires\":{}", string(&summary.expires)));
        fields.push(format!("\"days_left\":{}", summary.days_left));
        fields.push(format!("\"chain\":{}", string(&finding.chain)));
    }
    fields.push(format!("\"key_matches\":{}", !finding.algorithm.is_empty()));
    fields.push(format!("\"algorithm\":{}", string(&finding.algorithm)));
    fields.push(format!("\"tlsa\":{}", strings(&finding.tlsa())));
    fields.push(format!("\"problems\":{}", strings(&finding.problems)));
    format!("{{{}}}", fields.join(","))
}

fn policy_text(policy: &Policy) -> String {
    let tls = match policy.tls {
        Tls::Denied => "no TLS",
        Tls::Offered => "TLS offered by STARTTLS",
        Tls::Required => "TLS required, by STARTTLS",
        Tls::Immediate => "TLS from the first byte",
    };
    let auth = match (policy.auth, policy.allows_auth(false) && policy.tls != Tls::Immediate) {
        (false, _) => "no AUTH",
        (true, true) => "AUTH also in clear",
        (true, false) if policy.tls == Tls::Denied => "no AUTH, which needs TLS",
        (true, false) => "AUTH only inside TLS",
    };
    let mail = if policy.require_auth { "AUTH required for any mail" } else { "mail without AUTH" };
    format!("{tls}; {auth}; {mail}")
}

fn strings(all: &[String]) -> String {
    format!("[{}]", all.iter().map(|one| string(one)).collect::<Vec<_>>().join(","))
}

/// RFC 8259 7.
fn string(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            letter if u32::from(letter) < 0x20 => {
                out.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 8259 7: quotation mark, reverse solidus and control characters must be escaped.
    #[test]
    fn strings_are_escaped() {
        assert_eq!(string("a\"\\\n\u{1}é"), "\"a\\\"\\\\\\u000a\\u0001é\"");
    }
}
