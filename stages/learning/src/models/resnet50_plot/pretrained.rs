//! Weights of a backbone that was trained elsewhere, from a safetensors file with torchvision's names.

use std::path::Path;

use contract::Trouble;
use contract::artifact::tensors_of;
use numerics::State;

/// The name under which the file is asked for.
pub(super) const NAME: &str = "pretrained";

/// Everything below this name belongs to the head, here and in the file, and is left alone.
const HEAD: &str = "fc.";
/// Counts steps, and is missing in older files.
const COUNTER: &str = "num_batches_tracked";

/// Takes over all weights but those of the head.
///
/// # Errors
/// If the file cannot be read, lacks a tensor of the backbone, holds one of another shape, or one that it does not have;
/// nothing is changed then.
pub(super) fn load(path: &Path, state: &State) -> Result<(), Trouble> {
    let file = path.display();
    let unreadable = format!("the pretrained weights in {file} cannot be read");
    let bytes = std::fs::read(path).map_err(|error| Trouble::new(&unreadable).because(error))?;
    let found = tensors_of(&bytes).map_err(|error| Trouble::new(&unreadable).because(error))?;
    let mut values = state.to_data()?;
    for name in found.keys() {
        if !name.starts_with(HEAD) && !values.contains_key(name) {
            let message = format!("{file} holds a tensor `{name}` that the backbone does not have");
            let hint = "do `width`, `depth` and `planes` fit the file?";
            return Err(Trouble::new(message).hint(hint));
        }
    }
    for (name, own) in &mut values {
        if name.starts_with(HEAD) {
            continue;
        }
        match found.get(name) {
            Some(tensor) if tensor.shape == own.shape && tensor.element == own.element => {
                own.clone_from(tensor)
            }
            Some(tensor) => {
                let message = format!(
                    "the tensor `{name}` in {file} is {:?} of {}, the backbone's {:?} of {}",
                    tensor.shape,
                    tensor.element.name(),
                    own.shape,
                    own.element.name()
                );
                return Err(Trouble::new(message).hint("do `width` and `planes` fit the file?"));
            }
            None if name.ends_with(COUNTER) => {}
            None => {
                let message = format!("{file} lacks the tensor `{name}` of the backbone");
                let hint =
                    "the file must have torchvision's names, such as `layer1.0.conv1.weight`";
                return Err(Trouble::new(message).hint(hint));
            }
        }
    }
    state.set_data(&values)
}
