#!/usr/bin/env python3
"""Figures of how the code is written: sizes of files and functions, density of lines, comments.

    scripts/code-figures.py [FOLDER]

Counts the Rust sources of the crates (`src/` and `stages/`), with and without their tests. A test is a file below a
folder `tests`, a file `tests.rs`, `golden.rs` or `conformance.rs`, or a module behind `#[cfg(test)]`. Strings and
comments are blanked before anything but comments is counted.
"""

import re
import statistics
import subprocess
import sys
from pathlib import Path

TEST_FILES = {"tests.rs", "golden.rs", "conformance.rs"}
LITERAL = re.compile(
    r"""//[^\n]*|/\*.*?\*/|r(?P<hashes>#*)".*?"(?P=hashes)|b?"(?:\\.|[^"\\])*"|b?'(?:\\[^\n]{1,8}?|[^'\\\n])'""",
    re.S,
)
COMBINATOR = re.compile(
    r"\.(map|filter|filter_map|flat_map|and_then|map_or|map_or_else|map_err|ok_or|ok_or_else|unwrap_or_else|or_else|"
    r"then|then_some|zip|fold|scan|take_while|skip_while|any|all|find|find_map|position|flatten|chain|is_some_and|"
    r"is_none_or|is_ok_and|partition|inspect|try_for_each|for_each)\("
)
NAMED_CLOSURE = re.compile(r"\blet\s+(?:mut\s+)?\w+\s*=\s*(?:move\s*)?\|")
FUNCTION = re.compile(r"\bfn\s+\w+")


def blank(text):
    """The text with the content of comments and literals replaced by spaces, line for line."""
    def spaces(match):
        found = match.group(0)
        if found.startswith("//") or found.startswith("/*"):
            return re.sub(r"[^\n]", " ", found)
        return '"' + re.sub(r"[^\n]", " ", found[1:-1]) + '"'
    return LITERAL.sub(spaces, text)


def closing(code, opening):
    """The position of the brace that closes the one at `opening`."""
    depth = 0
    for position in range(opening, len(code)):
        if code[position] == "{":
            depth += 1
        elif code[position] == "}":
            depth -= 1
            if depth == 0:
                return position
    return len(code) - 1


def without_tests(text, code):
    """Text and code without modules and functions behind `#[cfg(test)]`."""
    while (found := re.search(r"#\[cfg\(test\)\]", code)) is not None:
        start = found.start()
        brace = code.find("{", start)
        semicolon = code.find(";", start)
        end = semicolon if brace < 0 or 0 <= semicolon < brace else closing(code, brace)
        text, code = text[:start] + text[end + 1:], code[:start] + code[end + 1:]
    return text, code


def function_lengths(code):
    """Lines of each function with a body, its signature included."""
    lengths = []
    for found in FUNCTION.finditer(code):
        depth = 0
        for position in range(found.end(), len(code)):
            character = code[position]
            if character in "([":
                depth += 1
            elif character in ")]":
                depth -= 1
            elif character == ";" and depth == 0:
                break
            elif character == "{" and depth == 0:
                lengths.append(code.count("\n", found.start(), closing(code, position)) + 1)
                break
    return lengths


def inner_comments(text, code):
    """Lines inside functions that are only a comment."""
    count = 0
    for line, blanked in zip(text.splitlines(), code.splitlines()):
        stripped = line.strip()
        is_comment = stripped.startswith("//") and not stripped.startswith(("///", "//!"))
        count += is_comment and line.startswith(" ") and not blanked.strip()
    return count


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    names = subprocess.run(["git", "-C", str(root), "ls-files", "src", "stages"], check=True, capture_output=True, text=True)
    paths = [path for path in names.stdout.split() if path.endswith(".rs")]
    tests, lines, functions, sizes = 0, 0, [], []
    code_lines = characters = combinators = closures = comments = 0
    for path in paths:
        text = (root / path).read_text()
        whole = text.count("\n")
        sizes.append(whole)
        parts = Path(path).parts
        if parts[-1] in TEST_FILES or "tests" in parts or "benches" in parts:
            tests += whole
            continue
        text, code = without_tests(text, blank(text))
        lines += text.count("\n")
        tests += whole - text.count("\n")
        functions += function_lengths(code)
        filled = [line.strip() for line in code.splitlines() if line.strip()]
        code_lines += len(filled)
        characters += sum(len(line) for line in filled)
        combinators += len(COMBINATOR.findall(code))
        closures += len(NAMED_CLOSURE.findall(code))
        comments += inner_comments(text, code)
    functions.sort()
    manifests = [root / "Cargo.toml", *root.glob("src/Cargo.toml"), *root.glob("stages/**/Cargo.toml")]
    print(f"source files, lines                    {len(paths)}, {lines + tests}")
    print(f"lines without tests                    {lines} ({code_lines} of them code)")
    print(f"file median / max                      {statistics.median(sizes):.0f} / {max(sizes)}")
    p90 = functions[int(len(functions) * 0.9)]
    print(f"function lines median / p90 / max      {statistics.median(functions):.0f} / {p90} / {functions[-1]}")
    print(f"characters in a code line              {characters / code_lines:.1f}")
    print(f"iterator combinators per 1,000 chars   {1000 * combinators / characters:.2f}")
    print(f"named closures per 10,000 chars        {10_000 * closures / characters:.2f}")
    print(f"comment lines inside code              {100 * comments / code_lines:.1f} %")
    print(f"crates                                 {len(manifests)}")


main()
