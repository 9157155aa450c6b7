//! Pictures that a program gives: a folder of PNG files, `SPLIT/CLASS/NAME.png`, all of one size.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use contract::Trouble;
use contract::artifact::{Image, Images, Split};

/// The pictures at these paths below a folder, which are sorted.
///
/// # Errors
/// If one of them is not a picture, lies elsewhere, or has another size.
pub(crate) fn images(folder: &Path, paths: &[PathBuf]) -> Result<Images, Trouble> {
    let mut classes = BTreeSet::new();
    let mut placed = Vec::with_capacity(paths.len());
    for path in paths {
        let (split, class, name) = place(path).ok_or_else(|| misplaced(path))?;
        classes.insert(class.clone());
        placed.push((path, split, class, name));
    }
    let classes: Vec<String> = classes.into_iter().collect();
    let mut images = Vec::with_capacity(placed.len());
    for (path, split, class, name) in placed {
        let place = folder.join(path);
        let bytes = std::fs::read(&place).map_err(|error| {
            let message = format!("the picture `{}` cannot be read", path.display());
            Trouble::new(message).because(error)
        })?;
        let label = classes.iter().zip(0..).find(|(known, _)| **known == class);
        let label = label.map(|(_, number)| number);
        images.push(Image::from_file(name, split, label, bytes));
    }
    let Some(first) = images.first() else {
        return Err(Trouble::new("the folder of pictures is empty"));
    };
    let (height, width) = first.size()?;
    let found = Images {
        height,
        width,
        classes,
        images,
    };
    found.validate().map_err(Trouble::new)?;
    Ok(found)
}

fn place(path: &Path) -> Option<(Split, String, String)> {
    let parts: Vec<&str> = path
        .iter()
        .map(|part| part.to_str())
        .collect::<Option<_>>()?;
    let [split, class, file] = parts[..] else {
        return None;
    };
    let stem = file.strip_suffix(".png")?;
    Some((
        split.parse().ok()?,
        class.to_owned(),
        format!("{class}/{stem}"),
    ))
}

fn misplaced(path: &Path) -> Trouble {
    let message = format!("`{}` is not a path of a picture", path.display());
    let hint = "pictures lie at SPLIT/CLASS/NAME.png, where the split is train, validation, calibration or test";
    Trouble::new(message).hint(hint)
}
