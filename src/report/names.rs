//! Names of stages as others can take them: in paths, addresses and identifiers.

/// The text with everything but letters, digits, `-`, `.`, `_` and `~` as `%XX`, as in addresses.
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// A path whose parts are encoded one by one.
pub(super) fn encoded_path(path: &str) -> String {
    path.split('/').map(encoded).collect::<Vec<_>>().join("/")
}

/// A name as that of a file: one part of a path, whatever it holds.
pub(super) fn file_name(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c == '/' || c == '\\' || c.is_control() { '_' } else { c }).collect();
    if plain.is_empty() || plain.chars().all(|c| c == '.') { format!("_{plain}") } else { plain }
}

/// The axes in the name of an instance: `model[method=zscore,lr=0.1]` has two.
pub(super) fn axes_of(stage: &str) -> Vec<(String, String)> {
    let Some((_, rest)) = stage.split_once('[') else { return Vec::new() };
    let Some(inner) = rest.strip_suffix(']') else { return Vec::new() };
    let (mut parts, mut start, mut depth, mut quoted) = (Vec::new(), 0, 0_usize, false);
    for (position, character) in inner.char_indices() {
        match character {
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth = depth.saturating_sub(1),
            ',' if depth == 0 && !quoted => {
                parts.push(&inner[start..position]);
                start = position + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[start..]);
    let pair = |part: &&str| part.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    parts.iter().filter_map(pair).collect()
}

/// The name of the stage in the file that an instance belongs to.
pub(super) fn stage_of(name: &str) -> &str {
    name.split('[').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_where_they_stand() {
        assert_eq!(encoded("model[a=1,b=ü]"), "model%5Ba%3D1%2Cb%3D%C3%BC%5D");
        assert_eq!(encoded_path("a b/c.png"), "a%20b/c.png");
        assert_eq!(file_name("../x"), ".._x");
        assert_eq!((file_name(".."), file_name("a[b=1]")), ("_..".into(), "a[b=1]".into()));
    }

    #[test]
    fn axes_are_read_from_names() {
        let pairs = |stage| -> Vec<String> {
            axes_of(stage).into_iter().map(|(name, value)| format!("{name}:{value}")).collect()
        };
        assert_eq!(pairs("model[method=zscore,lr=1.0e-2]"), ["method:zscore", "lr:1.0e-2"]);
        assert_eq!(
            pairs("m[kernels=[3, 5],x={a: 1, b: 2},s=\"a,b\"]"),
            ["kernels:[3, 5]", "x:{a: 1, b: 2}", "s:\"a,b\""]
        );
        assert!(pairs("model").is_empty() && pairs("model[").is_empty());
        assert_eq!(stage_of("model[a=1]"), "model");
    }
}
