//! What every model of the table must do, whatever it computes.
//! What one model alone promises is tested in its own file.

use super::*;
