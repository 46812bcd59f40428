//! JSON values as JavaScript prints them inside a text. SC puts a channel that is no string into its error messages so.

use sc_protocol::json::{self, Kind};

/// Longest text, in bytes: an error message is no place for what a client sends.
const SHOWN_MAX: usize = 64;
/// Deepest array that is looked into.
const DEPTH_MAX: usize = 8;

/// `String(value)` of a member that may be absent, cut to a short piece.
pub(crate) fn shown(raw: Option<&str>) -> String {
    let mut out = String::new();
    match raw {
        Some(raw) => write(&mut out, raw, 0),
        None => out.push_str("undefined"),
    }
    let end = (0..=SHOWN_MAX.min(out.len())).rev().find(|&at| out.is_char_boundary(at)).unwrap_or(0);
    out.truncate(end);
    out
}

fn write(out: &mut String, raw: &str, depth: usize) {
    if out.len() > SHOWN_MAX {
        return;
    }
    match json::kind(raw) {
        Kind::String => out.push_str(&json::string(raw).unwrap_or_default()),
        Kind::Object => out.push_str("[object Object]"),
        Kind::Array if depth < DEPTH_MAX => {
            for (at, element) in json::array(raw).into_iter().flatten().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                if out.len() > SHOWN_MAX {
                    return;
                }
                // `String([null])` is empty.
                if json::kind(element) != Kind::Null {
                    write(out, element, depth + 1);
                }
            }
        }
        Kind::Array => {}
        Kind::Number => match json::number(raw) {
            Some(number) => out.push_str(&number.to_string()),
            None => out.push_str(raw),
        },
        Kind::Null | Kind::Bool => out.push_str(raw.trim_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_javascript_prints_it() {
        for (raw, text) in [
            (r#"["a","b"]"#, "a,b"),
            ("[]", ""),
            ("[null, 1.0,[2,[true]]]", ",1,2,true"),
            (r#"{"toString":1}"#, "[object Object]"),
            ("null", "null"),
            ("5", "5"),
        ] {
            assert_eq!(shown(Some(raw)), text);
        }
        assert_eq!(shown(None), "undefined");
    }

    #[test]
    fn neither_long_nor_deep() {
        assert_eq!(shown(Some(&format!("[{}0]", "\"ä\",".repeat(1000)))).len(), 63);
        assert_eq!(shown(Some(&("[".repeat(20_000) + &"]".repeat(20_000)))), "");
    }
}
