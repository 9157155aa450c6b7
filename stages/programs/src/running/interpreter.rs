//! Which program runs a script, by the ending of its name: for hints, never for running anything.

use std::path::Path;

/// What runs scripts with these endings.
const INTERPRETERS: [(&str, &str); 11] = [
    ("bash", "bash"),
    ("jl", "julia"),
    ("js", "node"),
    ("lua", "lua"),
    ("pl", "perl"),
    ("py", "python3"),
    ("r", "Rscript"),
    ("rb", "ruby"),
    ("sh", "sh"),
    ("tcl", "tclsh"),
    ("zsh", "zsh"),
];

/// The program that runs a script of this name.
pub(super) fn interpreter(script: &Path) -> Option<&'static str> {
    let ending = script.extension()?.to_str()?.to_lowercase();
    let (_, program) = INTERPRETERS.iter().find(|(known, _)| *known == ending)?;
    Some(program)
}

/// How `run` begins where a script is run that is declared under this name. One that is a program itself needs no other.
pub(crate) fn run_line(script: &Path, key: &str, is_program: bool) -> String {
    match interpreter(script) {
        _ if is_program => format!("run: [\"{{file.{key}}}\", …]"),
        Some(program) => format!("run: [{program}, \"{{file.{key}}}\", …]"),
        None => format!("run: [PROGRAM, \"{{file.{key}}}\", …]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_names_the_interpreter() {
        let line = |script: &str| run_line(Path::new(script), "it", false);
        assert_eq!(line("a/train.py"), "run: [python3, \"{file.it}\", …]");
        assert_eq!(line("fit.R"), "run: [Rscript, \"{file.it}\", …]");
        assert_eq!(line("x.jl"), "run: [julia, \"{file.it}\", …]");
        assert_eq!(line("prepare.sh"), "run: [sh, \"{file.it}\", …]");
        assert_eq!(line("tool"), "run: [PROGRAM, \"{file.it}\", …]");
        assert_eq!(
            run_line(Path::new("train.py"), "it", true),
            "run: [\"{file.it}\", …]"
        );
    }
}
