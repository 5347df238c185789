//! Sizes in bytes, as flags name them.

/// A number of bytes, for clap: `1000000`, `512MB` of a thousand thousands, `1.5GiB` of 1,024^3.
pub fn bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = (&text[..end], text[end..].trim());
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1u64,
        "kb" => 1000,
        "mb" => 1000u64.pow(2),
        "gb" => 1000u64.pow(3),
        "tb" => 1000u64.pow(4),
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(format!("expected a size such as 4GiB or 500MB, got the unit {unit:?}")),
    };
    let wrong = || format!("expected a size such as 4GiB or 500MB, got {text:?}");
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = number * factor as f64;
    if bytes >= 1.0 && bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_thousands_or_of_1024() {
        for (text, expected) in [
            ("1", 1),
            ("1000000", 1_000_000),
            ("2kb", 2000),
            ("4GiB", 4 << 30),
            ("512 MB", 512_000_000),
            ("1.5GiB", 3 << 29),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in
            ["", "0", "GiB", "-1", "4G", "4 apples", "1e9", "nan", "inf", "1.2.3", "99999999TiB"]
        {
            assert!(bytes(text).unwrap_err().contains("such as 4GiB"), "{text}");
        }
    }
}
