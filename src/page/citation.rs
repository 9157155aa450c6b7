//! Citations as BibTeX, from the sentence that a list of data sets has: `Authors: Title. Where Year. doi:…`.

/// An entry of BibTeX. What the sentence does not say is left out.
pub fn bibtex(key: &str, title: &str, citation: &str, homepage: &str) -> String {
    let (authors, rest) = citation.split_once(": ").unwrap_or(("", citation));
    let is_sentence_of_names = authors.chars().all(|letter| letter != '.') && !authors.is_empty();
    let mut fields: Vec<(&str, String)> = Vec::new();
    let paper = if is_sentence_of_names {
        let names: Vec<&str> = authors.split(',').map(str::trim).collect();
        fields.push(("author", names.join(" and ")));
        rest.split(". ")
            .next()
            .unwrap_or(rest)
            .trim_end_matches('.')
    } else {
        title
    };
    // `2018` may end the title, and a version of the same paper may follow.
    let (paper, _) = split_year(paper);
    fields.insert(0, ("title", format!("{{{paper}}}")));
    if let Some(year) = year_of(rest) {
        fields.push(("year", year));
    }
    for (prefix, field) in [("doi:", "doi"), ("arXiv:", "eprint")] {
        if let Some((_, after)) = citation.split_once(prefix) {
            let value = after.split_whitespace().next().unwrap_or_default();
            fields.push((field, value.trim_end_matches(['.', ',', ';']).to_owned()));
        }
    }
    if !homepage.is_empty() {
        fields.push(("url", homepage.to_owned()));
    }
    fields.push(("note", citation.to_owned()));
    let mut entry = format!("@misc{{{},\n", plain(key));
    for (name, value) in fields {
        entry += &format!("  {name} = {{{}}},\n", balanced(&value));
    }
    entry + "}\n"
}

/// A title without a year that ends it.
fn split_year(title: &str) -> (&str, Option<&str>) {
    match title.rsplit_once(", ") {
        Some((title, year)) if is_year(year) => (title, Some(year)),
        _ => (title, None),
    }
}

fn is_year(text: &str) -> bool {
    text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The last word that can be a year.
fn year_of(text: &str) -> Option<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric());
    let years =
        words.filter(|word| is_year(word) && (word.starts_with("19") || word.starts_with("20")));
    // Of a DOI and the like, digits may look like a year: those come last.
    years.into_iter().next().map(str::to_owned)
}

fn plain(key: &str) -> String {
    key.chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || "-_".contains(*letter))
        .collect()
}

/// A brace without its partner would end the entry.
fn balanced(text: &str) -> String {
    let opened = text.matches('{').count();
    if opened == text.matches('}').count() {
        text.to_owned()
    } else {
        text.replace(['{', '}'], "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_citation_becomes_an_entry() {
        let citation =
            "Su, Zhao, Niu: Robust Anomaly Detection. KDD 2019. doi:10.1145/3292500.3330672";
        let entry = bibtex("smd", "Server machines", citation, "https://example.org");
        for line in [
            "@misc{smd,",
            "  title = {{Robust Anomaly Detection}},",
            "  author = {Su and Zhao and Niu},",
            "  year = {2019},",
            "  doi = {10.1145/3292500.3330672},",
        ] {
            assert!(entry.contains(line), "{line}: {entry}");
        }
        let archive = "Bagnall, Dau: The UEA archive, 2018. arXiv:1811.00075";
        let entry = bibtex("uea", "UEA", archive, "https://example.org");
        assert!(
            entry.contains("title = {{The UEA archive}}")
                && entry.contains("eprint = {1811.00075}"),
            "{entry}"
        );
        let entry = bibtex("own", "Mine }", "nobody", "x");
        assert!(
            entry.contains("title = {") && !entry.contains("Mine }}"),
            "{entry}"
        );
    }
}
