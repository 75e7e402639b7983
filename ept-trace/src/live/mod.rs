//! Live capture: load, attach, poll, decode. Only this module knows the record ABI.

mod attachment;
mod counters;
mod decode;
mod error;
mod hooks;
mod janitor;
mod loading;
mod object;
mod privileges;
mod session;

pub use error::{CannotRun, preflight, runtime};
pub use janitor::serve as serve_janitor;
pub use object::{OBJECT, ProgramSize, program_sizes};
pub use privileges::{Ahead, drop_privileges};
pub use session::{Options, Session, clock};
