//! Placeholders in arguments: `{in.NAME}`, `{file.NAME}` and `{out.NAME}`. Other braces are text.

/// A part of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    /// What stands between the braces, such as `in.raw`.
    Placeholder(&'a str),
}

const KINDS: [&str; 3] = ["in.", "file.", "out."];

/// Cuts an argument into its parts.
pub(super) fn parts(text: &str) -> Vec<Part<'_>> {
    let (mut parts, mut done, mut position) = (Vec::new(), 0, 0);
    while let Some(found) = text[position..].find('{') {
        let start = position + found;
        position = start + 1;
        let rest = &text[start + 1..];
        // Up to the next brace only: an argument may be long and full of them.
        let Some(end) = rest.find(['{', '}']) else {
            break;
        };
        let name = &rest[..end];
        if !rest[end..].starts_with('}') || !KINDS.iter().any(|kind| name.starts_with(kind)) {
            continue;
        }
        parts.push(Part::Text(&text[done..start]));
        parts.push(Part::Placeholder(name));
        position = start + 1 + end + 1;
        done = position;
    }
    parts.push(Part::Text(&text[done..]));
    parts.retain(|part| *part != Part::Text(""));
    parts
}

/// The placeholders of an argument.
pub(super) fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    parts(text).into_iter().filter_map(|part| match part {
        Part::Placeholder(name) => Some(name),
        Part::Text(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_found_among_other_braces() {
        let found = |text| placeholders(text).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(found("{in.a}"), ["in.a"]);
        assert_eq!(
            found("x={in.a},{out.b}{file.c}"),
            ["in.a", "out.b", "file.c"]
        );
        assert_eq!(
            found("awk '{print $1}' {in.a=1,b=2}/x > {out.o}"),
            ["in.a=1,b=2", "out.o"]
        );
        assert_eq!(found("{ {in.a} }"), ["in.a"]);
        assert_eq!(found("{{in.a}}"), ["in.a"]);
        assert!(found("{} {x} {in} {in.a ${HOME} in.a}").is_empty());
        assert_eq!(
            parts("a{out.o}"),
            [Part::Text("a"), Part::Placeholder("out.o")]
        );
        assert_eq!(parts("no braces"), [Part::Text("no braces")]);
        assert_eq!(parts(""), []);
        let many = "{".repeat(1 << 20);
        assert_eq!(
            parts(&many),
            [Part::Text(&many)],
            "in one go, however many there are"
        );
    }
}
