//! Control files in qmail's formats; a missing file is none, any other trouble an error.

use std::io::{Error, ErrorKind, Result};
use std::path::Path;

/// The first line of a file, blanks at its end taken off.
pub fn line(path: &Path) -> Result<Option<Vec<u8>>> {
    let Some(content) = whole(path)? else { return Ok(None) };
    Ok(content.split(|&byte| byte == b'\n').next().map(|line| line.trim_ascii_end().to_vec()))
}

/// The entries of a file: one a line, no empty lines, no comments.
pub fn lines(path: &Path) -> Result<Option<Vec<Vec<u8>>>> {
    let Some(content) = whole(path)? else { return Ok(None) };
    Ok(Some(
        content
            .split(|&byte| byte == b'\n')
            .map(<[u8]>::trim_ascii_end)
            .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
            .map(<[u8]>::to_vec)
            .collect(),
    ))
}

/// The number in the first line of a file; anything else there is an error, an empty file is none.
pub fn number(path: &Path) -> Result<Option<u64>> {
    match line(path)? {
        Some(digits) if !digits.is_empty() => parse(&digits).map(Some),
        _ => Ok(None),
    }
}

/// A number in decimal digits.
pub fn parse(digits: &[u8]) -> Result<u64> {
    str::from_utf8(digits)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::new(ErrorKind::InvalidData, "not a number"))
}

fn whole(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn file(name: &str, content: &[u8]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("control-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        path
    }

    // qmail-control(5): comments only in files of several lines; blanks at the end are ignored.
    #[test]
    fn formats() {
        let path = file("lines", b"# c\n\na.example \t\r\n #kept\n\xffx\nlast");
        let entries = lines(&path).unwrap().unwrap();
        assert_eq!(entries, [&b"a.example"[..], b" #kept", b"\xffx", b"last"]);
        assert_eq!(line(&file("line", b"#one \ntwo\n")).unwrap().unwrap(), b"#one");
        assert_eq!(line(&file("empty", b"")).unwrap().unwrap(), b"");
        assert_eq!(line(Path::new("/nonexistent/x")).unwrap(), None);
        assert!(line(Path::new("/")).is_err());
    }

    #[test]
    fn numbers() {
        for (content, expected) in
            [(&b"0\n"[..], Some(0)), (b"18446744073709551615 \nx", Some(u64::MAX)), (b"\n", None)]
        {
            assert_eq!(number(&file("number", content)).unwrap(), expected);
        }
        for bad in [&b"10M"[..], b"-1", b"+1", b" 1", b"18446744073709551616"] {
            assert!(number(&file("bad", bad)).is_err(), "{}", bad.escape_ascii());
        }
    }
}
