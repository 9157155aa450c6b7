//! What the engine and a stage promise each other. A stage sees its inputs, its parameters and a context;
//! it has no clock, no environment, no cache path and no standard output, so its outputs are a function of these.

pub mod artifact;
mod catalogue;
mod choice;
mod context;
mod doubt;
mod fault;
mod kind;
mod limits;
mod parameters;
mod port;
mod random;
mod table;
#[doc(hidden)]
pub mod testing;
mod trouble;

pub use catalogue::{Catalogue, Hardware, Look};
pub use choice::Choice;
pub use context::{Device, Host, NullHost, Progress, StageContext};
pub use doubt::Doubt;
pub use fault::Fault;
pub use kind::{
    Configured, FileRequest, Learning, LookUp, Numerics, Purpose, Remark, Stage, StageKind,
    Surroundings, Threads,
};
pub use limits::{KEYWORDS, schema_of};
pub use port::{Inputs, Outputs, Port, PortType};
pub use random::Random;
pub use table::{Entry, Holds, Named, Table, Tabled};
pub use trouble::{Location, Trouble, TroubleKind};
